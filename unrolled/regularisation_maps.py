"""Total variation whose weight is a learned map: a network regularises, a convex solver reconstructs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..baselines.gradient import gradient, gradient_adjoint, project_to_ball
from ..baselines.steps import PrimalDualState, primal_dual_step
from ..physics import LinearOperator
from .cnn import unet
from .contract import Network
from .operator_facts import mean_eigenvalue


class RegularisationMaps(Network):
    """Unrolled PDHG for min_x ½‖A x − y‖² + Σ Λ(r) |∇x|(r), the map Λ from a U-Net (Kofler et al., SIIMS 2023).

    Λ = 0.05 g softplus(U(x₀) + c) > 0 with x₀ = direct(y), g the mean eigenvalue of AᵀA, which is the scale of the data
    term, and c such that a network that starts at zero has the constant 0.05 g. Then, from x = x₀, a fixed number of
    iterations of Chambolle & Pock (2011) with K = [A; ∇] and the duals q and p ::

        x = x − τ (Aᵀq + ∇ᵀp),                      x̄ = 2x − (the x before)
        q = (q + σ₁ (A x̄ − y)) / (1 + σ₁)
        p = the projection of p + σ₂ ∇x̄ onto |p| ≤ Λ

    which converges to the minimiser for τ (σ₁‖A‖² + σ₂‖∇‖²) ≤ 1. Learned are τ and the share s of A, σ₁ = s / τ and
    σ₂ = (1 − s) / (8 τ), so that it holds for whatever is learned; they start at τ = 1/√g and s = ½. (The paper has one
    σ for both.) The U-Net sees the image, or the magnitude of a complex one, whose channels have one gradient length.

    What the network can do is choose Λ: the result is the minimiser of a convex problem, up to the iterations.

    Args:
        iterations: of PDHG; the paper has up to 256.
        widths: of the U-Net, feature maps at each scale, finest first.
        gain: of its first weights, over PyTorch's own, as that of :class:`Hybrid`.
    """

    def __init__(self, iterations: int = 32, widths: Sequence[int] = (16, 32, 64), gain: float = 10.0) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"RegularisationMaps: {iterations} iterations; expected at least 1")
        self.settings = {"network": "TV with learned maps", "iterations": iterations, "widths": list(widths)}
        self.iterations = iterations
        self.predict = unet(1, 1, widths, gain)
        self.log_step = nn.Parameter(torch.zeros(()))  # of τ √g
        self.share = nn.Parameter(torch.zeros(()))  # s, before the sigmoid

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x, g = physics.direct(y), mean_eigenvalue(physics)
        radius = self.run(self.weights, x, g)[:, None]
        problem = _Problem(y, physics)
        state = PrimalDualState(x, problem.pack(torch.zeros_like(y), torch.zeros_like(gradient(x))))
        tau, share = self.log_step.exp() / g**0.5, self.share.sigmoid()
        for _ in range(self.iterations):
            state = self.run(problem.step, state, radius, tau, share)
            self.show(state.x)
        return state.x

    def weights(self, x: Tensor, g: float) -> Tensor:
        """Λ, ``[B, 1, H, W]``, of direct reconstructions ``[B, *domain]`` of an operator with this mean eigenvalue."""
        seen = x if x.shape[1] == 1 else x.square().sum(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
        return 0.05 * g * softplus(self.predict(seen) + math.log(math.e - 1))


class _Problem:
    """K = [A; ∇], and one iteration."""

    def __init__(self, y: Tensor, physics: LinearOperator) -> None:
        self.y, self.physics = y, physics
        self.sizes = (physics.range, (2, *physics.domain))

    def step(self, state: PrimalDualState, radius: Tensor, tau: Tensor, share: Tensor) -> PrimalDualState:
        def primal(x: Tensor, back: Tensor) -> Tensor:
            return x - tau * back

        def dual(both: Tensor, image: Tensor) -> Tensor:
            (q, p), (projected, slopes) = self.unpack(both), self.unpack(image)
            sigma = share / tau
            q = (q + sigma * (projected - self.y)) / (1 + sigma)
            return self.pack(q, project_to_ball(p + (1 - share) / (8 * tau) * slopes, radius))

        return primal_dual_step(state, primal, dual, analysis=self.analysis, adjoint=self.adjoint)

    def analysis(self, x: Tensor) -> Tensor:
        return self.pack(self.physics.A(x), gradient(x))

    def adjoint(self, both: Tensor) -> Tensor:
        q, p = self.unpack(both)
        return self.physics.A_adjoint(q) + gradient_adjoint(p)

    def pack(self, q: Tensor, p: Tensor) -> Tensor:
        """Both duals as one, ``[B, …]``."""
        return torch.cat((q.flatten(1), p.flatten(1)), dim=1)

    def unpack(self, both: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.sizes
        q, p = both.split((math.prod(first), math.prod(second)), dim=1)
        return q.reshape(-1, *first), p.reshape(-1, *second)
