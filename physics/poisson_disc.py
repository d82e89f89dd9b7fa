"""Variable-density Poisson-disc masks for two phase-encoding axes."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor


def poisson_disc(shape: tuple[int, int], acceleration: float, calibration: int, *, seed: int) -> Tensor:
    """Random points that keep a distance which grows from the centre of k-space outwards.

    Points are thrown one to a pixel, anywhere in the pixel, in random order; one stays unless it lies within r(q) of
    a point q that stayed before it. r(k) = r₀ (1 + 2 |k|), with |k| = 1 at the middle of the edges, where the density
    is therefore a ninth of that at the centre. r₀ is searched so that round(H W / acceleration) points stay exactly.

    Args:
        shape: (H, W).
        acceleration: pixels over samples.
        calibration: side of the fully sampled square at the centre.
        seed: of the positions and their order.

    Returns:
        booleans ``[H, W]``, the zero frequency at (H // 2, W // 2).

    Raises:
        ValueError: if the acceleration leaves fewer points than the calibration needs.
    """
    height, width = shape
    side = max(calibration, 1)
    wanted = round(height * width / acceleration) if acceleration >= 1 else 0
    if not side**2 <= wanted <= height * width or side > min(shape) or calibration < 0:
        raise ValueError(
            f"poisson_disc: acceleration {acceleration:g} of {height} × {width} leaves {wanted} points, calibration "
            f"takes {calibration}²; lower one of them"
        )
    mask = np.zeros(shape, dtype=bool)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    mask[top : top + side, left : left + side] = True

    random = np.random.default_rng(seed)
    order = random.permutation(np.flatnonzero(~mask))
    positions = np.indices(shape) + random.uniform(-0.5, 0.5, (2, height, width))
    rows, columns = np.indices(shape)
    distance = np.hypot((rows - height // 2) / (height / 2), (columns - width // 2) / (width / 2))
    points = _about(wanted - side**2, order, positions, 1 + 2 * distance)
    mask.flat[points] = True
    return torch.from_numpy(mask)


def _about(count: int, order: np.ndarray, positions: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Exactly ``count`` points whose distances follow ``radius`` times a factor."""
    if count in (0, len(order)):
        return order[:count]
    shape = radius.flat[order] ** 2

    def excess(factor: float, target: float) -> float:
        # Random sequential addition jams at 0.547 of the plane covered by discs of diameter r, that is 0.7 / r² points.
        return float((1 / (1 + factor**2 * shape / 0.7)).sum()) - target

    target = float(count)
    for _ in range(20):
        factor = brentq(excess, 0, 10 * max(radius.shape), args=(min(target, 0.999 * len(order)),))
        points = _dart_throwing(order, positions, factor * radius)
        if count <= len(points) <= 1.02 * count + 8:
            break
        target *= (1.01 * count + 2) / len(points)
    # Leaving out the last, which filled gaps, keeps all distances; the others stand by in case none of the tries fits.
    return np.concatenate([points, np.setdiff1d(order, points)])[:count]


def _dart_throwing(order: np.ndarray, positions: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Points of ``order``, each kept unless it lies within the disc of a point kept before it."""
    ys, xs = positions
    blocked = np.zeros(radius.shape, dtype=bool)
    kept = []
    rows, columns = np.divmod(order, radius.shape[1])
    reaches = np.ceil(radius.flat[order] + 0.5).astype(int)
    for point, row, column, reach in zip(
        order.tolist(), rows.tolist(), columns.tolist(), reaches.tolist(), strict=True
    ):
        if blocked[row, column]:
            continue
        kept.append(point)
        window = (slice(max(row - reach, 0), row + reach + 1), slice(max(column - reach, 0), column + reach + 1))
        squared = (ys[window] - ys[row, column]) ** 2 + (xs[window] - xs[row, column]) ** 2
        blocked[window] |= squared < radius[row, column] ** 2
    return np.array(kept, dtype=int)
