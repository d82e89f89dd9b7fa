"""Every convex model against CVXPY, with every algorithm; the certificate bounds the distance to that optimum."""

from __future__ import annotations

from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import torch
from isocenter.baselines.admm import ADMM
from isocenter.baselines.data_terms import MeasurementBall, TransmissionLikelihood
from isocenter.baselines.first_order import FISTA, PrimalDual
from isocenter.baselines.generalised_variation import CurvatureTerm, SlopeTerm
from isocenter.baselines.iteration import solve
from isocenter.baselines.objective import Objective
from isocenter.baselines.terms import Bounds, Term, TotalVariationTerm
from isocenter.baselines.wavelet_terms import WaveletTerm
from isocenter.physics import Blur, FourierSampling, LinearOperator, MultiCoilSampling, ParallelBeam, Radon, views
from isocenter.physics.coil_maps import simulated_coil_maps
from isocenter.physics.masks import cartesian_variable_density
from torch import Tensor

SIZE = (6, 7)
MASK = cartesian_variable_density(SIZE, 2.0, 3, seed=1)
OPERATORS: dict[str, LinearOperator] = {
    "radon": Radon(ParallelBeam(views(5), 11), SIZE),
    "blur": Blur(torch.ones(3, 3) / 9, SIZE, "reflect"),
    "k-space": FourierSampling(MASK, complex_image=True),
    "coils": MultiCoilSampling(MASK, simulated_coil_maps(SIZE, 3, seed=0)),
}
WEIGHT = 0.02


def dense(linear: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> np.ndarray:
    unit = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return linear(unit).flatten(1).T.numpy()


def measured(A: LinearOperator) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(1, *A.domain, generator=generator, dtype=torch.float64)
    x[..., 2:4, 2:5] += 1
    y = A.A(x)
    return y + 0.05 * y.abs().mean() * A.A(torch.randn(x.shape, generator=generator, dtype=torch.float64)) / A.norm


def lengths(K: np.ndarray, u: cp.Variable, shape: torch.Size, over: tuple[int, ...], each: Tensor) -> cp.Expression:
    """Σ weights · lengths of K u over the named axes of its coefficients (without the batch)."""
    order = np.arange(K.shape[0]).reshape(shape)
    groups = np.moveaxis(order, over, range(len(over))).reshape(int(np.prod([shape[a] for a in over])), -1)
    c = K @ u
    stacked = cp.vstack([c[row] for row in groups])
    return each.numpy().ravel() @ cp.norm(stacked, axis=0)


def penalty(term: Term, u: cp.Variable, domain: tuple[int, ...]) -> tuple[cp.Expression, list[cp.Constraint]]:
    """A term as CVXPY says it, written again from its definition."""
    if isinstance(term, Bounds):
        bounds = [] if term.low is None else [u >= term.low]
        return cp.Constant(0), bounds + ([] if term.high is None else [u <= term.high])
    K = dense(term.analysis, domain)
    shape = term.analysis(torch.zeros(1, *domain, dtype=torch.float64)).shape[1:]
    if isinstance(term, MeasurementBall):
        return cp.Constant(0), [cp.norm(K @ u - term.y.numpy().ravel()) <= float(term.radius)]
    if isinstance(term, TransmissionLikelihood):
        d = (K @ u - term.y.numpy().ravel()) * term.A.scale
        return term.counts.numpy().ravel() @ (cp.exp(-d) + d - 1) / term.A.scale**2, []
    if isinstance(term, WaveletTerm):
        each = term.weight * term._shares(torch.zeros(1, *shape, dtype=torch.float64)).expand(shape[1:])
        return lengths(K, u, shape, (0,), each), []
    over = (0, 1) if not isinstance(term, TotalVariationTerm) or term.isotropic else (1,)
    rest = [n for axis, n in enumerate(shape) if axis not in over]
    return lengths(K, u, shape, over, torch.full(rest, term.weight, dtype=torch.float64)), []  # type: ignore[attr-defined]


def optimum(A: LinearOperator, y: Tensor, terms: list[Term], least_squares: bool) -> float:
    groups = max(term.groups for term in terms)
    domain = (groups * A.domain[0], *A.domain[1:])
    u = cp.Variable(int(np.prod(domain)))
    value, constraints = cp.Constant(0), []
    if least_squares:
        matrix = dense(lambda x: A.A(x[:, : A.domain[0]]), domain) / A.norm
        value = value + cp.sum_squares(matrix @ u - y.numpy().ravel() / A.norm) / 2
    image = u[: int(np.prod(A.domain))] if groups > 1 else u
    for term in terms:
        part, more = penalty(term, u if term.groups == groups else image, domain if term.groups == groups else A.domain)
        value, constraints = value + part, constraints + more
    problem = cp.Problem(cp.Minimize(value), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_rel=1e-9, tol_gap_abs=1e-9, tol_feas=1e-9)
    return float(problem.value)


MODELS: dict[str, tuple[str, Callable[[LinearOperator, Tensor], list[Term]], bool]] = {
    "tv": ("radon", lambda A, y: [TotalVariationTerm(WEIGHT)], True),
    "tv, anisotropic": ("radon", lambda A, y: [TotalVariationTerm(WEIGHT, isotropic=False)], True),
    "tv, non-negative": ("radon", lambda A, y: [TotalVariationTerm(WEIGHT), Bounds(0.6)], True),
    "tv, box": ("blur", lambda A, y: [TotalVariationTerm(WEIGHT), Bounds(0.4, 1.1)], True),
    "tv, complex": ("k-space", lambda A, y: [TotalVariationTerm(WEIGHT)], True),
    "tv, coils": ("coils", lambda A, y: [TotalVariationTerm(WEIGHT)], True),
    "tgv": ("blur", lambda A, y: [SlopeTerm(WEIGHT), CurvatureTerm(2 * WEIGHT)], True),
    "tgv, box": ("radon", lambda A, y: [SlopeTerm(WEIGHT), CurvatureTerm(WEIGHT), Bounds(0.5, 1.5)], True),
    "wavelet": ("coils", lambda A, y: [WaveletTerm(WEIGHT, "db2")], True),
    "wavelet, invariant": ("radon", lambda A, y: [WaveletTerm(WEIGHT, "haar", 1, translation_invariant=True)], True),
    "tv and wavelet": ("coils", lambda A, y: [TotalVariationTerm(WEIGHT), WaveletTerm(WEIGHT, "haar", 1)], True),
    "constrained": ("radon", lambda A, y: [TotalVariationTerm(1.0), MeasurementBall(A, y, 0.1)], False),
    "constrained, coils": ("coils", lambda A, y: [TotalVariationTerm(1.0), MeasurementBall(A, y, 0.05)], False),
    "constrained, box": (
        "blur",
        lambda A, y: [TotalVariationTerm(1.0), MeasurementBall(A, y, 0.15), Bounds(0.2, 1.6)],
        False,
    ),
    "poisson": (
        "radon",
        lambda A, y: [TotalVariationTerm(3e-3), Bounds(0.0), TransmissionLikelihood(A, y / 4)],
        False,
    ),
}
ALGORITHMS = {"admm": ADMM, "pdhg": PrimalDual, "condat-vu": lambda o: PrimalDual(o, explicit=True), "fista": FISTA}


@pytest.mark.parametrize("name", MODELS)
def test_optima_equal_those_of_an_independent_solver(name: str) -> None:
    operator, make, least_squares = MODELS[name]
    A = OPERATORS[operator]
    y = measured(A)
    terms = make(A, y)
    best = optimum(A, y, terms, least_squares)
    objective = Objective(A, y, terms, least_squares)
    solution = solve(ADMM(objective), 1e-7, 4000)
    value = float(objective.value(solution.x))
    assert value == pytest.approx(best, rel=1e-5)
    assert float(solution.gap) < 1e-4
    if least_squares and not any(isinstance(term, Bounds) for term in terms):
        for progress, _ in zip(ADMM(objective).iterate(), range(12), strict=False):
            here = float(objective.value(progress.x))
            assert float(progress.gap) >= (here - best) / here - 1e-7  # a bound on the way, too


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("pdhg", "tv"),
        ("pdhg", "constrained"),
        ("pdhg", "wavelet"),
        ("condat-vu", "tv"),
        ("condat-vu", "tv, box"),
        ("condat-vu", "tv and wavelet"),
        ("fista", "wavelet"),
    ],
)
def test_other_algorithms_reach_the_same_optimum(algorithm: str, name: str) -> None:
    operator, make, least_squares = MODELS[name]
    A = OPERATORS[operator]
    y = measured(A)
    exact = Objective(A, y, make(A, y), least_squares)
    best = float(exact.value(solve(ADMM(exact), 1e-7, 4000).x))
    solution = solve(ALGORITHMS[algorithm](Objective(A, y, make(A, y), least_squares)), 1e-4, 6000)
    assert float(exact.value(solution.x)) == pytest.approx(best, rel=1e-3)
