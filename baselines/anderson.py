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
    combine = Combination(memory)
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
        x = combine(value, difference)
    return best, residual


class Combination:
    """Σ α_i f(x_i) of each image over the last values f(x_i), each given with its difference f(x_i) − x_i, ``[B, …]``.

    Args:
        memory: how many are kept.
    """

    def __init__(self, memory: int) -> None:
        self.memory, self.count = memory, 0
        self.values, self.differences = torch.empty(0), torch.empty(0)  # [B, memory, N]

    def __call__(self, value: Tensor, difference: Tensor) -> Tensor:
        if not self.count:
            self.values, self.differences = (value.new_empty(len(value), self.memory, value[0].numel()) for _ in "vd")
        slot, self.count = self.count % self.memory, self.count + 1
        self.values[:, slot], self.differences[:, slot] = value.flatten(1), difference.flatten(1)
        rows = self.differences[:, : self.count]
        gram = (rows @ rows.transpose(1, 2)).double()
        trace = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(value.dtype).tiny)
        identity = torch.eye(rows.shape[1], dtype=gram.dtype, device=gram.device)
        gram = gram / trace[:, None, None] + REGULARISATION * identity
        weights = torch.linalg.solve_ex(gram, torch.ones_like(gram[:, :, :1])).result[..., 0]
        weights = (weights / weights.sum(1, keepdim=True)).to(rows)
        return (weights[:, None] @ self.values[:, : self.count])[:, 0].view_as(value)
