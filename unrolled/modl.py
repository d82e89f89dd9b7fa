"""MoDL: one convolutional denoiser and exact data consistency in turn, differentiated without unrolling the solve."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from ..baselines.steps import HQSState, hqs_step
from ..physics import LinearOperator
from ..physics.conjugate_gradient import inner
from .cnn import stack
from .contract import Network
from .operator_facts import mean_eigenvalue


class MoDL(Network):
    """MoDL (Aggarwal, Mani, Jacob, TMI 2019, eq. 8–10), for every operator A of norm one.

    Half-quadratic splitting with a learned denoiser, from x = direct(y), all iterations with the same weights ::

        z = x + CNN(x)
        x = (AᵀA + λ I)⁻¹ (Aᵀy + λ z)

    The CNN has five 3 × 3 convolutions of width 64 with ReLU between them, 113,154 parameters for complex images; the
    paper's batch normalisation is left out, since no image may depend on the others of its batch. Its last layer starts
    at zero. With CNN = 0 this is the proximal point iteration, whose limit is the least-squares solution nearest to the
    start.

    The solve is :meth:`LinearOperator.prox_l2`, in closed form or by conjugate gradients from z, with the implicit
    gradient of the paper: see :class:`TikhonovSolve`. λ is learned relative to the mean eigenvalue of AᵀA, see
    :class:`ADMMNet`; it starts at 1. From the paper's 0.05 noise comes back with every solve: 2 to 4 dB less before
    training on noisy tomography and coils, and 1 to 2 dB less after a short one.

    Args:
        channels: of the image; 1, or 2 for complex images.
        iterations: K; the paper's has 10.
        depth: convolutions of the CNN.
        width: its feature maps.
        cg_iterations: bound on those of a solve, and on those of its gradient.
        gain: of the CNN's first weights, over PyTorch's own, as that of :class:`Hybrid`.
    """

    def __init__(
        self,
        channels: int = 1,
        iterations: int = 10,
        depth: int = 5,
        width: int = 64,
        cg_iterations: int = 10,
        gain: float = 10.0,
    ) -> None:
        super().__init__()
        if iterations < 1 or cg_iterations < 1:
            raise ValueError(f"MoDL: {iterations} iterations of {cg_iterations} CG iterations; expected at least 1")
        self.settings = {
            "network": "MoDL",
            "channels": channels,
            "iterations": iterations,
            "depth": depth,
            "width": width,
            "cg_iterations": cg_iterations,
        }
        self.iterations, self.cg_iterations = iterations, cg_iterations
        self.correction = stack(channels, channels, width, depth, gain)
        self.weight = nn.Parameter(torch.tensor(1.0).expm1().log())  # softplus keeps λ positive

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        adjoint = physics.A_adjoint(y)

        def iterate(x: Tensor, weight: Tensor) -> Tensor:
            def solve(z: Tensor) -> Tensor:
                return TikhonovSolve.apply(adjoint + weight * z, weight, physics, z.detach(), self.cg_iterations)

            return hqs_step(HQSState(x, x), solve, prox=lambda v: v + self.correction(v)).x

        x, weight = physics.direct(y), softplus(self.weight) * mean_eigenvalue(physics)
        for _ in range(self.iterations):
            x = self.run(iterate, x, weight)
            self.show(x)
        return x


class TikhonovSolve(torch.autograd.Function):
    """(right, λ) ↦ x = (AᵀA + λ I)⁻¹ right, by :meth:`LinearOperator.prox_l2`, forwards and backwards.

    With g the gradient with respect to x, h = (AᵀA + λ I)⁻¹ g is that with respect to ``right``, and −⟨h, x⟩ that with
    respect to λ (Aggarwal et al. 2019, §III-D). Nothing of the iterations is kept; the gradient is exact where both
    solves have converged, or have a closed form.

    Args of ``apply``: right ``[B, *domain]``; λ > 0, of one element; the operator; the first iterate and the bound of
    conjugate gradients.
    """

    @staticmethod
    def forward(ctx: Any, right: Tensor, weight: Tensor, physics: LinearOperator, start: Tensor, bound: int) -> Tensor:
        ctx.options = physics, bound
        x = _solve(right, weight, start, *ctx.options)
        ctx.save_for_backward(x, weight)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        right = _solve(gradient, weight, torch.zeros_like(gradient), *ctx.options)
        return right, -inner(right, x).sum().reshape(weight.shape), None, None, None


def _solve(right: Tensor, weight: Tensor, start: Tensor, physics: LinearOperator, bound: int) -> Tensor:
    """argmin_x 1/(2λ) ‖A x‖² + ½ ‖x − right/λ‖²."""
    nothing = right.new_zeros(len(right), *physics.range)
    tol = 1e-6 if right.dtype == torch.float32 else 1e-12
    return physics.prox_l2(right / weight, nothing, 1 / weight, start=start, tol=tol, max_iter=bound)
