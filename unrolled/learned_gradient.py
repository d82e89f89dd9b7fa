"""Learned gradient descent: a small network with memory proposes each update from the gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from ..baselines.gradient import gradient, gradient_adjoint
from ..physics import LinearOperator
from .cnn import stack
from .contract import Network


class LearnedGradient(Network):
    """Partially learned gradient descent (Adler & Öktem, Inverse Problems 2017, algorithm 2), for every operator A of
    norm one.

    From x = direct(y) and a memory s = 0, all iterations with the same network Λ ::

        (Δx, Δs) = Λ(x, Aᵀ(A x − y), ∇ᵀ∇x, s)
        x = x + Δx,  s = max(Δs, 0)

    with the gradient of the data term ½‖A x − y‖² and, unless left out, of the Dirichlet term ½‖∇x‖². Λ is three 3 × 3
    convolutions with ReLU between them: 13,318 parameters for real images and the paper's five images of memory, 13,030
    without the Dirichlet term. Its last layer starts at zero, and not as Xavier's: ten iterations of one random network
    take the image to ten times its size.

    Args:
        channels: of the image; 1, or 2 for complex images.
        iterations: their number.
        memory: images that s holds, at least 1.
        width: feature maps of Λ.
        dirichlet: whether Λ sees ∇ᵀ∇x.
    """

    def __init__(
        self, channels: int = 1, iterations: int = 10, memory: int = 5, width: int = 32, dirichlet: bool = True
    ) -> None:
        super().__init__()
        if iterations < 1 or memory < 1:
            raise ValueError(f"LearnedGradient: {iterations} iterations, {memory} images of memory; expected ≥ 1 each")
        self.settings = {
            "network": "learned gradient",
            "channels": channels,
            "iterations": iterations,
            "memory": memory,
            "width": width,
            "dirichlet": dirichlet,
        }
        self.iterations, self.memory, self.dirichlet = iterations, memory, dirichlet
        self.update = stack((memory + 2 + dirichlet) * channels, (memory + 1) * channels, width, depth=3)

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x = physics.direct(y)
        channels, height, width = physics.domain
        memory = x.new_zeros(len(x), self.memory * channels, height, width)
        for _ in range(self.iterations):
            x, memory = self.run(self._iterate, x, memory, y, physics)
            self.show(x)
        return x

    def _iterate(self, x: Tensor, memory: Tensor, y: Tensor, physics: LinearOperator) -> tuple[Tensor, Tensor]:
        seen = [x, physics.A_adjoint(physics.A(x) - y)]
        if self.dirichlet:
            seen.append(gradient_adjoint(gradient(x)))
        update = self.update(torch.cat((*seen, memory), dim=1))
        channels = x.shape[1]
        return x + update[:, :channels], relu(update[:, channels:])
