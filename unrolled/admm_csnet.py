"""ADMM-CSNet: ADMM in the image domain, whose denoiser is one step on a learned regulariser."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..baselines.steps import ADMMState, admm_step
from ..physics import LinearOperator
from .contract import Network
from .operator_facts import mean_eigenvalue
from .piecewise_linear import PiecewiseLinear


class ADMMCSNet(Network):
    """Generic ADMM-CSNet (Yang, Sun, Li, Xu, TPAMI 2020, §3.3 and §4), for every operator A of norm one.

    ADMM for ½‖A x − y‖² + g(x) with the split z = x, unrolled; stage n with its own parameters is ::

        X  x = (AᵀA + ρ)⁻¹ (Aᵀy + ρ (z − β))
        Z  z = u − W₂ᵀ φ(W₁ u + b₁) − b₂,  u = x + β
        M  β = β + η (x − z)

    and a last X gives the image. For a masked Fourier transform X is F⁻¹[(y + ρ F(z − β)) / (M + ρ)], the paper's. W₁
    and W₂ are 128 filters of 5 × 5, with circular boundaries, φ is piecewise linear with 101 knots on [−1, 1]: a stage
    has 19,459 parameters, and 11 stages with the last X have 214,050. The real and the imaginary part of complex images
    share them. It starts from z = direct(y), β = 0, ρ = 0.1, η = 1, φ the identity, W₁ small and random, and W₂ zero,
    so that the first image is the regularised least-squares solution near direct(y).

    ρ is learned relative to the mean eigenvalue of AᵀA, as in :class:`ADMMNet`. X is :meth:`LinearOperator.prox_l2`:
    where that has no closed form, a few conjugate gradient iterations from the image of the stage before.

    Args:
        stages: N.
        features: filters of W₁, and of W₂.
        kernel: side of the filters, odd.
        knots: of φ.
        cg_iterations: of X where it has no closed form.
    """

    def __init__(
        self, stages: int = 11, features: int = 128, kernel: int = 5, knots: int = 101, cg_iterations: int = 3
    ) -> None:
        super().__init__()
        if stages < 1 or features < 1 or kernel < 3 or kernel % 2 == 0:
            raise ValueError(
                f"ADMMCSNet: {stages} stages of {features} filters {kernel} × {kernel}; expected at least one of each, "
                "and an odd size ≥ 3"
            )
        self.settings = {
            "network": "ADMM-CSNet",
            "stages": stages,
            "features": features,
            "kernel": kernel,
            "knots": knots,
            "cg_iterations": cg_iterations,
        }
        self.stages = nn.ModuleList(_Stage(features, kernel, knots, cg_iterations) for _ in range(stages))
        self.last = _Reconstruction(cg_iterations)

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x = physics.direct(y)
        state = ADMMState(x, x, torch.zeros_like(x))
        for stage in self.stages:
            state = self.run(stage, state, y, physics)
            self.show(state.x)
        return self.last(state.z - state.u, state.x, y, physics)


class _Reconstruction(nn.Module):
    """X: v ↦ argmin_x ½‖A x − y‖² + ρ/2 ‖x − v‖²."""

    def __init__(self, cg_iterations: int) -> None:
        super().__init__()
        self.cg_iterations = cg_iterations
        self.rho = nn.Parameter(torch.tensor(0.1).expm1().log())  # softplus keeps ρ positive

    def forward(self, v: Tensor, start: Tensor, y: Tensor, physics: LinearOperator) -> Tensor:
        rho = softplus(self.rho) * mean_eigenvalue(physics)
        return physics.prox_l2(v, y, 1 / rho, start=start, tol=0, max_iter=self.cg_iterations)


class _Stage(nn.Module):
    """X, Z, M: one :func:`admm_step`."""

    def __init__(self, features: int, kernel: int, knots: int, cg_iterations: int) -> None:
        super().__init__()
        self.reconstruction = _Reconstruction(cg_iterations)
        self.analysis = nn.Parameter(0.025 * torch.randn(features, kernel, kernel))
        self.analysis_bias = nn.Parameter(torch.zeros(features))
        self.activation = PiecewiseLinear(features, knots, threshold=0.0)
        self.synthesis = nn.Parameter(torch.zeros(features, kernel, kernel))
        self.synthesis_bias = nn.Parameter(torch.zeros(()))
        self.eta = nn.Parameter(torch.tensor(1.0))

    def forward(self, state: ADMMState, y: Tensor, physics: LinearOperator) -> ADMMState:
        return admm_step(
            state,
            solve=lambda v: self.reconstruction(v, state.x, y, physics),
            prox=self.denoise,
            dual_step=self.eta,
        )

    def denoise(self, u: Tensor) -> Tensor:
        """Z, ``[B, C, H, W]``."""
        noise = self.activation.between_filters(u.flatten(0, 1), self.analysis, self.analysis_bias, self.synthesis)
        return u - self.synthesis_bias - noise.view_as(u)
