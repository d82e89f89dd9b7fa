"""Scan geometries, as values: what is measured, without how it is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def views(count: int, start: float = 0.0, stop: float = math.pi, half_cell: bool = False) -> tuple[float, ...]:
    """Equally spaced view angles in radians, one for each of ``count`` equal cells of [start, stop).

    Args:
        half_cell: put each view at the centre of its cell instead of at its beginning.
    """
    if count < 1:
        raise ValueError(f"views: count is {count}, expected at least 1")
    if not stop > start:
        raise ValueError(f"views: the range is [{start}, {stop}), expected stop > start")
    cell = (stop - start) / count
    return tuple(start + cell * (k + (0.5 if half_cell else 0.0)) for k in range(count))


@dataclass(frozen=True)
class ParallelBeam:
    """Parallel rays: view θ and detector coordinate t measure the line {(x, y): x cos θ + y sin θ = t}.

    The rotation axis is the origin, x points right and y up. Element j of the detector is centred at
    t = (j − (detectors − 1)/2) · spacing − offset.

    Args:
        angles: θ of each view, radians.
        detectors: number of elements.
        spacing: of the elements, mm.
        offset: where the rotation axis projects, relative to the detector's centre, mm.
    """

    angles: Sequence[float]
    detectors: int
    spacing: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def detector_coordinates(self) -> np.ndarray:
        """t of each element, mm from the rotation axis."""
        return (np.arange(self.detectors) - (self.detectors - 1) / 2) * self.spacing - self.offset


@dataclass(frozen=True)
class FanBeam:
    """Rays from a point source to a flat detector, both turning around the origin.

    At angle θ the source is at ``source_axis`` · (sin θ, −cos θ) and the detector, perpendicular to the central ray,
    runs along (cos θ, sin θ) at distance ``source_detector`` from the source.

    Args:
        angles: θ of each view, radians.
        detectors: number of elements.
        spacing: of the elements on the detector, mm.
        source_axis: distance from source to rotation axis, mm.
        source_detector: distance from source to detector, mm.
        offset: where the rotation axis projects, relative to the detector's centre, mm on the detector.
    """

    angles: Sequence[float]
    detectors: int
    spacing: float
    source_axis: float
    source_detector: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        if not 0 < self.source_axis <= self.source_detector:
            raise ValueError(
                f"FanBeam: source–axis distance {self.source_axis} mm and source–detector distance "
                f"{self.source_detector} mm; expected 0 < source_axis ≤ source_detector"
            )

    def detector_coordinates(self) -> np.ndarray:
        """Coordinate of each element on the detector, mm from the projection of the rotation axis."""
        return (np.arange(self.detectors) - (self.detectors - 1) / 2) * self.spacing - self.offset

    @property
    def half_angle(self) -> float:
        """The largest angle between a measured ray and the central ray, radians."""
        return math.atan(float(np.abs(self.detector_coordinates()).max()) / self.source_detector)


Geometry = ParallelBeam | FanBeam


def _check(geometry: Geometry) -> None:
    name = type(geometry).__name__
    angles = tuple(float(a) for a in np.ravel(np.asarray(geometry.angles, dtype=float)))
    object.__setattr__(geometry, "angles", angles)
    if not angles or not np.isfinite(angles).all():
        raise ValueError(f"{name}: angles must be one or more finite numbers in radians, got {geometry.angles!r}")
    if geometry.detectors < 1:
        raise ValueError(f"{name}: detectors is {geometry.detectors}, expected at least 1")
    if not geometry.spacing > 0:
        raise ValueError(f"{name}: detector spacing is {geometry.spacing} mm, expected a positive length")
    if not math.isfinite(geometry.offset):
        raise ValueError(f"{name}: the offset of the rotation axis is {geometry.offset} mm, expected a finite length")
