"""Step functions against the papers' formulas in NumPy, on ½ ‖M x − b‖² + λ ‖D x‖₁ for three small images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from isocenter.baselines.steps import (
    ADMMState,
    FISTAState,
    HQSState,
    PrimalDualState,
    admm_step,
    fista_step,
    hqs_step,
    like,
    primal_dual_step,
    proximal_gradient_step,
)
from numpy.typing import NDArray
from torch import Tensor

IMAGES, SHAPE, LAM = 3, (1, 2, 3), 0.3
RANDOM = np.random.default_rng(0)
M, D = RANDOM.standard_normal((8, 6)), np.eye(6) + 0.3 * RANDOM.standard_normal((6, 6))
B = 2 * RANDOM.standard_normal((IMAGES, 8))
LIPSCHITZ = np.linalg.norm(M, 2) ** 2


def soft(v: NDArray, threshold: float) -> NDArray:
    return np.sign(v) * np.maximum(np.abs(v) - threshold, 0)


def tensor(rows: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows)).reshape(len(rows), *SHAPE)


def rows(x: Tensor) -> NDArray:
    return x.reshape(len(x), -1).numpy()


def through(matrix: NDArray, x: Tensor) -> Tensor:
    return tensor(rows(x) @ matrix.T)


def shrink(threshold: float):
    return lambda v: tensor(soft(rows(v), threshold))


def gradient(x: Tensor) -> Tensor:
    return tensor((rows(x) @ M.T - B) @ M)


def zeros() -> Tensor:
    return torch.zeros(IMAGES, *SHAPE, dtype=torch.float64)


def assert_optimal(x: Tensor, analysis: NDArray = np.eye(6)) -> None:  # noqa: B008
    """0 ∈ Mᵀ(M x − b) + λ Dᵀ ∂‖·‖₁(D x), D invertible."""
    slope = -np.linalg.solve(analysis.T, rows(gradient(x)).T).T / LAM
    c = rows(x) @ analysis.T
    at_zero = np.abs(c) < 1e-7
    assert 0 < at_zero.sum() < c.size  # some of both
    assert np.abs(slope[at_zero]).max() <= 1 + 1e-6
    assert np.allclose(slope[~at_zero], np.sign(c)[~at_zero], atol=1e-6)


@pytest.mark.parametrize("dual_step", [1.0, 1.5])
def test_admm_is_that_of_boyd_and_others(dual_step: float) -> None:
    rho = 2.0
    system = np.linalg.inv(M.T @ M + rho * D.T @ D)

    def solve(v: Tensor) -> Tensor:
        return tensor((B @ M + rho * rows(v) @ D) @ system)

    state = ADMMState(zeros(), zeros(), zeros())
    z = u = np.zeros((IMAGES, 6))
    for _ in range(4):
        x = (B @ M + rho * (z - u) @ D) @ system
        c = x @ D.T
        z = soft(c + u, LAM / rho)
        u = u + dual_step * (c - z)
        state = admm_step(state, solve, shrink(LAM / rho), analysis=lambda x: through(D, x), dual_step=dual_step)
        for ours, expected in zip(state, (x, z, u), strict=True):
            assert np.allclose(rows(ours), expected, atol=1e-13)
    for _ in range(3000):
        state = admm_step(state, solve, shrink(LAM / rho), analysis=lambda x: through(D, x), dual_step=dual_step)
    assert np.allclose(rows(state.z), rows(state.x) @ D.T, atol=1e-9)
    assert np.allclose(rho * rows(state.u) @ D, -rows(gradient(state.x)), atol=1e-8)  # ρ u is the multiplier
    assert_optimal(state.x, D)


def test_half_quadratic_splitting_ends_where_both_halves_agree() -> None:
    """For g = ν/2 ‖z − a‖² the fixed point solves one linear system; it is not the minimum of f + g."""
    mu, nu, a = 1.5, 0.7, np.arange(6) / 6
    inverse = np.linalg.inv(M.T @ M + mu * np.eye(6))
    state = HQSState(zeros(), zeros())
    for count in range(400):
        last = state
        state = hqs_step(
            state,
            lambda z: tensor((B @ M + mu * rows(z)) @ inverse),
            lambda x: tensor((nu * a + mu * rows(x)) / (nu + mu)),
        )
        if count < 3:
            z = (nu * a + mu * rows(last.x)) / (nu + mu)
            assert np.allclose(rows(state.z), z, atol=1e-14)
            assert np.allclose(rows(state.x), (B @ M + mu * z) @ inverse, atol=1e-14)
    # M'M x + μ (x − z) = M'b and ν (z − a) + μ (z − x) = 0, eliminated for x.
    system = M.T @ M + mu * nu / (mu + nu) * np.eye(6)
    expected = np.linalg.solve(system, (B @ M + mu * nu / (mu + nu) * a).T).T
    assert np.allclose(rows(state.x), expected, atol=1e-10)
    assert np.allclose(rows(state.z), (nu * a + mu * expected) / (nu + mu), atol=1e-10)


def test_proximal_gradient_converges_below_twice_the_inverse_curvature_and_not_above() -> None:
    x = torch.ones(IMAGES, *SHAPE, dtype=torch.float64)
    one = proximal_gradient_step(x, gradient, shrink(LAM / LIPSCHITZ), step_size=1 / LIPSCHITZ)
    expected = soft(rows(x) - rows(gradient(x)) / LIPSCHITZ, LAM / LIPSCHITZ)
    assert np.allclose(rows(one), expected, atol=1e-14)
    per_image = torch.tensor([0.5, 1.0, 1.9], dtype=torch.float64).reshape(-1, 1, 1, 1) / LIPSCHITZ
    for _ in range(6000):
        x = proximal_gradient_step(
            x, gradient, lambda v: v.sign() * (v.abs() - LAM * per_image).clamp_min(0), step_size=per_image
        )
    assert_optimal(x)
    for _ in range(2000):
        x = proximal_gradient_step(x + 1e-6, gradient, lambda v: v, step_size=2.1 / LIPSCHITZ)
    assert x.abs().max() > 1e3


def test_fista_is_that_of_beck_and_teboulle_with_the_restart_of_odonoghue_and_candes() -> None:
    state = FISTAState.start(torch.full((IMAGES, *SHAPE), 3.0, dtype=torch.float64))
    x = point = rows(state.x)
    t, restarts = np.ones((IMAGES, 1)), np.zeros(IMAGES, dtype=int)
    for _ in range(60):
        new = soft(point - ((point @ M.T - B) @ M) / LIPSCHITZ, LAM / LIPSCHITZ)
        back = np.sum((point - new) * (new - x), axis=1) > 0
        restarts += back
        t = np.where(back[:, None], 1.0, t)
        following = (1 + np.sqrt(1 + 4 * t**2)) / 2
        point, x, t = new + (t - 1) / following * (new - x), new, following
        state = fista_step(state, gradient, shrink(LAM / LIPSCHITZ), step_size=1 / LIPSCHITZ)
        assert np.allclose(rows(state.x), x, atol=1e-12)
        assert np.allclose(rows(state.point), point, atol=1e-12)
        assert np.allclose(state.t.numpy().ravel(), t.ravel())
    assert restarts.min() > 0
    for _ in range(600):
        state = fista_step(state, gradient, shrink(LAM / LIPSCHITZ), step_size=1 / LIPSCHITZ)
    assert_optimal(state.x)


def test_an_image_restarts_alone_and_restarts_make_fista_linear() -> None:
    """½ Σ h x²: without restarts momentum makes it ripple, with them it falls by orders of magnitude more."""
    h = torch.tensor([1.0, 1e-2, 1e-3], dtype=torch.float64).reshape(1, 1, 1, 3)
    start = torch.cat([torch.full((1, 1, 1, 3), 5.0), torch.zeros(1, 1, 1, 3)]).double()
    state, restarts = FISTAState.start(start), 0
    x, point, t = start, start, 1.0
    for _ in range(400):
        state = fista_step(state, lambda x: h * x, lambda x: x, step_size=1.0)
        restarts += int(state.t[0] < 1.7)
        new, following = point - h * point, (1 + (1 + 4 * t**2) ** 0.5) / 2
        x, point, t = new, new + (t - 1) / following * (new - x), following
    assert restarts > 1
    assert float(state.t[1]) == pytest.approx(t)  # at rest from the beginning: it never turns back
    assert (state.x[0].square() * h).sum() < 1e-4 * (x[0].square() * h).sum()


@pytest.mark.parametrize("relaxation", [1.0, 1.8])
def test_the_primal_dual_step_is_chambolle_and_pocks(relaxation: float) -> None:
    """f = ½ ‖M x − b‖² by its proximal map, λ ‖D x‖₁ by its dual, which is clipping."""
    tau = sigma = 0.99 / np.linalg.norm(D, 2)
    inverse = np.linalg.inv(tau * M.T @ M + np.eye(6))

    def primal(x: Tensor, back: Tensor) -> Tensor:
        return tensor((rows(x) - tau * rows(back) + tau * B @ M) @ inverse)

    def dual(p: Tensor, ahead: Tensor) -> Tensor:
        return (p + sigma * ahead).clamp(-LAM, LAM)

    def step(state: PrimalDualState, r: float | Tensor) -> PrimalDualState:
        analysis, adjoint = (lambda x: through(D, x)), (lambda p: through(D.T, p))
        return primal_dual_step(state, primal, dual, analysis=analysis, adjoint=adjoint, relaxation=r)

    state = PrimalDualState(zeros(), zeros())
    x = p = np.zeros((IMAGES, 6))
    for _ in range(4):
        new_x = (x - tau * p @ D + tau * B @ M) @ inverse
        new_p = np.clip(p + sigma * (2 * new_x - x) @ D.T, -LAM, LAM)
        x, p = x + relaxation * (new_x - x), p + relaxation * (new_p - p)
        state = step(state, relaxation)
        assert np.allclose(rows(state.x), x, atol=1e-13)
        assert np.allclose(rows(state.p), p, atol=1e-13)
    each = torch.full((IMAGES, 1, 1, 1), relaxation, dtype=torch.float64)
    assert torch.allclose(step(state, each).x, step(state, relaxation).x, atol=1e-14)
    for _ in range(4000):
        state = step(state, relaxation)
    assert_optimal(state.x, D)
    assert np.allclose(rows(state.p) @ D, -rows(gradient(state.x)), atol=1e-8)


def test_the_primal_dual_step_is_condats_and_vus() -> None:
    """f by its gradient; 1/τ − σ ‖D‖² ≥ ‖∇²f‖ / 2."""
    sigma = 1.0
    tau = 1 / (LIPSCHITZ / 2 + sigma * np.linalg.norm(D, 2) ** 2)

    def primal(x: Tensor, back: Tensor) -> Tensor:
        return x - tau * (gradient(x) + back)

    def dual(p: Tensor, ahead: Tensor) -> Tensor:
        return (p + sigma * ahead).clamp(-LAM, LAM)

    state = PrimalDualState(zeros(), zeros())
    x = p = np.zeros((IMAGES, 6))
    for count in range(6000):
        state = primal_dual_step(
            state, primal, dual, analysis=lambda x: through(D, x), adjoint=lambda p: through(D.T, p)
        )
        if count < 4:
            new = x - tau * ((x @ M.T - B) @ M + p @ D)
            p = np.clip(p + sigma * (2 * new - x) @ D.T, -LAM, LAM)
            x = new
            assert np.allclose(rows(state.x), x, atol=1e-13)
            assert np.allclose(rows(state.p), p, atol=1e-13)
    assert_optimal(state.x, D)


def test_one_factor_for_each_image() -> None:
    assert like(torch.arange(3), torch.zeros(3, 2, 4, 5)).shape == (3, 1, 1, 1)
    x = torch.ones(2, 1, 2, 2)
    assert torch.equal((like(torch.tensor([2.0, 3.0]), x) * x).amax((1, 2, 3)), torch.tensor([2.0, 3.0]))
