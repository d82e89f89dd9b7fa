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

    An odd side is not padded, since that is not orthonormal: n pixels have ⌈n/2⌉ approximations and ⌊n/2⌋ details. The
    few filters around the seam where the ends meet are made orthonormal among themselves; details first, so that at
    every level they stay blind to constant images. All other filters are the family's.

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
    return _Pair.apply(x, *_undecimated(family, checked_levels(family, levels, size), x))


def iswt2(c: Tensor, family: str = "db4") -> Tensor:
    """The adjoint of :func:`swt2` and an inverse of it, x = Wᵀc, from ``[B, C, 3·levels + 1, H, W]``."""
    return _Pair.apply(c, *reversed(_undecimated(family, (c.shape[2] - 1) // 3, c)))


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
    if not most:
        raise ValueError("wavelets: an image of a single pixel has no details; expected a larger one")
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


def _decimated(family: str, levels: int | None, image: Tensor) -> Maps:
    levels = checked_levels(family, levels, (image.shape[-2], image.shape[-1]))
    return partial(_split, family=family, levels=levels), partial(_merge, family=family, levels=levels)


def _split(x: Tensor, family: str, levels: int) -> Tensor:
    size, c = (x.shape[-2], x.shape[-1]), x.flatten(0, 1)
    for level in range(levels):
        h, w = approximation_size(size, level)
        part = _along_both(c[:, :h, :w], family, size, level, False)
        if level == 0:
            c = part.contiguous()
        else:
            c[:, :h, :w] = part
    return c.reshape(x.shape)


def _merge(c: Tensor, family: str, levels: int) -> Tensor:
    size, x = (c.shape[-2], c.shape[-1]), c.flatten(0, 1).clone()
    for level in reversed(range(levels)):
        h, w = approximation_size(size, level)
        part = _along_both(x[:, :h, :w], family, size, level, True)
        if level == 0:
            x = part
        else:
            x[:, :h, :w] = part
    return x.reshape(c.shape)


def _undecimated(family: str, levels: int, images: Tensor) -> Maps:
    size = (images.shape[-2], images.shape[-1])
    responses = _responses(family, levels, size, torch.promote_types(images.dtype, torch.complex32), images.device)
    return partial(_spread, responses=responses), partial(_gather, responses=responses)


def _spread(x: Tensor, responses: Tensor) -> Tensor:
    if x.shape[1] == 2:  # two images in one complex transform; real filters keep them apart
        parts = torch.fft.ifft2(torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]))[:, None] * responses)
        return torch.view_as_real(parts).movedim(-1, 1)
    half = responses[..., : x.shape[-1] // 2 + 1]
    return torch.fft.irfft2(torch.fft.rfft2(x)[:, :, None] * half, s=x.shape[-2:])


def _gather(c: Tensor, responses: Tensor) -> Tensor:
    if c.shape[1] == 2:
        parts = torch.fft.fft2(torch.view_as_complex(c.movedim(1, -1).contiguous()))
        image = torch.fft.ifft2(parts.mul_(responses.conj()).sum(1))
        return torch.stack([image.real, image.imag], dim=1)
    half = responses[..., : c.shape[-1] // 2 + 1]
    return torch.fft.irfft2(torch.fft.rfft2(c).mul_(half.conj()).sum(2), s=c.shape[-2:])


@lru_cache(maxsize=8)
def _responses(family: str, levels: int, size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The spectra of all bands of :func:`swt2`, ``[bands, H, W]`` in the order of ``fft2``."""
    lows: list[np.ndarray] = [np.ones(n) for n in size]
    bands: list[np.ndarray] = []
    for level in range(levels):
        (row, rows), (column, columns) = (
            [low * np.fft.fft(_shifts(taps, n, 1, 1, 2**level)[0]).conj() / np.sqrt(2) for taps in _filters(family)]
            for n, low in zip(size, lows, strict=True)
        )
        bands = [np.outer(rows, column), np.outer(row, columns), np.outer(rows, columns), *bands]
        lows = [row, column]
    return torch.as_tensor(np.stack([np.outer(*lows), *bands]), dtype=dtype, device=device)


def _along_both(x: Tensor, family: str, size: tuple[int, int], level: int, transposed: bool) -> Tensor:
    """M x Nᵀ of the approximations ``[N, h, w]`` of images of that size, M and N one level's matrices for its sides."""
    for n in size:
        x = _level(family, n, level, transposed, x.dtype, x.device).times_then_transpose(x)
    return x


@lru_cache(maxsize=256)
def _level(family: str, n: int, level: int, transposed: bool, dtype: torch.dtype, device: torch.device) -> _FewColumns:
    matrix = level_matrix(family, n, level)
    if transposed:
        return _FewColumns([matrix.T], RUN, dtype, device)
    return _FewColumns(np.array_split(matrix, 2), RUN // 2, dtype, device)


class _FewColumns:
    """A matrix in which every run of rows has non-zeros in few columns, so that a run is a small dense matrix.

    Args:
        parts: of the matrix, from top to bottom, whose runs with the same place have non-zeros in the same columns.
        run: rows of each part that are multiplied at once.
        dtype, device: of what is multiplied.
    """

    def __init__(self, parts: list[np.ndarray], run: int, dtype: torch.dtype, device: torch.device) -> None:
        n = parts[0].shape[1]
        self.sizes, self.run = [len(part) for part in parts], run
        starts = range(0, max(self.sizes), run)
        runs = [[part[start : start + run] for part in parts] for start in starts]
        columns = [np.flatnonzero(np.concatenate(own).any(0)) for own in runs]
        self.width = max(map(len, columns))
        self.columns: Tensor | None = None
        if n <= DENSE or 2 * self.width >= n:
            self.weights = torch.as_tensor(np.concatenate(parts), dtype=dtype, device=device)
            return
        # Runs with fewer columns repeat one, with weight zero.
        padded = [np.pad(own, (0, self.width - len(own)), mode="edge") for own in columns]
        weights = np.zeros((len(runs), self.width, len(parts), run))
        for weight, rows, own in zip(weights, runs, columns, strict=True):
            for k, part in enumerate(rows):
                weight[: len(own), k, : len(part)] = part[:, own].T
        self.weights = torch.as_tensor(weights, dtype=dtype, device=device).flatten(2)
        self.columns = torch.as_tensor(np.concatenate(padded), device=device)

    def times_then_transpose(self, x: Tensor) -> Tensor:
        """(M x)ᵀ of every image of ``[N, n, w]``: columns are read in runs of memory, and twice is both axes."""
        if self.columns is None:
            return (self.weights @ x).mT
        count, _, w = x.shape
        windows = x.index_select(1, self.columns).view(-1, self.width, w)
        products = torch.bmm(windows.mT, self.weights.expand(count, -1, -1, -1).flatten(0, 1))
        products = products.view(count, -1, w, len(self.sizes), self.run).permute(0, 2, 3, 1, 4)
        result = products.reshape(count, w, len(self.sizes), -1)
        if result.shape[2:].numel() == sum(self.sizes):
            return result.flatten(2)
        return torch.cat([result[:, :, k, :size] for k, size in enumerate(self.sizes)], dim=-1)


def level_matrix(family: str, n: int, level: int = 0) -> np.ndarray:
    """One level along a side of the image of n pixels, the finest first, orthonormal: approximations, then details."""
    constant = _constant(family, n, level)
    n = len(constant)
    if n == 1:
        return np.ones((1, 1))
    approximations, details = (
        _shifts(taps, n, rows, 2, 1) for taps, rows in zip(_filters(family), (n - n // 2, n // 2), strict=True)
    )
    # What a detail sees of a constant image, next to a seam of this level or of finer ones, its approximation removes.
    seen = _rounded(details @ constant) / (approximations[: n // 2] @ constant)
    details = _orthonormalised(details - seen[:, None] * approximations[: n // 2])
    approximations = _orthonormalised(approximations - _rounded(approximations @ details.T) @ details)
    return np.concatenate([approximations, details])


@lru_cache(maxsize=256)
def _constant(family: str, n: int, level: int) -> np.ndarray:
    """What a constant image is in the approximations that a level splits: constant too, but for seams of odd sides."""
    if level == 0:
        return np.ones(n)
    finer = _constant(family, n, level - 1)
    return level_matrix(family, n, level - 1)[: len(finer) - len(finer) // 2] @ finer / np.sqrt(2)


def _rounded(products: np.ndarray) -> np.ndarray:
    return np.where(np.abs(products) < ROUNDING, 0, products)


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
