"""Conjugate gradients for batches of symmetric positive definite systems."""

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

    Args:
        matrix: x ↦ M x, symmetric positive definite on each image.
        right: b, ``[B, …]``.
        start: first iterate.
        tol: an image stops at ‖M x − b‖ ≤ tol ‖b‖ in the norm of the preconditioner, whatever the others do.
        max_iter: bound on the iterations.
        precondition: r ↦ P r, an approximate inverse of M, symmetric positive definite.
    """
    x = start
    tiny = torch.finfo(x.dtype).tiny
    residual = right - matrix(x)
    direction = scaled = precondition(residual)
    energy = inner(residual, scaled)
    bound = tol**2 * inner(right, precondition(right))
    for _ in range(max_iter):
        running = energy > bound
        if not running.any():
            break
        image = matrix(direction)
        step = torch.where(running, energy / inner(direction, image).clamp_min(tiny), 0)
        x = x + step * direction
        residual = residual - step * image
        scaled = precondition(residual)
        previous, energy = energy, inner(residual, scaled)
        ratio = torch.where(running, energy / previous.clamp_min(tiny), 0)
        direction = scaled + ratio * direction
    return x
