"""Learned shrinkage: a piecewise-linear function per channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class PiecewiseLinear(nn.Module):
    """v ↦ φ_l(v) on channel l, linear between uniform knots on [−1, 1], with slope one outside (ADMM-Net, eq. 10).

    It starts as the soft threshold sign(v) max(|v| − threshold, 0), whose kinks are rounded to the grid of knots.

    Args:
        channels: L, the number of functions.
        knots: their number, at least 2.
        threshold: of the soft threshold at the start.
    """

    def __init__(self, channels: int, knots: int = 101, threshold: float = 0.05) -> None:
        super().__init__()
        if knots < 2:
            raise ValueError(f"PiecewiseLinear: {knots} knots; a linear piece needs at least 2")
        position = torch.linspace(-1, 1, knots)
        soft = position.sign() * (position.abs() - threshold).clamp_min(0)
        self.values = nn.Parameter(soft.repeat(channels, 1))

    def forward(self, v: Tensor) -> Tensor:
        """``[L, …]``, channels first, → the same shape."""
        return _PiecewiseLinear.apply(v, self.values)


class _PiecewiseLinear(torch.autograd.Function):
    # Uniform knots need no search: the piece is the integer part of the scaled argument. The two half-lines outside
    # are pieces like the others, and the tables of all channels are one, taken by a flat index.

    @staticmethod
    def forward(ctx: Any, v: Tensor, values: Tensor) -> Tensor:
        channels, knots = values.shape
        spacing = 2 / (knots - 1)
        position = (v + 1).mul_(1 / spacing)
        piece = position.floor().clamp_(-1, knots - 1)
        fraction = position.sub_(piece)
        first = torch.arange(1, channels * (knots + 1), knots + 1, device=v.device, dtype=torch.int32)
        index = piece.to(torch.int32).add_(first.view(-1, *[1] * (v.ndim - 1))).flatten()
        index.clamp_(0, channels * (knots + 1) - 1)  # the integer of a NaN may be anything

        start = torch.cat((values[:, :1] - spacing, values), dim=1)
        rise = torch.full_like(start, spacing)
        rise[:, 1:-1] = values[:, 1:] - values[:, :-1]
        rise = rise.flatten().index_select(0, index).view_as(v)
        result = start.flatten().index_select(0, index).view_as(v).addcmul_(fraction, rise)
        ctx.save_for_backward(index, fraction, rise.mul_(1 / spacing))
        ctx.shape = start.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        index, fraction, slope = ctx.saved_tensors
        index = index.long()
        end = gradient.new_zeros(ctx.shape)
        end.view(-1).scatter_add_(0, index, (gradient * fraction).flatten())
        start = gradient.new_zeros(ctx.shape)
        start.view(-1).scatter_add_(0, index, gradient.flatten())
        # Piece i of a channel goes from knot i − 1 to knot i; the first and the last piece hang on one knot.
        values = start[:, 1:] - end[:, 1:]
        values += end[:, :-1]
        values[:, 0] += start[:, 0] - end[:, 0]
        values[:, -1] += end[:, -1]
        return gradient * slope, values
