"""Learned activations: a sum of Gaussians per channel, evaluated from a table."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

POINTS = 32  # of the table, per standard deviation
REACH = 5  # standard deviations beyond the outermost centres, after which φ is zero


class RadialBasis(nn.Module):
    """v ↦ φ_l(v) = Σ_j w_lj exp(−(v − μ_j)² / 2σ²) on channel l, with equidistant centres μ on [−1, 1] and σ their
    distance (Hammernik et al., MRM 2018, eq. 9).

    It starts as ``slope`` · v, bent down to zero by the outermost Gaussians. What is evaluated is the linear
    interpolation of φ between 32 points per σ, off by about 1e-4 of the weights, and the gradients are those of the
    interpolation. Time and memory are thus the same for any number of Gaussians: 31, summed as they are written, take
    fifty times as long.

    Args:
        channels: L.
        centres: their number, at least 2.
        slope: at the start.
    """

    table: Tensor

    def __init__(self, channels: int, centres: int = 31, slope: float = 0.04) -> None:
        super().__init__()
        if centres < 2:
            raise ValueError(f"RadialBasis: {centres} centres; expected at least 2")
        spacing = 2 / (centres - 1)
        points = torch.arange(-REACH * POINTS, (centres - 1 + REACH) * POINTS + 1, dtype=torch.float64) / POINTS
        gaussians = torch.exp(-(points - torch.arange(centres).double()[:, None]).square() / 2)
        gaussians[:, :2] = gaussians[:, -2:] = 0  # so that the outermost pieces, which reach to infinity, are zero
        # where many overlap, equal Gaussians sum to √(2π), and so those weighted by their centres to √(2π) v
        start = slope / (2 * math.pi) ** 0.5 * torch.linspace(-1, 1, centres)
        self.weights = nn.Parameter(start.repeat(channels, 1))
        self.register_buffer("table", gaussians.float(), persistent=False)
        self.origin, self.density = 1 + REACH * spacing, POINTS / spacing

    def forward(self, v: Tensor) -> Tensor:
        """``[B, L, …]`` → the same shape."""
        return _Lookup.apply(v, self.weights @ self.table, self.origin, self.density)


class _Lookup(torch.autograd.Function):
    # Only v is kept; where it lies in the table is computed again on the way back.

    @staticmethod
    def forward(ctx: Any, v: Tensor, table: Tensor, origin: float, density: float) -> Tensor:
        rows = v.movedim(1, -1).contiguous()
        index, fraction = _piece(rows, table, origin, density)
        rise = _rises(table).index_select(0, index)
        result = table.reshape(-1).index_select(0, index).addcmul_(fraction, rise)
        ctx.save_for_backward(rows, table)
        ctx.scale = origin, density
        return result.view_as(rows).movedim(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, table = ctx.saved_tensors
        index, fraction = _piece(rows, table, *ctx.scale)
        gradient = gradient.movedim(1, -1).reshape(-1)
        to_v = _rises(table).mul_(ctx.scale[1]).index_select(0, index).mul_(gradient)
        index = index.long()
        start, end = torch.zeros_like(table), torch.zeros_like(table)
        start.view(-1).scatter_add_(0, index, gradient)
        end.view(-1).scatter_add_(0, index, fraction.mul_(gradient))
        start -= end
        start[:, 1:] += end[:, :-1]
        return to_v.view_as(rows).movedim(-1, 1), start, None, None


def _piece(v: Tensor, table: Tensor, origin: float, density: float) -> tuple[Tensor, Tensor]:
    """The flat index of each piece's start in the table, and where on the piece v lies, both flat."""
    channels, points = table.shape
    position = (v + origin).mul_(density).clamp_(0, points - 1)
    piece = position.floor().clamp_(max=points - 2)
    first = torch.arange(0, channels * points, points, device=v.device, dtype=torch.int32)
    index = piece.to(torch.int32).add_(first).flatten()
    index.clamp_(0, channels * points - 1)  # the integer of a NaN may be anything
    return index, position.sub_(piece).flatten()


def _rises(table: Tensor) -> Tensor:
    """From each point to the next of its channel, flat; zero at the last, where no piece starts."""
    rises = torch.zeros_like(table)
    rises[:, :-1] = table[:, 1:] - table[:, :-1]
    return rises.view(-1)
