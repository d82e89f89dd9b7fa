"""k-space sampling masks: booleans ``[H, W]``, the zero frequency at (H // 2, W // 2).

Cartesian masks sample whole lines: as in fastMRI, the last axis is the phase-encoding axis, so that a line is a
column and is either sampled or not. Acceleration is the number of lines (or points) over the number sampled; the
number sampled is exact, rounded to the nearest whole one. The zero frequency is always sampled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .load import load_plane

Shape = tuple[int, int]


def cartesian_uniform(shape: Shape, acceleration: float, calibration_lines: int) -> Tensor:
    """Equally spaced lines outside a centre of ``calibration_lines`` adjacent lines.

    The spacing makes up for the centre, so that the acceleration of the whole is as asked.

    Raises:
        ValueError: if the acceleration leaves fewer lines than the calibration needs.
    """
    wanted, centre = _lines("cartesian_uniform", shape, acceleration, calibration_lines)
    # Outside columns in periodic order from the centre's right edge; the centre counts as one more lattice point.
    outside = np.roll(np.flatnonzero(~centre), -int(np.argmax(centre)))
    extra = wanted - int(centre.sum())
    steps = (np.arange(extra) + 1) * (len(outside) + 1) / (extra + 1)
    return _columns(shape, centre, outside[np.round(steps).astype(int) - 1])


def cartesian_random(shape: Shape, acceleration: float, calibration_lines: int, *, seed: int) -> Tensor:
    """Lines drawn uniformly without replacement outside a centre of ``calibration_lines`` adjacent lines.

    Raises:
        ValueError: if the acceleration leaves fewer lines than the calibration needs.
    """
    wanted, centre = _lines("cartesian_random", shape, acceleration, calibration_lines)
    extra = wanted - int(centre.sum())
    return _columns(shape, centre, np.random.default_rng(seed).permutation(np.flatnonzero(~centre))[:extra])


def cartesian_variable_density(
    shape: Shape, acceleration: float, calibration_lines: int, *, seed: int, power: float = 2.0
) -> Tensor:
    """Lines drawn without replacement with probability proportional to (1 − |k| / k_max)^power (Lustig et al. 2007).

    Raises:
        ValueError: if the acceleration leaves fewer lines than the calibration needs.
    """
    wanted, centre = _lines("cartesian_variable_density", shape, acceleration, calibration_lines)
    width = shape[1]
    outside = np.flatnonzero(~centre)
    distance = np.abs(outside - width // 2) / (width // 2 + 1)  # below 1: no line is impossible
    # The largest log p + Gumbel noise are a draw without replacement (Efraimidis & Spirakis 2006).
    scores = power * np.log1p(-distance) + np.random.default_rng(seed).gumbel(size=len(outside))
    return _columns(shape, centre, outside[np.argsort(-scores)[: wanted - int(centre.sum())]])


def pseudo_radial(shape: Shape, *, lines: int | None = None, fraction: float | None = None) -> Tensor:
    """Straight lines through the centre at equal angles, rounded to the grid.

    Args:
        shape: (H, W).
        lines: number of lines over 180°; or
        fraction: the share of k-space to sample, reached to within half a line, 1 / (2 min(H, W)).

    Raises:
        ValueError: unless exactly one of the two is given and can be met.
    """
    if (lines is None) == (fraction is None):
        raise ValueError(f"pseudo_radial: lines={lines} and fraction={fraction}, expected exactly one of them")
    if lines is None:
        lines = _lines_for_fraction(shape, float(fraction or 0))
    if lines < 1:
        raise ValueError(f"pseudo_radial: {lines} lines, expected at least 1")
    return torch.from_numpy(_radial(shape, lines))


def load_mask(path: str | Path, key: str | None = None) -> Tensor:
    """A mask from an NPY, MAT (v5 or v7.3) or PNG file; one value, any but zero, means sampled.

    Args:
        path: the file.
        key: name of the variable, where a MAT file holds several.

    Raises:
        ValueError: if the file holds no mask, or one whose zero frequency is in the corner.
    """
    plane = load_plane(path, key)
    if len(np.unique(plane[plane != 0])) != 1:
        raise ValueError(
            f"{path}: not a mask, it has {len(np.unique(plane))} distinct values; expected 0 and one other"
        )
    mask = plane != 0
    if mask[0, 0] and not mask[mask.shape[0] // 2, mask.shape[1] // 2]:
        raise ValueError(f"{path}: the zero frequency seems to be in the corner; apply fftshift to the mask first")
    return torch.from_numpy(mask)


def _lines(name: str, shape: Shape, acceleration: float, calibration_lines: int) -> tuple[int, np.ndarray]:
    """How many columns to sample, and which of them are the centre."""
    width = shape[1]
    centre = np.zeros(width, dtype=bool)
    size = max(calibration_lines, 1)
    wanted = round(width / acceleration) if acceleration >= 1 else 0
    if not size <= wanted <= width or calibration_lines < 0:
        raise ValueError(
            f"{name}: acceleration {acceleration:g} of {width} lines leaves {wanted}, calibration takes "
            f"{calibration_lines}; expected 1 ≤ acceleration ≤ {width} / max(calibration_lines, 1)"
        )
    start = width // 2 - size // 2
    centre[start : start + size] = True
    return wanted, centre


def _columns(shape: Shape, centre: np.ndarray, extra: np.ndarray) -> Tensor:
    columns = centre.copy()
    columns[extra] = True
    return torch.from_numpy(np.broadcast_to(columns, shape).copy())


def _radial(shape: Shape, lines: int) -> np.ndarray:
    height, width = shape
    mask = np.zeros(shape, dtype=bool)
    angles = np.pi * np.arange(lines) / lines
    # Steps of one row or one column along the steeper axis: no gaps, no doubled pixels.
    direction = np.stack([np.sin(angles), np.cos(angles)])
    direction /= np.abs(direction).max(axis=0)
    reach = np.arange(-max(shape), max(shape) + 1)
    rows = np.rint(direction[0][:, None] * reach).astype(int) + height // 2
    columns = np.rint(direction[1][:, None] * reach).astype(int) + width // 2
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    mask[rows[inside], columns[inside]] = True
    return mask


def _lines_for_fraction(shape: Shape, fraction: float) -> int:
    low, high = 1, 4 * max(shape)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _radial(shape, middle).mean() < fraction else (low, middle)
    # Coverage is not quite monotone in the number of lines.
    near = range(max(1, low - 8), low + 10)
    gaps = [abs(_radial(shape, lines).mean() - fraction) for lines in near]
    tolerance = 0.5 / min(shape)
    if min(gaps) > tolerance:
        raise ValueError(
            f"pseudo_radial: no number of lines samples the share {fraction:g} of {shape[0]} × {shape[1]} within "
            f"{tolerance:.2g}; expected a fraction between 1 / {min(shape)} and 1"
        )
    return near[int(np.argmin(gaps))]
