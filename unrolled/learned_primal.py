"""Learned primal: small networks with memory propose each update from the gradient of the data term."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..physics import LinearOperator
from .cnn import prelu_stack
from .contract import Network


class LearnedPrimal(Network):
    """Learned Primal (Adler & Öktem, TMI 2018, §III), for every operator A of norm one: learned primal–dual without
    what is learned in the space of measurements.

    From f = 0 with its memory, iteration i is, with a network Λ_i of its own (:func:`prelu_stack`) ::

        f = f + Λ_i(f, Aᵀ(A f⁽¹⁾ − y))

    and the image is f⁽⁰⁾: 125,170 parameters for real images and the defaults, which are the paper's.

    Args:
        channels: of the image; 1, or 2 for complex images.
        iterations: their number.
        primal: images that f holds, at least 2.
        width: feature maps of the networks.
    """

    def __init__(self, channels: int = 1, iterations: int = 10, primal: int = 5, width: int = 32) -> None:
        super().__init__()
        if primal < 2 or iterations < 1:
            raise ValueError(f"LearnedPrimal: {iterations} iterations with {primal} images; expected at least 1 and 2")
        self.settings = {
            "network": "learned primal",
            "channels": channels,
            "iterations": iterations,
            "primal": primal,
            "width": width,
        }
        inputs, outputs = (primal + 1) * channels, primal * channels
        self.updates = nn.ModuleList(prelu_stack(inputs, outputs, width) for _ in range(iterations))
        self.primal = primal

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        channels, height, width = physics.domain
        f = y.new_zeros(len(y), self.primal * channels, height, width)
        for update in self.updates:
            f = self.run(self._iterate, update, f, y, physics)
            self.show(f[:, :channels])
        return f[:, :channels]

    def _iterate(self, update: nn.Module, f: Tensor, y: Tensor, physics: LinearOperator) -> Tensor:
        channels = physics.domain[0]
        gradient = physics.A_adjoint(physics.A(f[:, channels : 2 * channels]) - y)
        return f + update(torch.cat((f, gradient), dim=1))
