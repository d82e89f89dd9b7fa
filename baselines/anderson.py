"""Anderson acceleration of x = f(x), image by image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

REGULARISATION = 1e-8  # of the least-squares problem, relative to its trace


def anderson(
    f: Callable[[Tensor], Tensor], start: Tensor, *, tol: float, max_iter: int, memory: int = 5
) -> tuple[Tensor, Tensor]:
    """A fixed point of f, and its relative residual ‖f(x) − x‖ / ‖f(x)‖ of each image, ``[B]``.

    The next iterate is the combination Σ α_i f(x_i) of the last ones, Σ α_i = 1, whose Σ α_i (f(x_i) − x_i) is shortest
    (Walker & Ni 2011). Coefficients are those of each image alone, and an image stays at its first iterate within the
    tolerance, or at its best.

    Args:
        f: acts on each image alone.
        start: first iterate, ``[B, …]``.
        tol: relative residual.
        max_iter: bound on the evaluations of f.
        memory: how many iterates are combined.
    """
    x, best = start, start
    residual = start.new_full((len(start),), torch.inf)
    values: list[Tensor] = []
    differences: list[Tensor] = []
    for _ in range(max_iter):
        value = f(x)
        difference = value - x
        length = difference.flatten(1).norm(dim=1)
        now = length / value.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
        better = (now < residual) & (residual > tol)
        best = torch.where(better.view(-1, *[1] * (x.ndim - 1)), value, best)
        residual = torch.where(better, now, residual)
        if (residual <= tol).all():
            break
        values, differences = [*values, value][-memory:], [*differences, difference][-memory:]
        x = combine(values, differences)
    return best, residual


def combine(values: list[Tensor], differences: list[Tensor]) -> Tensor:
    """Σ α_i f(x_i) of each image, for values f(x_i) and differences f(x_i) − x_i ``[B, …]``, the last ones."""
    rows = torch.stack(differences, 1).flatten(2)
    gram = (rows @ rows.transpose(1, 2)).double()
    trace = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(values[0].dtype).tiny)
    gram = gram / trace[:, None, None] + REGULARISATION * torch.eye(len(values), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve_ex(gram, torch.ones_like(gram[:, :, :1])).result[..., 0]
    weights = (weights / weights.sum(1, keepdim=True)).to(rows)
    return (weights[:, None] @ torch.stack(values, 1).flatten(2))[:, 0].view_as(values[0])
