"""Anderson acceleration of x = f(x), image by image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from .steps import like

REGULARISATION = 1e-6  # of the least-squares problem, relative to its trace, which in float32 is rounded to 1e-7


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
        best = torch.where(like(better, value), value, best)
        residual = torch.where(better, now, residual)
        if (residual <= tol).all():
            break
        x = combine(value, difference)
    return best, residual


class Combination:
    """Σ α_i f(x_i) of each image over the last values f(x_i), each given with its difference f(x_i) − x_i, ``[B, …]``.

    The coefficients carry no gradients: a fixed point does not depend on the way that led there.

    Args:
        memory: how many are kept.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.values: list[Tensor] = []
        self.differences: list[Tensor] = []
        self.gram = torch.empty(0)  # inner products of the differences, [B, n, n]

    def __call__(self, value: Tensor, difference: Tensor) -> Tensor:
        if not self.values:
            self.gram = value.new_empty(len(value), 0, 0, dtype=torch.float64)
        self.values.append(value)
        self.differences.append(difference.detach().flatten(1))
        products = [torch.linalg.vecdot(each, self.differences[-1]) for each in self.differences]
        gram = pad(self.gram, (0, 1, 0, 1))
        gram[:, -1] = gram[:, :, -1] = torch.stack(products, 1)
        if len(self.values) > self.memory:
            del self.values[0], self.differences[0]
            gram = gram[:, 1:, 1:]
        self.gram = gram
        trace = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(value.dtype).tiny)
        identity = torch.eye(len(self.values), dtype=gram.dtype, device=gram.device)
        scaled = gram / trace[:, None, None] + REGULARISATION * identity
        weights = torch.linalg.solve_ex(scaled, torch.ones_like(scaled[:, :, :1])).result[..., 0]
        weights = (weights / weights.sum(1, keepdim=True)).to(value)
        combined = torch.zeros_like(value)
        for weight, old in zip(weights.unbind(1), self.values, strict=True):
            combined = torch.addcmul(combined, like(weight, old), old)
        return combined
