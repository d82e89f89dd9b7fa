"""Sparsity in a wavelet basis, or in the tight frame of all its shifts."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .terms import Term, balance
from .wavelets import approximation_size, checked_levels, default_levels, dwt2, idwt2, iswt2, swt2


class WaveletTerm(Term):
    """λ Σ_j |(W x)_j|: the channels of a complex image share one magnitude, the coarsest approximation is free.

    Translation invariant, it is the mean of that over all shifts of the image (Coifman & Donoho 1995), as long as sides
    are multiples of 2^levels: a Parseval frame's details at level j count 2^−j. So λ means the same in both.

    Args:
        weight: λ ≥ 0, in the units of the image.
        family: as for :func:`dwt2`.
        levels: as for :func:`dwt2`.
        translation_invariant: whether W is :func:`swt2`, a tight frame, instead of :func:`dwt2`, a basis.

    Raises:
        ValueError: for an unknown family; for too many levels, once images come.
    """

    def __init__(
        self, weight: float, family: str = "db4", levels: int | None = None, translation_invariant: bool = False
    ) -> None:
        default_levels(family, (2, 2))  # an unknown family is refused here
        self.weight, self.family, self.levels = weight, family, levels
        self.translation_invariant, self.orthonormal = translation_invariant, not translation_invariant

    def analysis(self, x: Tensor) -> Tensor:
        return (swt2 if self.translation_invariant else dwt2)(x, self.family, self.levels)

    def adjoint(self, c: Tensor) -> Tensor:
        return iswt2(c, self.family) if self.translation_invariant else idwt2(c, self.family, self.levels)

    def gram(self, x: Tensor, c: Tensor) -> Tensor:
        return x

    def value(self, c: Tensor) -> Tensor:
        return self.weight * (_magnitude(c) * self._shares(c)).flatten(1).sum(1)

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        """Joint soft thresholding; prox(0, ·) and its derivative are 0."""
        threshold = self.weight * step.reshape(-1, *[1] * (c.ndim - 1)) * self._shares(c)
        if c.shape[1] == 1:
            return c - torch.clamp(c, -threshold, threshold)
        return c * torch.clamp(1 - threshold / _magnitude(c), min=0)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        return torch.ones(domain[1:], dtype=torch.float64)

    def first_penalty(self, c: Tensor) -> Tensor:
        return balance(self.weight, c * self._shares(c))

    def _shares(self, c: Tensor) -> Tensor:
        """How much of λ falls on a coefficient, shaped to multiply ``c``."""
        if self.translation_invariant:
            return _shares_of_bands((c.shape[2] - 1) // 3, c.dtype, c.device)
        size = (c.shape[-2], c.shape[-1])
        levels = checked_levels(self.family, self.levels, size)
        return _shares_of_details(approximation_size(size, levels), size, c.dtype, c.device)


def _magnitude(c: Tensor) -> Tensor:
    """|c| over the channels, kept as one; the tiniest number for 0, where its derivative is 0."""
    square = sum(part.square() for part in c.split(1, 1))
    return square.clamp_min(torch.finfo(c.dtype).tiny).sqrt()


@lru_cache(maxsize=16)
def _shares_of_details(
    approximation: tuple[int, int], size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    shares = torch.ones(size, dtype=dtype, device=device)
    shares[: approximation[0], : approximation[1]] = 0
    return shares


@lru_cache(maxsize=16)
def _shares_of_bands(levels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    details = [2.0**-level for level in range(levels, 0, -1) for _ in range(3)]
    return torch.tensor([0.0, *details], dtype=dtype, device=device)[:, None, None]
