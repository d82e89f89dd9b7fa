"""Total variation: its optimum against closed forms and scikit-image, its certificate, and its tuning."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from isocenter.baselines import ConstrainedTotalVariation, ConvergenceWarning, TotalVariation, Tuning
from isocenter.baselines.admm import ADMM
from isocenter.baselines.convex import Options
from isocenter.baselines.gradient import gradient, gradient_adjoint, project_to_ball, total_variation
from isocenter.baselines.iteration import Solution, solve
from isocenter.baselines.objective import Objective
from isocenter.baselines.terms import TotalVariationTerm
from isocenter.data.problem import Problem
from isocenter.physics import (
    Blur,
    Downsample,
    FourierSampling,
    Identity,
    Inpaint,
    LinearOperator,
    ParallelBeam,
    Radon,
    views,
)
from isocenter.physics.masks import cartesian_variable_density
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

PRECISE = Options(tol=1e-3, max_iter=2000)


def piecewise_constant(n: int) -> Tensor:
    x = torch.zeros(1, 1, n, n)
    x[..., n // 4 : 3 * n // 4, n // 3 : -n // 4] = 1.0
    x[..., n // 2 :, : n // 2] += 0.5
    return x


def minimise(A: LinearOperator, y: Tensor, weight: float, tol: float, max_iter: int) -> Solution:
    return solve(ADMM(Objective(A, y, [TotalVariationTerm(weight)])), tol, max_iter)


def test_gradient_and_its_adjoint() -> None:
    x, p = torch.randn(2, 2, 5, 7, dtype=torch.float64), torch.randn(2, 2, 2, 5, 7, dtype=torch.float64)
    assert (gradient(x) * p).sum() == pytest.approx(float((x * gradient_adjoint(p)).sum()))
    n = 9
    dense = gradient(torch.eye(n * n, dtype=torch.float64).reshape(-1, 1, n, n)).flatten(1)
    assert 7 < torch.linalg.matrix_norm(dense, 2) ** 2 < 8  # Chambolle 2004, theorem 3.1


def test_total_variation_has_a_gradient_on_flat_images() -> None:
    x = torch.zeros(1, 1, 5, 5, requires_grad=True)
    total_variation(x + torch.nn.functional.pad(torch.ones(1, 1, 2, 2), (1, 2, 1, 2))).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert float(x.grad.sum().abs()) < 1e-6  # it is a divergence


def test_projection_leaves_the_ball_and_shortens_the_rest() -> None:
    p = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1, 1)
    assert torch.allclose(project_to_ball(p, 1.0).flatten(), torch.tensor([0.6, 0.8]))
    assert torch.equal(project_to_ball(p, 6.0), p)
    assert torch.equal(project_to_ball(p, 0.0), torch.zeros_like(p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection_has_a_gradient_everywhere(dtype: torch.dtype) -> None:
    p = torch.randn(2, 2, 2, 3, 4, dtype=dtype) * torch.logspace(-45, 5, 4).to(dtype)  # from zero on
    p.requires_grad_()
    radius = torch.rand(2, 1, 1, 3, 4, dtype=dtype)
    radius[:, ..., 0, :] = 0
    radius.requires_grad_()
    result = project_to_ball(p, radius)
    assert (result.flatten(1, 2).norm(dim=1) <= radius[:, 0, 0] * (1 + 1e-6)).all()
    result.square().sum().backward()
    for tensor in (p, radius):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_the_gradient_of_the_projection_is_that_of_finite_differences() -> None:
    p = torch.randn(1, 2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    radius = torch.rand(1, 1, 1, 3, 3, dtype=torch.float64).add(0.8).requires_grad_()
    assert torch.autograd.gradcheck(project_to_ball, (p, radius))


def test_denoising_equals_scikit_image() -> None:
    y = piecewise_constant(32).double() + 0.2 * torch.randn(1, 1, 32, 32)
    expected = denoise_tv_chambolle(y[0, 0].numpy(), weight=0.15, eps=1e-9, max_num_iter=20000)
    solution = minimise(Identity((1, 32, 32)), y, 0.15, 1e-5, 5000)
    assert np.abs(solution.x[0, 0].numpy() - expected).max() < 2e-3


def reference(A: LinearOperator, y: Tensor, weight: float, iterations: int) -> tuple[np.ndarray, float]:
    """The optimum and its objective by plain primal–dual iterations with dense matrices (Chambolle & Pock 2011)."""
    unit = torch.eye(np.prod(A.domain), dtype=torch.float64).reshape(-1, *A.domain)
    dense = (A.A(unit).flatten(1).T / A.norm).numpy()
    slopes = gradient(unit).flatten(1).T.numpy()
    K, m, data = np.vstack([dense, slopes]), len(dense), y.double().numpy().ravel() / A.norm
    step = 1 / np.linalg.norm(K, 2)
    x = ahead = np.zeros(K.shape[1])
    q = np.zeros(len(K))
    for _ in range(iterations):
        q = q + step * (K @ ahead)
        q[:m] = (q[:m] - step * data) / (1 + step)
        p = q[m:].reshape(2, -1)
        q[m:] = (p / np.maximum(1, np.linalg.norm(p, axis=0) / weight)).ravel()
        x, ahead = x - step * (K.T @ q), x - 2 * step * (K.T @ q)
    value = 0.5 * np.sum((dense @ x - data) ** 2)
    return x, value + weight * np.linalg.norm((slopes @ x).reshape(2, -1), axis=0).sum()


OPERATORS: dict[str, LinearOperator] = {
    "radon": Radon(ParallelBeam(views(8), 17), (12, 12)),
    "mri": FourierSampling(cartesian_variable_density((12, 12), 2.0, 4, seed=1)),
    "blur": Blur(torch.ones(3, 3) / 9, (12, 12)),
    "blur, mirrored": Blur(torch.ones(3, 3) / 9, (12, 12), "reflect"),
    "downsample": Downsample((12, 12), 2),
    "inpaint": Inpaint(torch.arange(144).reshape(12, 12) % 3 > 0),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_finds_the_optimum_and_certifies_it(name: str) -> None:
    A, weight = OPERATORS[name], 3e-3
    y = A.A(piecewise_constant(12).double())
    y = y + 0.05 * y.abs().mean() * torch.randn_like(y)
    x, best = reference(A, y, weight, 20000)
    solution = minimise(A, y, weight, 1e-4, 3000)
    value = objective(A, y, weight, solution.x)
    assert float(solution.gap) <= 1e-4
    assert -1e-7 < value / best - 1 <= 1e-4
    assert np.abs(solution.x.numpy().ravel() - x).max() < 0.02
    solver = ADMM(Objective(A, y, [TotalVariationTerm(weight)]))
    for progress, _ in zip(solver.iterate(), range(20), strict=False):
        true = 1 - best / objective(A, y, weight, progress.x)
        assert float(progress.gap) >= true - 1e-7  # the gap is a bound on the way, too


def objective(A: LinearOperator, y: Tensor, weight: float, x: Tensor) -> float:
    fidelity = 0.5 * ((A.A(x) - y) / A.norm).square().sum()
    return float(fidelity + weight * total_variation(x).sum())


def test_results_scale_with_the_data_and_do_not_depend_on_the_batch() -> None:
    A = Radon(ParallelBeam(views(8), 23), (16, 16))
    y = A.A(torch.cat([piecewise_constant(16), torch.rand(1, 1, 16, 16)]).double())
    both = TotalVariation(1e-2, options=PRECISE).reconstruct(y, A)
    alone = TotalVariation(1e-2, options=PRECISE).reconstruct(y[:1], A)
    tiny = TotalVariation(1e-8, options=PRECISE).reconstruct(y * 1e-6, A)
    assert torch.allclose(both[:1], alone, atol=1e-9)
    assert torch.allclose(tiny * 1e6, both, atol=1e-7)


def test_degenerate_inputs() -> None:
    A = Identity((1, 8, 8))
    assert torch.equal(TotalVariation(0.1).reconstruct(torch.zeros(1, 1, 8, 8), A), torch.zeros(1, 1, 8, 8))
    y = torch.rand(1, 1, 8, 8)
    assert torch.allclose(TotalVariation(0.0).reconstruct(y, A), y, atol=1e-3)
    flat = TotalVariation(100.0).reconstruct(y.double(), A)
    assert torch.allclose(flat, y.double().mean().expand_as(flat), atol=1e-4)


def test_stopping_early_is_a_warning() -> None:
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        TotalVariation(0.1, options=Options(tol=1e-9, max_iter=5)).reconstruct(
            torch.rand(1, 1, 8, 8), Identity((1, 8, 8))
        )


class Noisy(Problem):
    """Piecewise constant images and Gaussian noise."""

    def __init__(self, count: int, sigma: float, physics: LinearOperator | None = None) -> None:
        self.physics, self.data_range, self.sigma = physics or Identity((1, 32, 32)), 1.0, sigma
        self.ids = self.patients = tuple(map(str, range(count)))

    def truth(self, i: int) -> Tensor:
        return piecewise_constant(32)[0].roll(3 * i, -1)

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        noise = torch.randn(self.physics.range, generator=torch.Generator().manual_seed(i))
        return self.physics.A(self.truth(i)[None])[0] + self.sigma * noise


def test_fit_finds_the_best_weight_and_save_keeps_it(tmp_path: Path) -> None:
    problem = Noisy(3, 0.2)
    method = TotalVariation()
    fit = method.fit(problem, problem)
    x, y = problem.batch(range(3))

    def error(weight: float) -> float:
        return float((TotalVariation(weight).reconstruct(y, problem.physics) - x).square().mean())

    best = fit.chosen["regularisation"]
    assert error(best) < min(error(best / 2), error(best * 2))
    assert not fit.warnings
    assert len(fit.curve) <= 13
    method.save(tmp_path)
    again = TotalVariation()
    again.load(tmp_path)
    assert again.values == method.values


@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_tuned_as_a_constraint_it_is_about_as_good_as_with_a_weight(sigma: float) -> None:
    """And better than the direct reconstruction, for a blur and for more rays than pixels."""
    profile = torch.exp(-(torch.arange(-4.0, 5) ** 2) / 4)
    psf = profile[:, None] * profile / profile.sum() ** 2
    for A in (Blur(psf, (32, 32), noise_to_signal=1e-2), Radon(ParallelBeam(views(60), 47), (32, 32))):
        problem = Noisy(1, sigma * A.norm, A)
        x, y = problem.batch(range(1))

        def psnr(image: Tensor, x: Tensor = x) -> float:
            return -10 * float((image - x).square().mean().log10())

        quality = []
        for method in (TotalVariation(), ConstrainedTotalVariation()):
            method.fit(problem, problem)
            quality.append(psnr(method.reconstruct(y, A)))
        weighted, constrained = quality
        assert constrained > weighted - 0.3
        assert constrained > psnr(A.direct(y))


def test_a_given_weight_is_not_tuned() -> None:
    method = TotalVariation(0.3)
    fit = method.fit(Noisy(1, 0.2), Noisy(1, 0.2))
    assert method.values == fit.chosen == {"regularisation": 0.3}
    assert (fit.budget, fit.curve, method.parameters) == ("none", [], 0)


def test_an_optimum_at_the_end_of_the_search_is_a_warning() -> None:
    problem = Noisy(1, 0.0)  # without noise the best weight is the smallest
    problem.data_range = 1e3  # of which the smallest is a millionth: far above rounding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = TotalVariation(tuning=Tuning(20)).fit(problem, problem)
    assert any("end" in warning for warning in fit.warnings)


def test_what_was_not_saved_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fit again"):
        TotalVariation().load(tmp_path)
    with pytest.raises(ValueError, match="call fit"):
        TotalVariation().reconstruct(torch.zeros(1, 1, 8, 8), Identity((1, 8, 8)))
