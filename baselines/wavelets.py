"""Orthonormal wavelet transforms of images of any size, and their translation-invariant tight frames.

Both are a few separable levels, and along one axis a level is a matrix with few non-zeros in a row: filters that wrap
around the image's ends. On CPUs and GPUs alike, multiplying short runs of its rows at once as small dense matrices is
several times faster than strided convolutions, and the adjoint is the same thing with the matrix transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pywt
import torch
from torch import Tensor

RUN = 16  # rows that are multiplied at once: fewer waste time on calls, more on zeros
DENSE = 64  # sides up to which the whole matrix is multiplied
ROUNDING = 2e-15  # inner products of filters below it are zero


def dwt2(x: Tensor, family: str = "db4", levels: int | None = None) -> Tensor:
    """The periodised orthonormal wavelet transform, c = W x with WᵀW = WWᵀ = I (Mallat 1989).

    Coefficients have the shape of the image, in the nested layout: the approximation stands in the upper left corner of
    :func:`approximation_size`, the details beside, below and diagonally below it, coarse to fine. Where every side is a
    multiple of 2^levels they equal PyWavelets' ``wavedec2(mode="periodization")``.

    No padding makes an odd side even, since that is not orthonormal: a side of n pixels has ⌈n/2⌉ approximations and
    ⌊n/2⌋ details, and the filters next to where the image's ends meet are orthonormalised among themselves, details
    first. So they too are blind to constants, and all others are the filters themselves.

    Args:
        x: images ``[B, C, H, W]``; channels are transformed each alone.
        family: ``haar``, ``db1`` to ``db38``, ``sym2`` to ``sym20``, ``coif1`` to ``coif17``.
        levels: how often the approximation is split again; :func:`default_levels` when absent.

    Raises:
        ValueError: for an unknown family, and for more levels than halve the longer side to one pixel.
    """
    return _Pair.apply(x, *_decimated(family, levels, x))


def idwt2(c: Tensor, family: str = "db4", levels: int | None = None) -> Tensor:
    """The inverse and adjoint of :func:`dwt2`, x = Wᵀc, with the same arguments."""
    return _Pair.apply(c, *reversed(_decimated(family, levels, c)))


def swt2(x: Tensor, family: str = "db4", levels: int | None = None) -> Tensor:
    """The translation-invariant (undecimated, stationary) wavelet transform, a Parseval frame: WᵀW = I.

    Filters are spread by 2^(level−1) and divided by √2 instead of dropping every other value (Nason & Silverman 1995),
    which needs no divisibility. Where every side is a multiple of 2^levels, the details at level j are 2^−j times those
    of :func:`dwt2` for every shift of the image.

    Args:
        x: images ``[B, C, H, W]``.
        family: as for :func:`dwt2`.
        levels: as for :func:`dwt2`.

    Returns:
        ``[B, C, 3·levels + 1, H, W]``: the approximation, then for each level, coarse to fine, the details along
        rows' direction H, along W, and along both.

    Raises:
        ValueError: as :func:`dwt2` does.
    """
    size = (x.shape[-2], x.shape[-1])
    return _Pair.apply(x, *_undecimated(family, checked_levels(family, levels, size)))


def iswt2(c: Tensor, family: str = "db4") -> Tensor:
    """The adjoint of :func:`swt2` and an inverse of it, x = Wᵀc, from ``[B, C, 3·levels + 1, H, W]``."""
    return _Pair.apply(c, *reversed(_undecimated(family, (c.shape[2] - 1) // 3)))


def default_levels(family: str, size: tuple[int, int]) -> int:
    """As many levels as leave the shorter side's approximation no shorter than a filter less one tap; at least one."""
    n, length, levels = min(size), len(_filters(family)[0]), 0
    while n > 1 and (n + 1) // 2 >= length - 1:
        n, levels = (n + 1) // 2, levels + 1
    return min(max(levels, 1), _most_levels(size))


def checked_levels(family: str, levels: int | None, size: tuple[int, int]) -> int:
    """The number of levels that transforms of images of this size use; raises what :func:`dwt2` does."""
    default = default_levels(family, size)
    if levels is None:
        return default
    most = _most_levels(size)
    if not 1 <= levels <= most:
        raise ValueError(
            f"wavelets: {levels} levels of an image of {size[0]} × {size[1]} pixels; "
            f"expected 1 to {most}, or none for {default}"
        )
    return levels


def approximation_size(size: tuple[int, int], levels: int) -> tuple[int, int]:
    """Sides of the approximation: ⌈n/2^levels⌉ of each side n."""
    return -(-size[0] // 2**levels), -(-size[1] // 2**levels)


def _most_levels(size: tuple[int, int]) -> int:
    return (max(size) - 1).bit_length()


class _Pair(torch.autograd.Function):
    """A linear map and its adjoint, each the other's derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, apply: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.pair = adjoint, apply
        with torch.autocast(x.device.type, enabled=False):
            return apply(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Pair.apply(gradient, *ctx.pair), None, None


Maps = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _decimated(family: str, levels: int | None, x: Tensor) -> Maps:
    size = (x.shape[-2], x.shape[-1])
    sizes = [approximation_size(size, level) for level in range(checked_levels(family, levels, size))]
    return partial(_split, family=family, sizes=sizes), partial(_merge, family=family, sizes=sizes)


def _split(x: Tensor, family: str, sizes: list[tuple[int, int]]) -> Tensor:
    c = x.flatten(0, 1)
    for level, (h, w) in enumerate(sizes):
        part = _along_both(c[:, :h, :w], family, 0, False)
        if level == 0:
            c = part.contiguous()
        else:
            c[:, :h, :w] = part
    return c.reshape(x.shape)


def _merge(c: Tensor, family: str, sizes: list[tuple[int, int]]) -> Tensor:
    x = c.flatten(0, 1).clone() if len(sizes) > 1 else c.flatten(0, 1)
    for h, w in reversed(sizes[1:]):
        x[:, :h, :w] = _along_both(x[:, :h, :w], family, 0, True)
    for _ in sizes[:1]:
        x = _along_both(x, family, 0, True)
    return x.reshape(c.shape)


def _undecimated(family: str, levels: int) -> Maps:
    return partial(_spread, family=family, levels=levels), partial(_gather, family=family, levels=levels)


def _spread(x: Tensor, family: str, levels: int) -> Tensor:
    h, w = x.shape[-2:]
    low = x.flatten(0, 1)
    c = x.new_empty(len(low), 3 * levels + 1, h, w)
    for level in range(levels):
        parts = _along_both(low, family, 2**level, False)
        first = 3 * (levels - level) - 2
        c[:, first] = parts[:, h:, :w]
        c[:, first + 1] = parts[:, :h, w:]
        c[:, first + 2] = parts[:, h:, w:]
        low = parts[:, :h, :w]
    c[:, 0] = low
    return c.unflatten(0, x.shape[:2])


def _gather(c: Tensor, family: str, levels: int) -> Tensor:
    h, w = c.shape[-2:]
    bands = c.flatten(0, 1)
    low = bands[:, 0]
    for level in reversed(range(levels)):
        parts = c.new_empty(len(low), 2 * h, 2 * w)
        first = 3 * (levels - level) - 2
        parts[:, :h, :w] = low
        parts[:, h:, :w] = bands[:, first]
        parts[:, :h, w:] = bands[:, first + 1]
        parts[:, h:, w:] = bands[:, first + 2]
        low = _along_both(parts, family, 2**level, True)
    return low.reshape(*c.shape[:2], h, w)


def _along_both(x: Tensor, family: str, spread: int, transposed: bool) -> Tensor:
    """M x Nᵀ of every image of ``[N, h, w]``, M and N one level's matrices for its sides."""
    for _ in range(2):
        n = x.shape[1] // 2 if transposed and spread else x.shape[1]
        x = _level(family, n, spread, transposed, x.dtype, x.device).times_then_transpose(x)
    return x


@lru_cache(maxsize=256)
def _level(family: str, n: int, spread: int, transposed: bool, dtype: torch.dtype, device: torch.device) -> _FewColumns:
    matrix = undecimated_matrix(family, n, spread) if spread else decimated_matrix(family, n)
    return _FewColumns(matrix.T if transposed else matrix, dtype, device)


class _FewColumns:
    """A matrix in which every run of rows has non-zeros in few columns, so that a run is a small dense matrix."""

    def __init__(self, matrix: np.ndarray, dtype: torch.dtype, device: torch.device) -> None:
        self.rows, n = matrix.shape
        runs = [matrix[start : start + RUN] for start in range(0, self.rows, RUN)]
        columns = [np.flatnonzero(run.any(0)) for run in runs]
        self.width = max(map(len, columns))
        self.columns: Tensor | None = None
        if n <= DENSE or 2 * self.width >= n:
            self.weights = torch.as_tensor(matrix.copy(), dtype=dtype, device=device)
            return
        # Narrower runs repeat a column, with weight zero.
        padded = [np.pad(own, (0, self.width - len(own)), mode="edge") for own in columns]
        weights = np.zeros((len(runs), self.width, RUN))
        for weight, run, own in zip(weights, runs, columns, strict=True):
            weight[: len(own), : len(run)] = run[:, own].T
        self.weights = torch.as_tensor(weights, dtype=dtype, device=device)
        self.columns = torch.as_tensor(np.concatenate(padded), device=device)

    def times_then_transpose(self, x: Tensor) -> Tensor:
        """(M x)ᵀ of every image of ``[N, n, w]``: columns are read in runs of memory, and twice is both axes."""
        if self.columns is None:
            return (self.weights @ x).mT
        count, _, w = x.shape
        windows = x.index_select(1, self.columns).reshape(-1, self.width, w)
        products = torch.bmm(windows.mT, self.weights.repeat(count, 1, 1))
        return products.view(count, -1, w, RUN).transpose(1, 2).reshape(count, w, -1)[..., : self.rows]


@lru_cache(maxsize=64)
def decimated_matrix(family: str, n: int) -> np.ndarray:
    """One level along a side of n pixels, orthonormal: ⌈n/2⌉ rows of approximations, then ⌊n/2⌋ of details."""
    low, high = _filters(family)
    if n == 1:
        return np.ones((1, 1))
    details = _orthonormalised(_shifts(high, n, n // 2, 2, 1))
    approximations = _shifts(low, n, n - n // 2, 2, 1)
    if n % 2:
        # Two approximations meet at the seam without a detail between them.
        leak = approximations @ details.T
        leak[np.abs(leak) < ROUNDING] = 0
        approximations = _orthonormalised(approximations - leak @ details)
    return np.concatenate([approximations, details])


@lru_cache(maxsize=64)
def undecimated_matrix(family: str, n: int, spread: int) -> np.ndarray:
    """One level along a side of n pixels that keeps all shifts, 2n × n with orthonormal columns."""
    return np.concatenate([_shifts(taps, n, n, 1, spread) for taps in _filters(family)]) / np.sqrt(2)


def _shifts(taps: np.ndarray, n: int, count: int, stride: int, spread: int) -> np.ndarray:
    """``count`` rows of n pixels that hold the taps, wrapped around the ends, each row ``stride`` further."""
    rows = np.zeros((count, n))
    for k, tap in enumerate(taps):
        offset = spread * (len(taps) // 2 - k)
        rows[np.arange(count), (stride * np.arange(count) + offset) % n] += tap
    return rows


def _orthonormalised(rows: np.ndarray) -> np.ndarray:
    """(R Rᵀ)^(−1/2) R: the orthonormal rows nearest to R. Rows that are orthonormal already stay as they are."""
    gram = rows @ rows.T
    seam = np.flatnonzero((np.abs(gram - np.eye(len(rows))) > ROUNDING).any(1))
    left, _, right = np.linalg.svd(rows[seam], full_matrices=False)
    result = rows.copy()
    result[seam] = left @ right
    return result


@lru_cache(maxsize=64)
def _filters(family: str) -> tuple[np.ndarray, np.ndarray]:
    """Low- and high-pass taps, in PyWavelets' order and sign, orthonormal to the last digit."""
    if family not in pywt.wavelist("haar") + [name for kind in ("db", "sym", "coif") for name in pywt.wavelist(kind)]:
        raise ValueError(
            f"wavelets: no orthonormal family {family!r}; expected haar, db1 to db38, sym2 to sym20 or coif1 to coif17"
        )
    low = np.array(pywt.Wavelet(family).dec_lo)
    n = len(low)
    alternating = (-1.0) ** np.arange(n)
    # Tables give symlets to 1e-11: Newton's method for ⟨h, h(· − 2k)⟩ = δ_k and Σ (−1)^k h_k = 0.
    for _ in range(2):
        delayed = np.stack([np.pad(low, (2 * k, 0))[:n] for k in range(n // 2)])
        advanced = np.stack([np.pad(low, (0, 2 * k))[2 * k :] for k in range(n // 2)])
        residual = np.append(delayed @ low - np.eye(n // 2)[0], alternating @ low)
        jacobian = np.concatenate([delayed + advanced, alternating[None]])
        low = low - np.linalg.lstsq(jacobian, residual, rcond=None)[0]
    return low, -alternating * low[::-1]
