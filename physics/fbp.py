"""Filtered back-projection for parallel and fan beams.

Parallel (Kak & Slaney 1988, §3.3):  f(x, y) = ∫₀^π (p_θ ∗ h)(x cos θ + y sin θ) dθ.
Fan with a flat detector (§3.4.2):   f(x, y) = ∫ U⁻² ((m p cos γ) ∗ h)(s) dβ, on the detector scaled to the axis, where
U is the distance of the pixel along the central ray over the source–axis distance, γ the angle of the ray, and m the
redundancy weight: ½ for a full circle, Parker's for a short scan. A detector that is displaced on a full circle, of
either beam, sees the outer rays once only: the others are weighted accordingly, and what the filter spreads beyond its
near end counts.

h is the band-limited ramp, sampled in space (so that its mean is right) and windowed in frequency. The back-projection
interpolates linearly at the projection of each pixel's centre.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from .geometry import FanBeam, Geometry
from .view_symmetry import SAME_ANGLE

WINDOWS = ("ram-lak", "shepp-logan", "cosine", "hann", "hamming")

# A gap between neighbouring views of more than this many times the median is the end of the scan and not a cell of the
# integral. Parallel views, which no redundancy weight makes up for, stretch over a gap of up to a tenth of the half
# circle all the same: views at random angles have such gaps, and a small missing wedge is better filled than left dark.
END_OF_SCAN = 4.0
FILLED = 0.1


class Completed(NamedTuple):
    """A geometry for back-projection, and the elements that its detector has before and after those that measure."""

    geometry: Geometry
    before: int
    after: int


@lru_cache(maxsize=32)
def complete(geometry: Geometry) -> Completed:
    """A detector that reaches as far to both sides of the axis, for one that is displaced on a full circle.

    It becomes at most twice as long, which is enough for one that sees the axis.
    """
    missing = round(abs(_displacement(geometry)) / geometry.spacing) if _full_circle(geometry) else 0
    missing = min(missing, geometry.detectors)
    before, after = (missing, 0) if _displacement(geometry) > 0 else (0, missing)
    if not missing:
        return Completed(geometry, 0, 0)
    offset = geometry.offset + (before - after) / 2 * geometry.spacing
    return Completed(replace(geometry, detectors=geometry.detectors + missing, offset=offset), before, after)


def filter_sinogram(y: Tensor, geometry: Geometry, window: str, cutoff: float) -> Tensor:
    """Weight the rays of ``[B, 1, views, detectors]`` by redundancy and angle, and filter them along the detector.

    What comes out is on the detector of the :func:`complete` geometry.
    """
    weights, response = _weights_and_response(geometry, window, cutoff)
    whole, before, after = complete(geometry)
    count = response.numel() * 2 - 2
    spectrum = torch.fft.rfft(torch.nn.functional.pad(y * weights.to(y), (before, after)), n=count)
    return torch.fft.irfft(spectrum * response.to(y), n=count)[..., : whole.detectors]


def interpolation_matrix(
    geometry: Geometry, image_shape: tuple[int, int], pixel_size: float, chosen: Sequence[int]
) -> sparse.csr_matrix:
    """The transpose of the back-projection of some views: rows (view, detector), columns the pixels."""
    detectors, pixels = geometry.detectors, image_shape[0] * image_shape[1]
    blocks = []
    for lower, fraction, weight in _footprints(geometry, image_shape, pixel_size, chosen):
        # One row of the transpose of a block holds a pixel's two neighbours on the detector.
        columns = np.stack([lower, lower + 1], axis=1).ravel()
        values = np.stack([weight * (1 - fraction), weight * fraction], axis=1).ravel()
        inside = (columns >= 0) & (columns < detectors)
        rows = np.repeat(np.arange(pixels), 2)[inside]
        shape = (detectors, pixels)
        blocks.append(sparse.csr_matrix((values[inside].astype(np.float32), (columns[inside], rows)), shape=shape))
    return sparse.vstack(blocks, format="csr")


def interpolate(q: Tensor, geometry: Geometry, image_shape: tuple[int, int], pixel_size: float) -> Tensor:
    """Back-project filtered ``[B, 1, views, detectors]`` view by view, without a matrix: ``[B, 1, H, W]``."""
    padded = torch.nn.functional.pad(q[:, 0], (1, 1))
    image = q.new_zeros(q.shape[0], image_shape[0] * image_shape[1])
    every = range(len(geometry.angles))
    for view, (lower, fraction, weight) in enumerate(_footprints(geometry, image_shape, pixel_size, every)):
        position = torch.from_numpy(np.clip(lower + 1, 0, geometry.detectors)).to(q.device)
        outside = torch.from_numpy((lower < -1) | (lower >= geometry.detectors)).to(q.device)
        part, scale = torch.from_numpy(fraction).to(q), torch.from_numpy(weight).to(q).masked_fill(outside, 0)
        line = padded[:, view]
        image = image + scale * ((1 - part) * line[:, position] + part * line[:, position + 1])
    return image.reshape(-1, 1, *image_shape)


def view_weights(geometry: Geometry) -> np.ndarray:
    """Δθ of each view: half the distance between its neighbours; the ends of a scan weigh as much as their inside.

    Views at the same angle, or of parallel beams at the opposite one, share its Δθ evenly.
    """
    period = 2 * math.pi if isinstance(geometry, FanBeam) else math.pi
    angles = np.remainder(geometry.angles, period)
    order = np.argsort(angles, kind="stable")
    before = np.diff(angles[order], prepend=angles[order[-1]] - period)
    first = before > SAME_ANGLE
    if first.sum() < 2:
        return np.full(angles.size, period / angles.size)
    places = np.empty_like(order)
    places[order] = (np.cumsum(first) - 1) % first.sum()  # which distinct angle; those before the first are its last
    gaps = np.diff(angles[order][first], append=angles[order][first][0] + period)
    typical = np.median(gaps)
    filled = 0.0 if isinstance(geometry, FanBeam) else FILLED * period
    gaps = np.where(gaps > max(END_OF_SCAN * typical, filled), typical, gaps)
    return ((gaps + np.roll(gaps, 1)) / 2 / np.bincount(places))[places]


@lru_cache(maxsize=32)
def _weights_and_response(geometry: Geometry, window: str, cutoff: float) -> tuple[Tensor, Tensor]:
    """Weights ``[views, detectors]`` of the rays, and the filter's response at the frequencies of a padded rfft."""
    weights = view_weights(geometry)[:, None] * _overlap(geometry)
    spacing = geometry.spacing
    if isinstance(geometry, FanBeam):
        spacing *= geometry.source_axis / geometry.source_detector
        tangent = geometry.detector_coordinates() / geometry.source_detector
        weights = weights * _redundancy(geometry, np.arctan(tangent)) / np.sqrt(1 + tangent**2)
    response = _response(complete(geometry).geometry.detectors, spacing, window, cutoff)
    return torch.from_numpy(weights), torch.from_numpy(response)


def _response(detectors: int, spacing: float, window: str, cutoff: float) -> np.ndarray:
    if window not in WINDOWS:
        raise ValueError(f"Radon: filter is {window!r}, expected one of {', '.join(WINDOWS)}")
    if not 0 < cutoff <= 1:
        raise ValueError(f"Radon: the cutoff of the filter is {cutoff}, expected a fraction of Nyquist in (0, 1]")
    count = 2 ** math.ceil(math.log2(max(2 * detectors, 2)))
    steps = np.minimum(np.arange(count), count - np.arange(count))
    odd = steps % 2 == 1
    kernel = np.zeros(count)
    kernel[0] = 1 / 4
    kernel[odd] = -1 / (math.pi * steps[odd]) ** 2
    ramp = np.fft.rfft(kernel).real / spacing
    frequency = np.linspace(0, 1, ramp.size) / cutoff  # 1 is where the filter ends
    taper = {
        "ram-lak": np.ones_like(frequency),
        "shepp-logan": np.sinc(frequency / 2),
        "cosine": np.cos(math.pi / 2 * frequency),
        "hann": 0.5 + 0.5 * np.cos(math.pi * frequency),
        "hamming": 0.54 + 0.46 * np.cos(math.pi * frequency),
    }[window]
    return np.where(frequency <= 1 + 1e-12, ramp * taper, 0.0)


def _overlap(geometry: Geometry) -> np.ndarray:
    """2 w(t), ``[detectors]``, with w of a ray and of its opposite, which a full circle measures at −t, adding up to 1.

    w is ½ where both are measured and 1 where only one is, and changes in a sine over the whole overlap (Wang 2002); in
    one at each of its ends for a small displacement, so that little noise is added.
    """
    t, reach = geometry.detector_coordinates(), _displacement(geometry)
    if abs(reach) < 1e-9 * geometry.spacing or not _full_circle(geometry):
        return np.ones_like(t)
    t = t * np.sign(reach)
    overlap = max(-t.min(), 0.0) + geometry.spacing / 2
    half_width = min(abs(reach), overlap)
    steps = [(t + side * (overlap - half_width)) / half_width for side in (-1, 1)]
    return 1 + sum(np.sin(math.pi / 2 * np.clip(step, -1, 1)) for step in steps) / 2


def _displacement(geometry: Geometry) -> float:
    """How much farther the detector sees towards positive t than towards negative t."""
    return -2 * geometry.offset


def _full_circle(geometry: Geometry) -> bool:
    """Whether the views go all the way round, so that every ray within the overlap is met from both sides."""
    angles = np.sort(np.remainder(geometry.angles, 2 * math.pi))
    gaps = np.diff(angles, append=angles[0] + 2 * math.pi)
    return bool(gaps.max() < math.pi and gaps.max() <= END_OF_SCAN * np.median(gaps[gaps > SAME_ANGLE]))


def _redundancy(geometry: FanBeam, gamma: np.ndarray) -> np.ndarray:
    """m(β, γ), ``[views, detectors]``, with m of a ray and its opposite adding up to 1 (Parker 1982, Silver 2000)."""
    angles = np.remainder(geometry.angles, 2 * math.pi)
    order = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + 2 * math.pi)
    covered = float(view_weights(geometry).sum())
    if covered > 2 * math.pi * (1 - 1e-6):
        return np.full((angles.size, gamma.size), 0.5)
    excess = (covered - math.pi) / 2  # the half-angle that this scan is a short scan of; wider rays lack opposites
    first = angles[order[(int(np.argmax(gaps)) + 1) % angles.size]] - covered / angles.size / 2
    beta = np.remainder(angles - first, 2 * math.pi)[:, None]
    # Views turn anticlockwise: ray (β, γ) is met again, from the other side, at (β + π − 2γ, −γ).
    # They share their weight over the widths 2 (excess ± γ); where that is negative, nothing is met again.
    tiny = np.finfo(float).tiny
    rise = np.clip(beta / np.maximum(2 * (excess + gamma), tiny), 0, 1)
    fall = np.clip((covered - beta) / np.maximum(2 * (excess - gamma), tiny), 0, 1)
    return np.sin(math.pi / 2 * rise) ** 2 * np.sin(math.pi / 2 * fall) ** 2


def _footprints(
    geometry: Geometry, image_shape: tuple[int, int], pixel_size: float, chosen: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each view and every pixel: the detector element below its projection, the fraction beyond it, the weight."""
    height, width = image_shape
    x = np.tile((np.arange(width) - (width - 1) / 2) * pixel_size, height)
    y = np.repeat(((height - 1) / 2 - np.arange(height)) * pixel_size, width)
    for view in chosen:
        cosine, sine = math.cos(geometry.angles[view]), math.sin(geometry.angles[view])
        coordinate, weight = x * cosine + y * sine, np.ones_like(x)
        if isinstance(geometry, FanBeam):
            distance = geometry.source_axis - x * sine + y * cosine
            if distance.min() <= 0:
                raise ValueError(
                    f"Radon: the image reaches {-distance.min():.4g} mm behind the source, which is "
                    f"{geometry.source_axis} mm from the axis; expected a smaller image or a larger distance"
                )
            coordinate, weight = (
                coordinate * geometry.source_detector / distance,
                (geometry.source_axis / distance) ** 2,
            )
        position = (coordinate - geometry.detector_coordinates()[0]) / geometry.spacing
        lower = np.floor(position).astype(np.int64)
        yield lower, position - lower, weight
