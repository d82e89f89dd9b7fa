"""Second-order total generalised variation (Bredies, Kunisch & Pock 2010)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from .gradient import gradient, gradient_adjoint, joint_length, shrink
from .terms import Term, balance

GROUPS = 3  # the image, and the rows and the columns of the field v


class SlopeTerm(Term):
    """λ Σ |∇x − v| of the unknown (x, v), ``[B, 3C, H, W]``.

    Across the far edges, where ∇x has no difference, v is not compared with anything: affine images cost nothing.

    Args:
        weight: λ.
    """

    groups = GROUPS

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def analysis(self, x: Tensor) -> Tensor:
        image, field = _split(x)
        return gradient(image) - _without_far_edges(field)

    def adjoint(self, c: Tensor) -> Tensor:
        return torch.cat([gradient_adjoint(c), -_without_far_edges(c).flatten(1, 2)], dim=1)

    def value(self, c: Tensor) -> Tensor:
        return self.weight * joint_length(c).sum((-2, -1))

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        return shrink(c, self.weight * step)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        rows, columns = _differences(domain)
        one, zero = torch.ones_like(rows), torch.zeros_like(rows)
        K = torch.stack([torch.stack([rows, -one, zero]), torch.stack([columns, zero, -one])])
        return torch.einsum("kahw,kbhw->abhw", K.conj(), K)

    def first_penalty(self, c: Tensor) -> Tensor:
        return balance(self.weight, c)


class CurvatureTerm(Term):
    """λ Σ |E v|, E the symmetrised derivative of the field v in the unknown (x, v), ``[B, 3C, H, W]``.

    Its three parts are the rows', the columns', and √2 times the mixed derivative, so that the length is Frobenius'.

    Args:
        weight: λ.
    """

    groups = GROUPS
    share = 8.0  # curvature is sparser than slopes: half of them takes three times as long

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def analysis(self, x: Tensor) -> Tensor:
        _, field = _split(x)
        along_rows, along_columns = _backward(field, -2), _backward(field, -1)
        mixed = (along_columns[:, 0] + along_rows[:, 1]) * math.sqrt(0.5)
        return torch.stack([along_rows[:, 0], along_columns[:, 1], mixed], dim=1)

    def adjoint(self, c: Tensor) -> Tensor:
        mixed = c[:, 2] * math.sqrt(0.5)
        rows = _backward_adjoint(c[:, 0], -2) + _backward_adjoint(mixed, -1)
        columns = _backward_adjoint(c[:, 1], -1) + _backward_adjoint(mixed, -2)
        return torch.cat([torch.zeros_like(rows), rows, columns], dim=1)

    def value(self, c: Tensor) -> Tensor:
        return self.weight * joint_length(c).sum((-2, -1))

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        return shrink(c, self.weight * step)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        rows, columns = (-difference.conj() for difference in _differences(domain))
        zero = torch.zeros_like(rows)
        parts = [[zero, rows, zero], [zero, zero, columns], [zero, columns * math.sqrt(0.5), rows * math.sqrt(0.5)]]
        K = torch.stack([torch.stack(part) for part in parts])
        return torch.einsum("kahw,kbhw->abhw", K.conj(), K)

    def first_penalty(self, c: Tensor) -> None:
        return None  # v is zero at first


def _split(u: Tensor) -> tuple[Tensor, Tensor]:
    """(x ``[B, C, H, W]``, v ``[B, 2, C, H, W]``)."""
    channels = u.shape[1] // GROUPS
    return u[:, :channels], u[:, channels:].unflatten(1, (2, channels))


def _without_far_edges(field: Tensor) -> Tensor:
    rows, columns = field.unbind(1)
    return torch.stack([pad(rows[..., :-1, :], (0, 0, 0, 1)), pad(columns[..., :-1], (0, 1))], dim=1)


def _backward(x: Tensor, dim: int) -> Tensor:
    """x_i − x_{i−1}, zero at the near edge."""
    return pad(x.diff(dim=dim), (1, 0) if dim == -1 else (0, 0, 1, 0))


def _backward_adjoint(c: Tensor, dim: int) -> Tensor:
    inner = c.narrow(dim, 1, c.shape[dim] - 1)
    before, after = ((1, 0), (0, 1)) if dim == -1 else ((0, 0, 1, 0), (0, 0, 0, 1))
    return pad(inner, before) - pad(inner, after)


def _differences(domain: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The transfer functions of forward differences along rows and columns, ``[H, W]`` complex."""
    turns = (torch.arange(n, dtype=torch.float64) * (2 * torch.pi / n) for n in domain[1:])
    rows, columns = (torch.polar(torch.ones_like(turn), turn) - 1 for turn in turns)
    return rows[:, None].expand(domain[1:]), columns.expand(domain[1:])
