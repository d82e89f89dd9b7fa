"""Learned shrinkage: a piecewise-linear function per channel, alone and between two banks of filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .filter_bank import through_patches

STRIP = 2048  # pixels whose features, of 128 filters, stay in a processor's cache
COPIES = 4  # of a table


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
        return _PiecewiseLinear.apply(v.flatten(1), self.values).view(v.shape)

    def between_filters(self, x: Tensor, analysis: Tensor, bias: Tensor, synthesis: Tensor) -> Tensor:
        """``synthesise(φ(analyse(x, analysis) + bias), synthesis)``: ``[B, H, W]`` → the same shape.

        The features of all pixels never exist at once: strips of pixels take turns in the same memory, and the way
        back computes them again. With 128 filters that takes a third of the time of the four steps one by one.
        """
        return through_patches(
            x,
            analysis.shape[-1],
            lambda patches: _BetweenFilters.apply(
                patches, analysis.flatten(1), bias[:, None], self.values, synthesis.flatten(1).T
            ),
        )


class _Pieces:
    """φ as one table for all channels: a piece starts at ``start`` and rises by ``rise`` to the next knot.

    Uniform knots need no search: the piece is the integer part of the argument in units of their distance. The two
    half-lines outside are pieces like the others. Neighbours, often on the same piece, have copies of the table
    in turn: in a single one their gradients wait for each other to be added, and take three times as long.
    """

    def __init__(self, values: Tensor, pixels: int) -> None:
        self.scale, self.last = _knots_per_unit(values), values.shape[1] - 1
        start = torch.cat((values[:, :1] - 1 / self.scale, values), dim=1)
        rise = torch.full_like(start, 1 / self.scale)
        rise[:, 1:-1] = values[:, 1:] - values[:, :-1]
        first = torch.arange(1, start.numel(), start.shape[1], device=values.device, dtype=torch.int32)
        copy = torch.arange(pixels, device=values.device, dtype=torch.int32).remainder_(COPIES).mul_(start.numel())
        self.first, self.copy = first[:, None], copy
        self.start, self.rise = start.flatten().repeat(COPIES), rise.flatten().repeat(COPIES)

    def evaluate(self, position: Tensor, index: Tensor, value: Tensor, rise: Tensor) -> None:
        """Fill the last three with pieces, φ and the rise of φ from knot to knot, all ``[L, pixels]``.

        ``position``, (v + 1) scale when it comes, becomes the fraction of the piece.
        """
        position.sub_(torch.floor(position, out=value).clamp_(-1, self.last))
        index.copy_(value).add_(self.first).add_(self.copy[: index.shape[1]])
        index.clamp_(0, len(self.start) - 1)  # the integer of a NaN may be anything
        torch.index_select(self.start, 0, index.view(-1), out=value.view(-1))
        torch.index_select(self.rise, 0, index.view(-1), out=rise.view(-1))
        value.addcmul_(position, rise)


class _KnotGradient:
    """What reaches the values at the knots from the pixels on every piece of :class:`_Pieces`."""

    def __init__(self, values: Tensor) -> None:
        channels, knots = values.shape
        self.by_start, self.by_end = values.new_zeros(2, COPIES, channels, knots + 1)

    def add(self, gradient: Tensor, at_end: Tensor, index: Tensor) -> None:
        """The gradient of pixels, and its part that the end of their piece has: times their fraction."""
        index = index.view(-1).long()
        self.by_start.view(-1).scatter_add_(0, index, gradient.view(-1))
        self.by_end.view(-1).scatter_add_(0, index, at_end.view(-1))

    def total(self) -> Tensor:
        """``[L, knots]``: piece i goes from knot i − 1 to knot i, the first and the last hang on one."""
        start, end = self.by_start.sum(0), self.by_end.sum(0)
        values = start[:, 1:] - end[:, 1:]
        values += end[:, :-1]
        values[:, 0] += start[:, 0] - end[:, 0]
        values[:, -1] += end[:, -1]
        return values


def _knots_per_unit(values: Tensor) -> float:
    return (values.shape[1] - 1) / 2


class _PiecewiseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, values: Tensor) -> Tensor:
        pieces = _Pieces(values, v.shape[1])
        position = (v.contiguous() + 1).mul_(pieces.scale)
        value, rise = torch.empty_like(position), torch.empty_like(position)
        index = torch.empty_like(position, dtype=torch.int32)
        pieces.evaluate(position, index, value, rise)
        ctx.save_for_backward(values, index, position, rise.mul_(pieces.scale))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        values, index, fraction, slope = ctx.saved_tensors
        gradient, knots = gradient.contiguous(), _KnotGradient(values)
        knots.add(gradient, gradient * fraction, index)
        return gradient * slope, knots.total()


class _BetweenFilters(torch.autograd.Function):
    """S φ(A p + b): ``[k², pixels]`` → the same shape, with A ``[L, k²]``, b ``[L, 1]`` and S ``[k², L]``."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, analysis: Tensor, bias: Tensor, values: Tensor, synthesis: Tensor) -> Tensor:
        ctx.save_for_backward(patches, analysis, bias, values, synthesis)
        result = torch.empty_like(patches)
        for here, _, _, value, _ in _strips(patches, analysis, bias, values):
            torch.mm(synthesis, value, out=result[:, here])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        patches, analysis, bias, values, synthesis = ctx.saved_tensors
        scale, knots = _knots_per_unit(values), _KnotGradient(values)
        steep = analysis.T * scale
        by_patches = torch.empty_like(patches)
        by_analysis, by_bias, by_synthesis = (torch.zeros_like(t) for t in (steep, bias, synthesis))
        for here, fraction, index, value, rise in _strips(patches, analysis, bias, values):
            by_synthesis.addmm_(gradient[:, here], value.T)
            change = torch.mm(synthesis.T, gradient[:, here], out=value)
            knots.add(change, fraction.mul_(change), index)
            change.mul_(rise)
            by_analysis.addmm_(patches[:, here], change.T)
            by_bias += change.sum(1, keepdim=True)
            torch.mm(steep, change, out=by_patches[:, here])
        return by_patches, by_analysis.T * scale, by_bias * scale, knots.total(), by_synthesis


def _strips(
    patches: Tensor, analysis: Tensor, bias: Tensor, values: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
    """Strips of pixels, and what :meth:`_Pieces.evaluate` makes of A p + b there, until the next one is asked for."""
    features, pixels = len(analysis), patches.shape[1]
    widest = min(STRIP, pixels)
    pieces = _Pieces(values, widest)
    analysis, bias = analysis * pieces.scale, (bias + 1) * pieces.scale
    work = patches.new_empty(3, features * widest)
    indices = torch.empty_like(work[0], dtype=torch.int32)
    for first in range(0, pixels, STRIP):
        width = min(STRIP, pixels - first)
        here, size = slice(first, first + width), features * width
        position, value, rise = work[:, :size].view(3, features, width)
        index = indices[:size].view(features, width)
        torch.addmm(bias, analysis, patches[:, here], out=position)
        pieces.evaluate(position, index, value, rise)
        yield here, position, index, value, rise
