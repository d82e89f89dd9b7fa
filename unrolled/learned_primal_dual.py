"""Learned primal–dual: the proximal maps of a primal–dual iteration are small networks with memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..baselines.steps import PrimalDualState
from ..physics import LinearOperator
from .cnn import prelu_stack
from .contract import Network
from .planes import from_planes, to_planes


class LearnedPrimalDual(Network):
    """Learned Primal-Dual (Adler & Öktem, TMI 2018, algorithm 3), for every operator A of norm one.

    From f = 0, h = 0, each with its memory, iteration i is, with networks Γ_i and Λ_i of their own ::

        h = h + Γ_i(h, A f⁽¹⁾, y)
        f = f + Λ_i(f, Aᵀ h⁽⁰⁾)

    and the image is f⁽⁰⁾. It is the primal–dual iteration (:func:`primal_dual_step`) with the dual update first; what
    the extrapolation 2x̃ − x does there, the memory learns. Γ and Λ are three 3 × 3 convolutions with a PReLU per
    channel between them, Xavier weights, and slopes that start at zero: 253,220 parameters for real images and the
    defaults, which are the paper's.

    Complex images carry their two parts in every f⁽ᵏ⁾ and h⁽ᵏ⁾. Measurements are planes to Γ, see :func:`to_planes`:
    coils share it, and so do the two parts of the k-space of real images. One network thus takes any operator.

    Args:
        channels: of the image; 1, or 2 for complex images.
        iterations: I.
        primal: images that f holds, at least 2.
        dual: measurements that h holds.
        width: feature maps of the networks.
    """

    def __init__(
        self, channels: int = 1, iterations: int = 10, primal: int = 5, dual: int = 5, width: int = 32
    ) -> None:
        super().__init__()
        if primal < 2 or dual < 1 or iterations < 1:
            raise ValueError(
                f"LearnedPrimalDual: {iterations} iterations with {primal} primal and {dual} dual images; "
                "expected at least 1, 2 and 1"
            )
        self.settings = {
            "network": "learned primal-dual",
            "channels": channels,
            "iterations": iterations,
            "primal": primal,
            "dual": dual,
            "width": width,
        }
        self.iterations = nn.ModuleList(_Iteration(channels, primal, dual, width) for _ in range(iterations))
        self.channels, self.primal, self.dual = channels, primal, dual

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        planes = to_planes(y, self.channels)
        channels, height, width = physics.domain
        state = PrimalDualState(
            x=y.new_zeros(len(y), self.primal * channels, height, width),
            p=planes.new_zeros(len(planes), self.dual * channels, *planes.shape[-2:]),
        )
        for iteration in self.iterations:
            state = self.run(iteration, state, planes, physics)
            self.show(state.x[:, :channels])
        return state.x[:, :channels]


class _Iteration(nn.Module):
    def __init__(self, channels: int, primal: int, dual: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.dual = prelu_stack((dual + 2) * channels, dual * channels, width)
        self.primal = prelu_stack((primal + 1) * channels, primal * channels, width)

    def forward(self, state: PrimalDualState, y: Tensor, physics: LinearOperator) -> PrimalDualState:
        f, h = state
        c = self.channels
        projected = to_planes(physics.A(f[:, c : 2 * c]), c)
        h = h + self.dual(torch.cat((h, projected, y), dim=1))
        back = physics.A_adjoint(from_planes(h[:, :c], physics.range))
        f = f + self.primal(torch.cat((f, back), dim=1))
        return PrimalDualState(f, h)
