"""Conjugate gradients for batches of symmetric positive definite systems, differentiable as they are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def inner(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ per image, shaped ``[B, 1, …]`` to broadcast."""
    return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)


def conjugate_gradient(
    matrix: Callable[[Tensor], Tensor],
    right: Tensor,
    *,
    start: Tensor,
    tol: float = 1e-6,
    max_iter: int = 100,
    precondition: Callable[[Tensor], Tensor] = lambda r: r,
) -> Tensor:
    """Solve M x = b for each image of a batch (Hestenes & Stiefel 1952).

    The gradient is that of what was computed, exact after any number of iterations, and finite where M x = b already.

    Args:
        matrix: x ↦ M x, symmetric positive definite on each image.
        right: b, ``[B, …]``.
        start: first iterate.
        tol: an image stops at ‖M x − b‖ ≤ tol ‖b‖ in the norm of the preconditioner, whatever the others do; 0 makes
            ``max_iter`` iterations and never waits for the device to tell a residual.
        max_iter: bound on the iterations.
        precondition: r ↦ P r, an approximate inverse of M, symmetric positive definite.
    """
    x, tiny = start, torch.finfo(start.dtype).tiny
    residual = right - matrix(x)
    direction, energy = residual.new_zeros(1), residual.new_ones(1)
    bound = tol**2 * inner(right, precondition(right)) if tol > 0 else residual.new_zeros(1)
    for _ in range(max_iter):
        scaled = precondition(residual)
        previous, energy = energy, inner(residual, scaled)
        running = energy > bound
        if tol > 0 and not running.any():
            break
        direction = scaled + energy / previous.clamp_min(tiny) * direction
        image = matrix(direction)
        step = torch.where(running, energy / inner(direction, image).clamp_min(tiny), 0)
        x, residual = x + step * direction, residual - step * image
    return x
