"""Seeded generators and smooth random fields that look the same at every resolution."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

Array = NDArray[np.float64]

_FINE = 8  # points per pixel over which a basis function is averaged


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
    # Only the central square of the lattice is drawn for, so that square images of all sizes share it.
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
    """Pixel averages of the cubic B-splines of a lattice, ``[pixels, cells + 3]``; zero outside the square."""
    knots = np.arange(-3, cells + 4, dtype=float)
    # Position in lattice cells; the square of side ``shorter`` is centred in the image.
    fine = (np.arange(pixels * _FINE) + 0.5) / _FINE
    position = np.clip((fine - pixels / 2 + shorter / 2) / shorter * cells, 0, cells * (1 - 1e-12))
    values = BSpline.design_matrix(position, knots, 3).toarray()
    # Independent weights of unit variance give the variance Σ B², on average (151/315) in each direction.
    return values.reshape(pixels, _FINE, -1).mean(axis=1) / np.sqrt(151 / 315)
