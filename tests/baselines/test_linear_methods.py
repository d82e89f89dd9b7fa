"""Least squares, Tikhonov, SIRT and Wiener: against dense matrices, SciPy, scikit-image and ASTRA; their tuning."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import astra
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.baselines import ConvergenceWarning
from isocenter.baselines.gradient import gradient
from isocenter.baselines.least_squares import LeastSquares, LeastSquaresSolver, least_misfit
from isocenter.baselines.richardson_lucy import RichardsonLucy
from isocenter.baselines.sirt import SIRT, has_no_negative_entries
from isocenter.baselines.tikhonov import Penalty, Tikhonov, TikhonovSolver
from isocenter.baselines.tuned import TunedMethod
from isocenter.baselines.wiener import Wiener
from isocenter.benchmarks.classical_specs import SPECS
from isocenter.data.problem import Problem
from isocenter.physics import (
    Blur,
    Downsample,
    FanBeam,
    FourierSampling,
    Identity,
    Inpaint,
    LinearOperator,
    MultiCoilSampling,
    ParallelBeam,
    Radon,
    views,
)
from isocenter.physics.masks import cartesian_variable_density
from isocenter.physics.projection_matrix import astra_projections, astra_volume
from isocenter.physics.psf import gaussian_psf
from scipy.sparse.linalg import lsqr
from skimage.restoration import wiener
from torch import Tensor

MASK = cartesian_variable_density((12, 12), 2.0, 4, seed=1)
COILS = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
OPERATORS: dict[str, LinearOperator] = {
    "radon": Radon(ParallelBeam(views(8), 17), (12, 12)),
    "one view": Radon(ParallelBeam(views(1), 17), (12, 12)),
    "mri": FourierSampling(MASK),
    "complex mri": FourierSampling(MASK, complex_image=True),
    "multi-coil": MultiCoilSampling(MASK, COILS),
    "blur": Blur(torch.ones(3, 3) / 9, (12, 12)),
    "blur, mirrored": Blur(torch.ones(3, 3) / 9, (12, 12), "reflect"),
    "blur, valid": Blur(torch.ones(3, 3) / 9, (12, 12), "valid"),
    "downsample": Downsample((12, 12), 2),
    "inpaint": Inpaint(torch.arange(144).reshape(12, 12) % 3 > 0),
    "identity": Identity((1, 12, 12)),
}
SIGNED = {"mri", "complex mri", "multi-coil", "downsample"}
FILTERS = {"mri", "complex mri", "blur", "identity"}
METHODS: dict[str, TunedMethod] = {
    "least-squares": LeastSquares(6),
    "tikhonov": Tikhonov(1e-2),
    "tikhonov, gradient": Tikhonov(1e-2, "gradient"),
    "sirt": SIRT(5),
    "wiener": Wiener(0.1),
    "richardson-lucy": RichardsonLucy(5),
}
REFUSED = {("wiener", name) for name in OPERATORS if name not in FILTERS} | {("richardson-lucy", o) for o in SIGNED}


def measured(A: LinearOperator, noise: float = 0.05, count: int = 1) -> tuple[Tensor, Tensor]:
    """Smooth images and their noisy measurements, in float64."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(count, *A.domain, generator=generator, dtype=torch.float64).cumsum(-1).cumsum(-2) / 20
    y = A.A(x)
    return x, y + noise * y.abs().mean() * torch.randn(y.shape, generator=generator, dtype=y.dtype)


def dense(linear: Callable[[Tensor], Tensor], domain: tuple[int, ...]) -> np.ndarray:
    unit = torch.eye(int(np.prod(domain)), dtype=torch.float64).reshape(-1, *domain)
    return linear(unit).flatten(1).T.numpy()


def normalised(A: LinearOperator, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The matrix A / ‖A‖ and the data y / ‖A‖ of the first measurement."""
    return dense(A.A, A.domain) / A.norm, y[0].numpy().ravel() / A.norm


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_every_operator_or_says_why_not(method: str, operator: str) -> None:
    A, solver = OPERATORS[operator], METHODS[method]
    _, y = measured(A, count=2)
    if (method, operator) in REFUSED:
        with pytest.raises(ValueError, match="; take ") as error:
            solver.reconstruct(y, A)
        assert "\n" not in str(error.value)
        return
    both = solver.reconstruct(y, A)
    assert both.dtype == torch.float64
    assert both.isfinite().all()
    assert torch.allclose(solver.reconstruct(y[1:], A), both[1:], atol=1e-11)  # nothing of the rest of the batch
    assert torch.equal(solver.reconstruct(torch.zeros_like(y), A), torch.zeros_like(both))
    misfit = (A.A(both) - y).norm()
    assert misfit < 0.6 * y.norm()
    single = y.float()
    for scale in (2.0**-80, 2.0**80):  # their squares are out of the range of float32
        scaled = solver.reconstruct(single * scale, A) / scale
        assert torch.allclose(scaled, solver.reconstruct(single, A), rtol=1e-6)


def test_a_mask_of_zeros_is_refused() -> None:
    A = Inpaint(torch.zeros(8, 8))
    for method in METHODS.values():
        with pytest.raises(ValueError, match="does its mask sample anything"):
            method.reconstruct(torch.ones(1, 1, 8, 8), A)


# Least squares


@pytest.mark.parametrize("operator", OPERATORS)
def test_cgls_converges_to_the_solution_of_least_norm(operator: str) -> None:
    A = OPERATORS[operator]
    _, y = measured(A)
    matrix, data = normalised(A, y)
    expected = np.linalg.lstsq(matrix, data, rcond=1e-9)[0]
    solution = LeastSquaresSolver(A, y, 1e-12).solve(2000)
    assert float(solution.residual) <= 1e-10
    assert np.linalg.norm(solution.x.numpy().ravel() - expected) < 1e-6 * np.linalg.norm(expected)


def test_the_least_misfit_is_what_no_image_explains() -> None:
    """The same for noise as a dense least squares solution leaves, and nothing without noise, in one batch."""
    A = Radon(ParallelBeam(views(30), 17), (12, 12))
    (_, noisy), (_, clean) = measured(A, noise=0.4), measured(A, noise=0.0)
    matrix, data = normalised(A, noisy)
    left = np.linalg.norm(matrix @ np.linalg.lstsq(matrix, data, rcond=1e-9)[0] - data) / np.linalg.norm(data)
    found = least_misfit(A, torch.cat([noisy, clean, torch.zeros_like(clean)]))
    assert left > 0.1
    assert left < float(found[0]) < 1.1 * left
    assert found[1:].tolist() == [0, 0]


def test_cgls_is_the_best_of_its_krylov_space() -> None:
    A = OPERATORS["radon"]
    _, y = measured(A)
    matrix, data = normalised(A, y)
    space = [matrix.T @ data]
    for k in range(1, 7):
        basis = np.linalg.qr(np.stack(space, 1))[0]
        best = basis @ np.linalg.lstsq(matrix @ basis, data, rcond=None)[0]
        solution = LeastSquaresSolver(A, y).solve(k)
        assert np.allclose(solution.x.numpy().ravel(), best, atol=1e-9)
        gradient_norm = np.linalg.norm(matrix.T @ (data - matrix @ best)) / np.linalg.norm(matrix.T @ data)
        assert float(solution.residual) == pytest.approx(gradient_norm, rel=1e-6)
        space.append(matrix.T @ (matrix @ basis[:, -1]))


def test_cgls_stays_where_rounding_error_ends_its_progress() -> None:
    A = OPERATORS["multi-coil"]
    _, y = measured(A)
    few, many = (LeastSquaresSolver(A, y.float()).solve(n).x for n in (100, 2000))
    assert torch.equal(few, many)


@pytest.mark.parametrize("method", [LeastSquares(), SIRT(), SIRT(nonnegative=True), RichardsonLucy()])
def test_more_iterations_go_on_from_fewer(method: TunedMethod) -> None:
    A = OPERATORS["radon"]
    _, y = measured(A, count=2)
    fresh = method.estimate(y, A, {"iterations": 9})
    short = method.estimate(y, A, {"iterations": 4})
    assert torch.equal(method.estimate(y, A, {"iterations": 9}, start=short.state).x, fresh.x)
    assert torch.equal(method.estimate(y, A, {"iterations": 4}, start=fresh.state).x, short.x)


def test_an_unreached_tolerance_is_a_warning() -> None:
    A = OPERATORS["radon"]
    _, y = measured(A)
    with pytest.warns(ConvergenceWarning, match="after 3 iterations"):
        LeastSquares(3, tol=1e-9).reconstruct(y, A)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        Tikhonov(1e-4, max_iter=3).reconstruct(y, A)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LeastSquares(tol=1e-4).reconstruct(y, A)
        Tikhonov(1e-3).reconstruct(y.float(), A)


# Tikhonov


@pytest.mark.parametrize("weight", [1e-4, 1e-2, 10.0])
@pytest.mark.parametrize("operator", OPERATORS)
def test_tikhonov_equals_damped_lsqr(operator: str, weight: float) -> None:
    A = OPERATORS[operator]
    _, y = measured(A)
    matrix, data = normalised(A, y)
    expected = lsqr(matrix, data, damp=weight**0.5, atol=1e-13, btol=1e-13, iter_lim=5000)[0]
    x = TikhonovSolver(A, y, weight).solve(1e-6, 2000).x.numpy().ravel()
    assert np.linalg.norm(x - expected) < 3e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("weight", [1e-5, 1e-2, 1e3])
@pytest.mark.parametrize("penalty", ["identity", "gradient"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_tikhonov_knows_its_error(operator: str, penalty: Penalty, weight: float) -> None:
    A = OPERATORS[operator]
    _, y = measured(A)
    matrix, data = normalised(A, y)
    slopes = np.eye(matrix.shape[1]) if penalty == "identity" else dense(gradient, A.domain)
    stacked = np.vstack([matrix, weight**0.5 * slopes])
    exact = np.linalg.lstsq(stacked, np.concatenate([data, np.zeros(len(slopes))]), rcond=None)[0]
    solution = TikhonovSolver(A, y, weight, penalty).solve(1e-3, 1000)
    error = np.linalg.norm(solution.x.numpy().ravel() - exact) / np.linalg.norm(exact)
    assert float(solution.error) <= 1e-3
    assert error < 2e-3  # an estimate, which may be off by a factor of two


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("weight", [1e-5, 1e-3])
@pytest.mark.parametrize("penalty", ["identity", "gradient"])
@pytest.mark.parametrize("operator", ["blur, valid", "three views"])
def test_tikhonov_knows_its_error_where_it_converges_slowly(
    operator: str, penalty: Penalty, weight: float, dtype: torch.dtype
) -> None:
    """Plateaus that last longer than any fixed delay, and in float32 the rounding error that A does not see."""
    A: LinearOperator = Radon(ParallelBeam(views(3), 35), (24, 24))
    if operator == "blur, valid":
        A = Blur(gaussian_psf(2.0), (24, 24), "valid")
    _, y = measured(A)
    matrix, data = normalised(A, y)
    slopes = np.eye(matrix.shape[1]) if penalty == "identity" else dense(gradient, A.domain)
    exact = np.linalg.solve(matrix.T @ matrix + weight * slopes.T @ slopes, matrix.T @ data)
    solution = TikhonovSolver(A, y.to(dtype), weight, penalty).solve(1e-3, 3000)
    error = np.linalg.norm(solution.x.double().numpy().ravel() - exact) / np.linalg.norm(exact)
    # Of a membrane, single precision loses more: its slowest modes weigh less than λ.
    assert error < (2 if dtype == torch.float64 else 8) * float(solution.error)
    if dtype == torch.float64:
        assert float(solution.error) <= 1e-3


def test_gradient_penalty_without_bounds_is_the_mean_and_without_weight_is_least_squares() -> None:
    _, y = measured(OPERATORS["identity"])
    flat = TikhonovSolver(OPERATORS["identity"], y, 1e8, "gradient").solve(1e-6, 500).x
    assert torch.allclose(flat, y.mean().expand_as(y), rtol=1e-6)
    A = OPERATORS["multi-coil"]
    _, y = measured(A)
    expected = LeastSquaresSolver(A, y, 1e-10).solve(1000).x
    assert torch.allclose(TikhonovSolver(A, y, 0.0).solve(1e-8, 1000).x, expected, atol=1e-6)


def test_holes_are_filled_by_the_membrane_however_small_the_weight() -> None:
    mask = torch.ones(16, 16)
    mask[4:12, 4:12] = 0
    ramp = torch.arange(16.0, dtype=torch.float64).expand(1, 1, 16, 16)  # Δx = 0
    A = Inpaint(mask)
    filled = Tikhonov(1e-7, "gradient").reconstruct(A.A(ramp), A)
    assert torch.allclose(filled, ramp, atol=0.02)


# SIRT


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize(
    ("geometry", "kernel"),
    [(ParallelBeam(views(9), 25), "linear"), (FanBeam(views(9, 0, 2 * np.pi), 40, 2.0, 60.0, 120.0), "line")],
)
def test_sirt_equals_astra(geometry: ParallelBeam | FanBeam, kernel: str, nonnegative: bool) -> None:
    A = Radon(geometry, (16, 16), kernel=kernel)  # type: ignore[arg-type]
    _, y = measured(A, 0.3)
    volume, projections = astra_volume((16, 16), 1.0), astra_projections(geometry, range(len(geometry.angles)))
    projector = astra.create_projector(
        kernel if isinstance(geometry, ParallelBeam) else "line_fanflat", projections, volume
    )
    data = astra.data2d.create("-sino", projections, y[0, 0].numpy().astype(np.float32))
    image = astra.data2d.create("-vol", volume)
    options = {"MinConstraint": 0.0} if nonnegative else {}
    for iterations in (1, 10, 60):
        astra.data2d.store(image, 0)
        algorithm = astra.algorithm.create(
            {
                "type": "SIRT",
                "ProjectorId": projector,
                "ProjectionDataId": data,
                "ReconstructionDataId": image,
                "option": options,
            }
        )
        astra.algorithm.run(algorithm, iterations)
        expected = astra.data2d.get(image)
        x = SIRT(iterations, nonnegative).reconstruct(y, A)[0, 0].numpy()
        assert np.abs(x - expected).max() < 1e-4 * np.abs(expected).max()
        astra.algorithm.delete(algorithm)
    astra.data2d.delete([data, image])
    astra.projector.delete(projector)


@pytest.mark.parametrize("operator", OPERATORS)
def test_sirt_is_its_definition(operator: str) -> None:
    A = OPERATORS[operator]
    _, y = measured(A)
    matrix, data = normalised(A, y)
    assert has_no_negative_entries(A) is (operator not in SIGNED)
    rows, columns = matrix.sum(1), matrix.sum(0)
    if operator in SIGNED:
        rows, columns = np.ones(len(matrix)), np.ones(matrix.shape[1])
    R, C = (np.where(s > 1e-12, 1 / np.maximum(s, 1e-12), 0) for s in (rows, columns))
    x = np.zeros(matrix.shape[1])
    for _ in range(7):
        x = x + C * (matrix.T @ (R * (data - matrix @ x)))
    assert np.allclose(SIRT(7).reconstruct(y, A).numpy().ravel(), x, atol=1e-6 * np.abs(x).max())


def test_sirt_refuses_nonnegative_complex_images() -> None:
    A = OPERATORS["complex mri"]
    with pytest.raises(ValueError, match="complex"):
        SIRT(3, nonnegative=True).reconstruct(measured(A)[1], A)


# Wiener


@given(st.floats(1e-3, 10), st.sampled_from([0.0, 1.0, 2.0, 3.0]), st.integers(9, 14), st.integers(9, 14))
@settings(max_examples=20, deadline=None)
def test_wiener_equals_scikit_image(noise: float, exponent: float, height: int, width: int) -> None:
    psf = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(height))
    psf = psf / psf.sum()
    A = Blur(psf, (height, width))
    _, y = measured(A)
    k = 2 * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    prior = (k ** (exponent / 2)).astype(complex)  # scikit-image takes a transform where it is complex
    expected = wiener(y[0, 0].numpy(), psf.numpy(), noise, reg=prior, clip=False)
    assert np.allclose(Wiener(noise, exponent).reconstruct(y, A)[0, 0].numpy(), expected, atol=1e-7)


def test_wiener_is_best_at_the_true_ratio() -> None:
    n, ratio = 32, 0.5
    k = 2 * torch.hypot(torch.fft.fftfreq(n)[:, None], torch.fft.fftfreq(n))
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(200, 1, n, n, generator=generator)
    x = torch.fft.ifft2(torch.fft.fft2(white) / k.clamp_min(1 / n)).real  # power 1/k², 1 at the Nyquist frequency
    A = Blur(torch.tensor([[1.0, 2.0, 1.0]]) / 4, (n, n))
    y = A.A(x) + ratio**0.5 * torch.randn(x.shape, generator=generator)

    def error(noise_to_signal: float, exponent: float = 2.0) -> float:
        return float((Wiener(noise_to_signal, exponent).reconstruct(y, A) - x).square().mean())

    assert error(ratio) < min(error(ratio / 1.5), error(ratio * 1.5), error(ratio, 1.0), error(ratio, 3.0))


@pytest.mark.parametrize("operator", ["mri", "complex mri"])
def test_wiener_does_not_amplify_rounding_error_where_nothing_is_measured(operator: str) -> None:
    A = OPERATORS[operator]
    _, y = measured(A, 0.0)
    exact, single = (Wiener(1e-6).reconstruct(data, A).double() for data in (y, y.float()))
    assert (single - exact).norm() < 1e-5 * exact.norm()
    assert torch.allclose(exact, A.A_adjoint(y / A.norm**2) if operator == "complex mri" else exact, atol=1e-4)


# Tuning and YAML


class Noisy(Problem):
    """Sinograms of squares with much noise."""

    def __init__(self) -> None:
        self.physics, self.data_range = Radon(ParallelBeam(views(16), 23), (16, 16)), 1.0
        self.ids = self.patients = ("a", "b")

    def truth(self, i: int) -> Tensor:
        x = torch.zeros(1, 16, 16)
        x[:, 4 : 9 + i, 5:12] = 1.0
        return x

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        y = self.physics.A(self.truth(i)[None])[0]
        return y + 0.7 * torch.randn(y.shape, generator=torch.Generator().manual_seed(i))


@pytest.mark.parametrize("method", [LeastSquares(), SIRT(), SIRT(nonnegative=True), RichardsonLucy(), Tikhonov()])
def test_noise_has_a_best_value_that_fit_finds(method: TunedMethod) -> None:
    problem = Noisy()
    x, y = problem.batch(range(2))
    fit = method.fit(problem, problem)
    (name,) = fit.chosen
    best = fit.chosen[name]
    (parameter,) = method.searched

    def error(value: float) -> float:
        return float((method.estimate(y, problem.physics, {name: value}).x - x).square().mean())

    assert not fit.warnings
    assert error(best) < min(error(round(best / 2) if parameter.integer else best / 2), error(best * 3))
    assert (best == round(best)) is parameter.integer


def test_kinds_of_yaml_build_their_methods() -> None:
    kinds = {spec.model_fields["kind"].annotation.__args__[0]: spec for spec in SPECS}  # type: ignore[union-attr]
    given = {
        "least-squares": ({"iterations": 5}, LeastSquares),
        "tikhonov": ({"regularisation": 0.1, "penalty": "gradient"}, Tikhonov),
        "sirt": ({"iterations": 5, "nonnegative": True}, SIRT),
        "wiener": ({"noise_to_signal": 0.1, "exponent": 0}, Wiener),
        "richardson-lucy": ({"iterations": 5}, RichardsonLucy),
    }
    for kind, (options, method) in given.items():
        free, fixed = kinds[kind].model_validate({"kind": kind}), kinds[kind].model_validate({"kind": kind, **options})
        assert (free.needs(), fixed.needs()) == (("validation",), ())
        assert type(fixed.build(0)) is type(free.build(0)) is method
        assert (free.build(0).parameters, fixed.build(0).parameters) == (1, 0)
    assert kinds["least-squares"].model_validate({"kind": "least-squares", "tol": 1e-3}).needs() == ()


def test_reweighted_total_variation_is_tuned_in_two_numbers_or_in_one() -> None:
    (spec,) = (spec for spec in SPECS if spec.model_fields["kind"].annotation.__args__ == ("reweighted-tv",))  # type: ignore[union-attr]
    for options, count in (
        ({}, 2),
        ({"epsilon": 0.01}, 1),
        ({"edge": 0.1}, 1),
        ({"edge": 0.1, "regularisation": 1}, 0),
    ):
        read = spec.model_validate({"kind": "reweighted-tv", **options})
        assert read.build(0).parameters == count
        assert read.needs() == (("validation",) if count else ())
    for wrong in ({"regularisation": 1}, {"likelihood": "poisson"}):
        with pytest.raises(ValueError, match=f"with epsilon the data are a constraint, and {next(iter(wrong))} has no"):
            spec.model_validate({"kind": "reweighted-tv", "epsilon": 0, **wrong})
