"""Optima of every convex model against an independent solver (CVXPY with Clarabel), and the certificate on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import pywt
import torch
from isocenter.baselines import (
    ConstrainedTotalVariation,
    Options,
    PriorImage,
    ReweightedTotalVariation,
    TotalGeneralisedVariation,
    TotalVariation,
    TotalVariationWavelet,
    Wavelet,
)
from isocenter.baselines.admm import ADMM
from isocenter.baselines.data_terms import MeasurementBall, TransmissionLikelihood
from isocenter.baselines.first_order import FISTA, PrimalDual
from isocenter.baselines.generalised_variation import CurvatureTerm, SlopeTerm
from isocenter.baselines.gradient import gradient, joint_length
from isocenter.baselines.iteration import solve
from isocenter.baselines.least_squares import least_misfit
from isocenter.baselines.method import Method
from isocenter.baselines.objective import Objective
from isocenter.baselines.prior_image import Anchored
from isocenter.baselines.reweighted import WeightedTotalVariationTerm
from isocenter.baselines.terms import Bounds, Term, TotalVariationTerm
from isocenter.baselines.tuned import TunedMethod
from isocenter.baselines.wavelet_terms import WaveletTerm
from isocenter.baselines.wavelets import dwt2
from isocenter.physics import (
    Blur,
    FourierSampling,
    LinearOperator,
    MultiCoilSampling,
    ParallelBeam,
    Radon,
    views,
)
from isocenter.physics.masks import cartesian_variable_density
from numpy.typing import NDArray
from torch import Tensor

cp = pytest.importorskip("cvxpy", reason="cvxpy is part of the test extra")
pytestmark = pytest.mark.filterwarnings("ignore:Level value", "ignore:Solution may be inaccurate")

Expression = Any  # CVXPY states no types


# The models again, from dense matrices and PyWavelets: nothing of isocenter but the operator that is given.


def gradients(h: int, w: int) -> tuple[NDArray, NDArray]:
    """Forward differences along rows and columns, zero in the last."""
    along = [np.vstack([np.diff(np.eye(n), axis=0), np.zeros(n)]) for n in (h, w)]
    return np.kron(along[0], np.eye(w)), np.kron(np.eye(h), along[1])


def lengths(parts: Sequence[Expression]) -> Expression:
    """Σ over pixels of the Euclidean length over parts."""
    return cp.sum(cp.norm(cp.vstack(parts), 2, axis=0))


def tv(x: list[Expression], size: tuple[int, int], isotropic: bool = True) -> Expression:
    parts = [[D @ channel for channel in x] for D in gradients(*size)]
    return lengths(parts[0] + parts[1]) if isotropic else lengths(parts[0]) + lengths(parts[1])


def tgv(x: list[Expression], size: tuple[int, int], ratio: float) -> Expression:
    """min over v of Σ |∇x − v| + ratio Σ |E v|, v of no account where ∇x has no difference."""
    h, w = size
    rows, columns = gradients(h, w)
    before = [np.vstack([np.zeros(n), np.diff(np.eye(n), axis=0)]) for n in size]
    Er, Ec = np.kron(before[0], np.eye(w)), np.kron(np.eye(h), before[1])
    slopes, bends = [], []
    for channel in x:
        vr, vc = cp.Variable(h * w), cp.Variable(h * w)
        inner_r, inner_c = (np.abs(D).sum(1) > 0 for D in (rows, columns))
        slopes += [rows @ channel - cp.multiply(inner_r, vr), columns @ channel - cp.multiply(inner_c, vc)]
        mixed = (Ec @ vr + Er @ vc) / 2
        bends += [Er @ vr, Ec @ vc, mixed, mixed]
    return lengths(slopes) + ratio * lengths(bends)


@cache
def details(size: tuple[int, int], family: str, levels: int, invariant: bool) -> NDArray:
    """All wavelet coefficients but the coarsest approximation, as a matrix of the image."""
    units = np.eye(math.prod(size)).reshape(-1, *size)
    if invariant:
        columns = []
        for unit in units:
            _, *bands = pywt.swt2(unit, family, levels, norm=True, trim_approx=True)
            shares = (0.5 ** (levels - i) for i in range(levels))
            columns.append(
                np.concatenate([s * np.ravel(b) for s, level in zip(shares, bands, strict=True) for b in level])
            )
        return np.stack(columns, 1)
    if any(n % 2**levels for n in size):  # PyWavelets has no orthonormal transform of such sizes
        whole = dwt2(torch.from_numpy(units)[:, None], family, levels)[:, 0].numpy()
    else:
        nested = (pywt.wavedec2(unit, family, mode="periodization", level=levels) for unit in units)
        whole = np.stack([pywt.coeffs_to_array(c)[0] for c in nested])
    coarse = [-(-n // 2**levels) for n in size]
    kept = np.ones(size, dtype=bool)
    kept[: coarse[0], : coarse[1]] = False
    return whole[:, kept].T


def wavelets(x: list[Expression], size: tuple[int, int], family: str, levels: int, invariant: bool) -> Expression:
    W = details(size, family, levels, invariant)
    return lengths([W @ channel for channel in x])


Penalty = Callable[[list[Any], tuple[int, int]], Any]


@dataclass(frozen=True)
class Case:
    """A model on an operator: ours as terms and as method, and the same again for CVXPY."""

    A: LinearOperator
    penalty: Penalty
    terms: Callable[[LinearOperator, Tensor], list[Term]]
    method: Callable[[Options], TunedMethod]
    low: float | None = None
    high: float | None = None
    epsilon: float | None = None
    poisson: bool = False
    noise: float = 0.03
    others: tuple[str, ...] = ()  # algorithms beside ADMM; they are slow for some
    slack: float = 1.0  # of their tolerance

    @property
    def least_squares(self) -> bool:
        return self.epsilon is None and not self.poisson

    def data(self) -> Tensor:
        y = self.A.A(scene(self.A.domain) * (0.2 if self.poisson else 1.0))
        noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
        y = y + self.noise * y.abs().mean() * noise
        return y if self.A.support is None else y * self.A.support

    def objective(self, y: Tensor) -> Objective:
        terms = self.terms(self.A, y)
        if self.low is not None or self.high is not None:
            terms.append(Bounds(self.low, self.high))
        if self.poisson:
            terms.append(TransmissionLikelihood(self.A, y))
        return Objective(self.A, y, terms, least_squares=self.least_squares)


def scene(domain: tuple[int, ...]) -> Tensor:
    """Blocks; the imaginary part, where there is one, has others."""
    _, h, w = domain
    x = torch.zeros(1, 1, h, w, dtype=torch.float64)
    x[..., h // 4 : -(h // 4), w // 3 :] = 1.0
    x[..., h // 2 :, : w // 2] += 0.5
    return torch.cat([x, 0.7 * x.flip(-1)], 1)[:, : domain[0]]


class Optimum(NamedTuple):
    value: float
    image: NDArray


def dense(A: LinearOperator) -> NDArray:
    units = torch.eye(math.prod(A.domain), dtype=torch.float64).reshape(-1, *A.domain)
    return A.A(units).flatten(1).T.numpy() / A.norm


def fit(case: Case, y: Tensor, x: Expression) -> tuple[Expression, list[Any]]:
    """What the data add to the objective and to the constraints."""
    M, d = dense(case.A), y.numpy().ravel() / case.A.norm
    if case.poisson:
        off, counts = case.A.norm * (M @ x - d), np.exp(-y.numpy().ravel())
        return counts @ (cp.exp(-off) + off - 1) / case.A.norm**2, []
    if case.epsilon is None:
        return cp.sum_squares(M @ x - d) / 2, []
    if case.epsilon > 0:
        return 0.0, [cp.norm(M @ x - d) <= case.epsilon * np.linalg.norm(d)]
    u, s, vt = np.linalg.svd(M, full_matrices=False)
    rank = int((s > 1e-9 * s[0]).sum())  # without the equations that say nothing new
    return 0.0, [(s[:rank, None] * vt[:rank]) @ x == u[:, :rank].T @ d]


def optimum(case: Case, y: Tensor) -> Optimum:
    channels, *size = case.A.domain
    x = cp.Variable(math.prod(case.A.domain))
    parts = [x[i * math.prod(size) : (i + 1) * math.prod(size)] for i in range(channels)]
    data, constraints = fit(case, y, x)
    bounds = [x >= case.low] * (case.low is not None) + [x <= case.high] * (case.high is not None)
    problem = cp.Problem(cp.Minimize(case.penalty(parts, (size[0], size[1])) + data), constraints + bounds)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return Optimum(float(problem.value), np.asarray(x.value))


def ct(h: int, w: int, count: int = 6) -> LinearOperator:
    return Radon(ParallelBeam(views(count), max(h, w) + 5), (h, w))


def mask(h: int, w: int) -> Tensor:
    return cartesian_variable_density((h, w), 2.0, 4 if w > 6 else 2, seed=1)


def mri(h: int, w: int) -> LinearOperator:
    return FourierSampling(mask(h, w), complex_image=True)


def sense(h: int, w: int) -> LinearOperator:
    r, c = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    places = ((-1, -1), (1, -1), (0, 1))
    real = [torch.exp(-((r - a) ** 2) - (c - b) ** 2) for a, b in places]
    imaginary = [0.3 * torch.sin(r * b + c * a) for a, b in places]
    return MultiCoilSampling(mask(h, w), torch.stack([torch.stack(real), torch.stack(imaginary)]))


def tv_case(A: LinearOperator, weight: float, isotropic: bool = True, **options: Any) -> Case:
    return Case(
        A,
        lambda x, size: weight * tv(x, size, isotropic),
        lambda A, y: [TotalVariationTerm(weight, isotropic)],
        lambda o: TotalVariation(weight, isotropic, o),
        **options,
    )


def constrained_case(A: LinearOperator, epsilon: float, isotropic: bool = True, **options: Any) -> Case:
    return Case(
        A,
        lambda x, size: tv(x, size, isotropic),
        lambda A, y: [TotalVariationTerm(1.0, isotropic), MeasurementBall(A, y, epsilon)],
        lambda o: ConstrainedTotalVariation(epsilon, isotropic, o),
        epsilon=epsilon,
        **options,
    )


def tgv_case(A: LinearOperator, weight: float, ratio: float, **options: Any) -> Case:
    return Case(
        A,
        lambda x, size: weight * tgv(x, size, ratio),
        lambda A, y: [SlopeTerm(weight), CurvatureTerm(ratio * weight)],
        lambda o: TotalGeneralisedVariation(weight, ratio, o),
        **options,
    )


def wavelet_case(A: LinearOperator, weight: float, family: str, levels: int, invariant: bool, **options: Any) -> Case:
    return Case(
        A,
        lambda x, size: weight * wavelets(x, size, family, levels, invariant),
        lambda A, y: [WaveletTerm(weight, family, levels, invariant)],
        lambda o: Wavelet(weight, family, levels, invariant, o),
        **options,
    )


def both_case(A: LinearOperator, weight: float, mu: float, family: str, levels: int, **options: Any) -> Case:
    return Case(
        A,
        lambda x, size: weight * tv(x, size) + mu * wavelets(x, size, family, levels, False),
        lambda A, y: [TotalVariationTerm(weight), WaveletTerm(mu, family, levels)],
        lambda o: TotalVariationWavelet(weight, mu, family, levels, options=o),
        **options,
    )


def prior(domain: tuple[int, ...]) -> Tensor:
    """Edges of the scene, some missing and some of its own."""
    return 0.8 * scene(domain) + 0.3 * scene(domain).flip(-1)


class Known(Method):
    """The prior image, whatever is measured."""

    group = "direct"

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        return prior(physics.domain).to(y)


def prior_case(A: LinearOperator, weight: float, sparsity: float, epsilon: float | None = None, **options: Any) -> Case:
    def penalty(x: list[Expression], size: tuple[int, int]) -> Expression:
        a = prior(A.domain)[0].flatten(1).numpy()
        return weight * tv([channel - known for channel, known in zip(x, a, strict=True)], size) + (
            weight * sparsity * tv(x, size)
        )

    def terms(A: LinearOperator, y: Tensor) -> list[Term]:
        found: list[Term] = [
            Anchored(TotalVariationTerm(weight), prior(A.domain)),
            TotalVariationTerm(weight * sparsity),
        ]
        return found if epsilon is None else [*found, MeasurementBall(A, y, epsilon)]

    return Case(
        A,
        penalty,
        terms,
        lambda o: PriorImage(Known(), weight, sparsity, epsilon, o),
        epsilon=epsilon,
        **options,
    )


def weighted_case(A: LinearOperator, weight: float, edge: float, epsilon: float | None = None, **options: Any) -> Case:
    jumps = joint_length(gradient(prior(A.domain)))
    profile = edge / (edge + jumps)

    def penalty(x: list[Expression], size: tuple[int, int]) -> Expression:
        w = profile.numpy().ravel()
        return weight * lengths([cp.multiply(w, D @ channel) for D in gradients(*size) for channel in x])

    def terms(A: LinearOperator, y: Tensor) -> list[Term]:
        found: list[Term] = [WeightedTotalVariationTerm(weight, profile)]
        return found if epsilon is None else [*found, MeasurementBall(A, y, epsilon)]

    def method(o: Options) -> TunedMethod:
        return ReweightedTotalVariation(Known(), weight, edge, epsilon, rounds=1, options=o)

    return Case(A, penalty, terms, method, epsilon=epsilon, **options)


BOTH = ("pdhg", "condat-vu")
CASES: dict[str, Case] = {
    "tv": tv_case(ct(8, 8), 3e-3, others=BOTH),
    "tv, anisotropic": tv_case(ct(7, 9), 3e-3, False),
    "tv ≥ 0": tv_case(ct(6, 7), 3e-3, low=0.0, noise=0.2, others=BOTH),
    "tv in a box": tv_case(ct(8, 6), 3e-3, low=0.0, high=1.0, noise=0.2, others=BOTH),
    "tv ≤ 1": tv_case(ct(6, 6), 3e-3, high=1.0, noise=0.2),
    "tv, anisotropic, ≥ 0, blur": tv_case(Blur(torch.ones(3, 3) / 9, (7, 8)), 3e-3, False, low=0.0, noise=0.2),
    "tv, complex": tv_case(mri(7, 9), 3e-2, others=("condat-vu",)),
    "tv, anisotropic, complex": tv_case(mri(7, 8), 3e-2, False, others=("condat-vu",)),
    "tv, coils": tv_case(sense(7, 9), 3e-2, others=BOTH),
    "tv, poisson": tv_case(ct(6, 7), 3e-3, poisson=True, noise=0.1, others=("pdhg",)),
    "tv ≥ 0, poisson": tv_case(ct(7, 6), 3e-3, poisson=True, noise=0.1, low=0.0, others=("pdhg",)),
    "constrained": constrained_case(ct(8, 8), 0.05, others=("pdhg",)),
    "constrained, anisotropic": constrained_case(ct(6, 7), 0.05, False),
    "constrained, ε = 0": constrained_case(ct(8, 8, 4), 0.0, noise=0.0, others=("pdhg",)),
    "constrained, in a box": constrained_case(ct(7, 7), 0.1, low=0.0, high=1.2, noise=0.1),
    "constrained, complex": constrained_case(mri(8, 8), 0.1, noise=0.1, others=("pdhg",)),
    "constrained, coils, ε = 0": constrained_case(sense(6, 7), 0.0, noise=0.0),
    "tgv": tgv_case(ct(6, 6), 3e-3, 2.0),
    "tgv ≥ 0": tgv_case(ct(6, 7), 3e-3, 2.0, low=0.0, noise=0.2),
    "tgv, complex": tgv_case(mri(6, 7), 3e-2, 1.5),
    "tgv, coils": tgv_case(sense(7, 6), 3e-2, 2.0, others=("condat-vu",), slack=10.0),
    "wavelet": wavelet_case(ct(8, 8), 3e-3, "db2", 1, False, others=("fista",)),
    "wavelet, odd": wavelet_case(ct(7, 9), 3e-3, "haar", 2, False),
    "wavelet ≥ 0": wavelet_case(ct(8, 8), 3e-3, "db2", 1, False, low=0.0, noise=0.2),
    "wavelet, complex": wavelet_case(mri(8, 8), 3e-2, "db2", 2, False, others=(*BOTH, "fista")),
    "wavelet, coils": wavelet_case(sense(8, 8), 3e-2, "haar", 2, False, others=(*BOTH, "fista")),
    "wavelet, invariant": wavelet_case(ct(8, 8), 3e-3, "haar", 2, True),
    "wavelet, invariant, complex": wavelet_case(mri(8, 8), 3e-2, "db2", 1, True, others=("pdhg",)),
    "wavelet, invariant, coils": wavelet_case(sense(8, 8), 3e-2, "db2", 1, True, others=BOTH),
    "tv + wavelet": both_case(ct(8, 8), 3e-3, 1e-3, "db2", 1),
    "tv + wavelet, complex": both_case(mri(8, 8), 3e-2, 1e-2, "db2", 1),
    "prior image": prior_case(ct(8, 8), 3e-3, 0.5, others=BOTH, slack=3.0),
    "prior image, complex": prior_case(mri(7, 9), 3e-2, 2.0, others=("condat-vu",)),
    "prior image, coils": prior_case(sense(7, 9), 3e-2, 0.1),
    "prior image, constrained": prior_case(ct(8, 8), 1.0, 0.5, 0.05),
    "prior image, ε = 0": prior_case(ct(8, 8, 4), 1.0, 2.0, 0.0, noise=0.0),
    "weighted tv": weighted_case(ct(8, 8), 3e-3, 0.1, others=BOTH),
    "weighted tv, complex": weighted_case(mri(7, 9), 3e-2, 0.3),
    "weighted tv, constrained": weighted_case(ct(8, 8), 1.0, 0.1, 0.05),
    "weighted tv, ε = 0": weighted_case(ct(8, 8, 4), 1.0, 0.1, 0.0, noise=0.0),
    "tv + wavelet, coils": both_case(sense(8, 8), 3e-2, 1e-2, "haar", 2, others=BOTH),
}

TOLERANCE = {"admm": 3e-6, "pdhg": 1e-3, "condat-vu": 1e-3, "fista": 1e-5}


def solver(algorithm: str, objective: Objective) -> Any:
    if algorithm == "admm":
        return ADMM(objective)
    return FISTA(objective) if algorithm == "fista" else PrimalDual(objective, explicit=algorithm == "condat-vu")


@pytest.mark.parametrize("name", CASES)
def test_the_optimum_is_cvxpys_and_is_certified_on_the_way(name: str) -> None:
    case = CASES[name]
    y = case.data()
    best = optimum(case, y)
    objective = case.objective(y)
    known = torch.from_numpy(best.image).reshape(1, *case.A.domain)
    if objective.groups == 1:  # elsewhere the value asks for the best helpers, too
        assert float(objective.value(known)) == pytest.approx(best.value, rel=1e-6)
    for algorithm in ("admm", *case.others):
        tol = TOLERANCE[algorithm] * (1.0 if algorithm == "admm" else case.slack)
        for count, progress in enumerate(solver(algorithm, objective).iterate()):
            above = float(1 - best.value / objective.value(progress.x))
            certified = float(progress.gap)
            assert above <= certified + 1e-8, f"{algorithm} is {above:.1e} off and certifies {certified:.1e}"
            if certified <= tol:
                break
            assert count < 800, f"{algorithm} stays at {certified:.1e}"
        assert abs(above) <= tol
        image = objective.image(progress.x)
        if algorithm == "admm":
            assert above <= 1e-5
            assert np.abs(image.numpy().ravel() - best.image).max() < 1e-3 * np.abs(best.image).max()
        if case.epsilon is not None:
            assert float((case.A.A(image) - y).norm() / y.norm()) <= case.epsilon + tol


@pytest.mark.parametrize("name", CASES)
def test_the_method_is_that_model(name: str) -> None:
    """What users call solves the terms that the test above compares."""
    case = CASES[name]
    y = case.data()
    options = Options(case.low, case.high, "poisson" if case.poisson else "gaussian")
    image = case.method(options).reconstruct(y, case.A)
    objective = case.objective(y)
    for term in objective.terms:
        if isinstance(term, MeasurementBall):
            term.radius = (term.radius.square() + (least_misfit(case.A, y) * term.y.norm()).square()).sqrt()
    expected = objective.image(solve(ADMM(objective), options.tol, options.max_iter).x)
    bounds = (-math.inf if case.low is None else case.low, math.inf if case.high is None else case.high)
    assert torch.allclose(image, expected.clamp(*bounds), atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_solvers_go_on_from_where_they_were_left(name: str) -> None:
    case = CASES[name]
    y = case.data()
    for algorithm in ("admm", *case.others):
        cold = next(solver(algorithm, case.objective(y)).iterate())
        left = solve(solver(algorithm, case.objective(y)), 10 * TOLERANCE[algorithm] * case.slack, 10_000).state
        warm = next(solver(algorithm, case.objective(y)).iterate(left))
        assert float(warm.gap) < 0.5 * float(cold.gap)


def test_algorithms_refuse_models_that_they_cannot_solve() -> None:
    case = CASES["constrained"]
    with pytest.raises(ValueError, match="condat-vu needs least squares"):
        case.method(Options(algorithm="condat-vu")).reconstruct(case.data(), case.A)
    for name in ("tv", "wavelet, invariant", "tv + wavelet", "constrained"):
        case = CASES[name]
        with pytest.raises(ValueError, match="fista needs least squares and one orthonormal transform"):
            case.method(Options(algorithm="fista")).reconstruct(case.data(), case.A)
    case = CASES["tv, complex"]
    with pytest.raises(ValueError, match="bounds on a complex image"):
        case.method(Options(low=0.0)).reconstruct(case.data(), case.A)
