"""Seeded generators and smooth random fields that look the same at every resolution."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

Array = NDArray[np.float64]


def generator(family: str, seed: int, index: int) -> np.random.Generator:
    """The generator of image ``index`` of a family: a function of its arguments alone.

    Image k is therefore the same however many images are asked for, in whatever order, and two families with one
    seed do not share their draws.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"{family}: seed {seed} and index {index} must not be negative")
    return np.random.default_rng([seed, index, zlib.crc32(family.encode())])


def smooth_field(rng: np.random.Generator, cells: int, shape: tuple[int, int]) -> Array:
    """A Gaussian random field of unit variance, features about 1/``cells`` of the shorter side, ``[H, W]``.

    Independent normal weights on a lattice that depends on nothing but ``cells``, times cubic B-splines averaged
    over each pixel: the field of half the resolution is the block average of this one, exactly.
    """
    # The lattice covers the central square only, so that images of all shapes share it.
    rows, columns = (_basis(cells, n, min(shape)) for n in shape)
    weights = rng.standard_normal((cells + 3, cells + 3))
    return rows @ weights @ columns.T


def texture(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, ...], decay: float = 0.6) -> Array:
    """Sum of smooth fields, coarse to fine, each ``decay`` times as strong as the one before; unit variance."""
    strengths = decay ** np.arange(len(cells))
    field = sum(s * smooth_field(rng, n, shape) for s, n in zip(strengths, cells, strict=True))
    return np.asarray(field) / np.sqrt(np.sum(strengths**2))


@lru_cache(maxsize=64)
def _basis(cells: int, pixels: int, shorter: int) -> Array:
    """Pixel averages of the cubic B-splines of a lattice, ``[pixels, cells + 3]``; constant outside the square."""
    spline = BSpline(np.arange(-3, cells + 4, dtype=float), np.eye(cells + 3), 3)
    integral = spline.antiderivative()
    # Pixel borders in lattice cells; the square of side ``shorter`` is centred in the image.
    borders = (np.arange(pixels + 1) - pixels / 2 + shorter / 2) / shorter * cells
    within = np.clip(borders, 0, cells)
    primitive = integral(within) + (borders - within)[:, None] * spline(within)
    # Independent weights of unit variance give the variance Σ B², which is 151/315 on average in each direction.
    return np.asarray(np.diff(primitive, axis=0)) * (shorter / cells) / np.sqrt(151 / 315)
