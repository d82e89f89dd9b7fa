"""Learned PDHG: the two proximal maps of the primal–dual hybrid gradient are one small network each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..baselines.steps import PrimalDualState
from ..physics import LinearOperator
from .cnn import prelu_stack
from .contract import Network
from .planes import from_planes, to_planes


class LearnedPDHG(Network):
    """Learned PDHG (Adler & Öktem, TMI 2018, algorithm 2), for every operator A of norm one.

    From f = f̄ = 0, h = 0, all iterations with the same Γ, Λ, σ, τ and θ, which are learned ::

        h = h + σ A f̄,    h = h + Γ(h, y)
        f⁺ = f − τ Aᵀ h,  f⁺ = f⁺ + Λ(f⁺)
        f̄ = f⁺ + θ (f⁺ − f),  f = f⁺

    Γ and Λ are three 3 × 3 convolutions (:func:`prelu_stack`) without memory: 20,133 parameters for real images; the
    paper counts 2.4e4. Their last layers start at zero, since ten iterations of one random network explode.
    Measurements are planes to Γ, see :func:`to_planes`.

    Args:
        channels: of the image; 1, or 2 for complex images.
        iterations: their number.
        width: feature maps of the networks.
    """

    def __init__(self, channels: int = 1, iterations: int = 10, width: int = 32) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"LearnedPDHG: {iterations} iterations; expected at least 1")
        self.settings = {"network": "learned PDHG", "channels": channels, "iterations": iterations, "width": width}
        self.iterations, self.channels = iterations, channels
        self.dual = prelu_stack(2 * channels, channels, width, at_zero=True)
        self.primal = prelu_stack(channels, channels, width, at_zero=True)
        self.sigma, self.tau, self.theta = (nn.Parameter(torch.tensor(value)) for value in (0.5, 0.5, 1.0))

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        planes = to_planes(y, self.channels)
        x = y.new_zeros(len(y), *physics.domain)
        state, ahead = PrimalDualState(x, torch.zeros_like(planes)), x
        for _ in range(self.iterations):
            state, ahead = self.run(self._iterate, state, ahead, planes, physics)
            self.show(state.x)
        return state.x

    def _iterate(
        self, state: PrimalDualState, ahead: Tensor, y: Tensor, physics: LinearOperator
    ) -> tuple[PrimalDualState, Tensor]:
        h = state.p + self.sigma * to_planes(physics.A(ahead), self.channels)
        h = h + self.dual(torch.cat((h, y), dim=1))
        x = state.x - self.tau * physics.A_adjoint(from_planes(h, physics.range))
        x = x + self.primal(x)
        return PrimalDualState(x, h), x + self.theta * (x - state.x)
