"""The linear systems inside a network: x = (AᵀA + R)⁻¹ b, with gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..physics.conjugate_gradient import inner

Map = Callable[[Tensor], Tensor]


def solve_unrolled(matrix: Map, right: Tensor, *, start: Tensor, precondition: Map, iterations: int) -> Tensor:
    """A fixed number of preconditioned conjugate gradient iterations on M x = b, differentiated as they are.

    The gradient is that of what was computed, exact after any number of iterations. The implicit gradient, one more
    solve, is exact only at convergence, and no faster where a few iterations do.

    Args:
        matrix: x ↦ M x, symmetric positive definite on each image.
        right: b, ``[B, …]``.
        start: first iterate.
        precondition: r ↦ P r, an approximate inverse of M, symmetric positive definite.
        iterations: their number.
    """
    tiny = torch.finfo(right.dtype).tiny ** 0.5  # its square is still a number, as gradients of quotients need
    x = start
    residual = right - matrix(x)
    direction = scaled = precondition(residual)
    energy = inner(residual, scaled)
    for iteration in range(1, iterations + 1):
        image = matrix(direction)
        step = energy / (inner(direction, image) + tiny)
        x = x + step * direction
        if iteration < iterations:
            residual = residual - step * image
            scaled = precondition(residual)
            previous, energy = energy, inner(residual, scaled)
            direction = scaled + energy / (previous + tiny) * direction
    return x
