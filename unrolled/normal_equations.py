"""The linear systems inside a network: x = (AᵀA + R)⁻¹ b, with gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..physics.conjugate_gradient import inner


def solve_unrolled(matrix: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, iterations: int) -> Tensor:
    """A fixed number of conjugate gradient iterations on M x = b, differentiated as they are.

    The gradient is that of what was computed, exact after any number of iterations. The implicit gradient, one more
    solve, is exact only at convergence; at five iterations it was also the slower one (a solve of the backward pass has
    no warm start).

    Args:
        matrix: x ↦ M x, symmetric positive definite on each image.
        right: b, ``[B, …]``.
        start: first iterate.
        iterations: their number.
    """
    tiny = torch.finfo(right.dtype).tiny ** 0.5  # its square is still a number, as gradients of quotients need
    x = start
    residual = right - matrix(x)
    direction = residual
    energy = inner(residual, residual)
    for iteration in range(1, iterations + 1):
        image = matrix(direction)
        step = energy / (inner(direction, image) + tiny)
        x = x + step * direction
        if iteration < iterations:
            residual = residual - step * image
            previous, energy = energy, inner(residual, residual)
            direction = residual + energy / (previous + tiny) * direction
    return x
