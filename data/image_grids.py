"""From the pixels and units of a file to those of a dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from .splits import evenly
from .volume import Volume

Image = NDArray[np.float32]
WATER = 0.0192
"""Attenuation of water at 70 keV in 1/mm (NIST XCOM: 0.1928 cm²/g)."""


@dataclass(frozen=True)
class Attenuation:
    """Hounsfield units → 1/mm: μ = μ_water (1 + HU / 1000), never below air.

    Args:
        water: μ_water in 1/mm.
        hu: the interval whose width is the data range.
        display: grey window of pictures, in HU.
    """

    water: float = WATER
    hu: tuple[float, float] = (-1000.0, 1000.0)
    display: tuple[float, float] = (-400.0, 400.0)

    units = "1/mm"

    def __post_init__(self) -> None:
        if not (self.water > 0 and self.hu[0] < self.hu[1] and self.display[0] < self.display[1]):
            raise ValueError(
                f"water is {self.water} 1/mm, the interval {self.hu} HU, the window {self.display} HU; "
                "expected a positive attenuation and intervals that begin below their end"
            )

    @property
    def data_range(self) -> float:
        return self.water * (self.hu[1] - self.hu[0]) / 1000

    @property
    def window(self) -> tuple[float, float]:
        low, high = (self.convert(np.float64(edge)) for edge in self.display)
        return float(low), float(high)

    @property
    def labels(self) -> tuple[str, ...]:
        return (
            f"Hounsfield units as attenuation with μ_water = {self.water:g}/mm, air where below −1000 HU; "
            f"data range {self.data_range:.4g}/mm = {self.hu[0]:g} to {self.hu[1]:g} HU",
        )

    def convert(self, hu: np.ndarray | np.floating) -> np.ndarray:
        """1/mm."""
        return np.asarray(self.water * (1 + np.maximum(hu, -1000) / 1000))

    def scale(self, volume: Volume) -> float:
        """1; formats that state no unit, such as NIfTI, are taken to be in HU."""
        if volume.metadata.units not in ("HU", None):
            raise ValueError(f"{volume.metadata.path}: values are in {volume.metadata.units}, expected HU")
        return 1.0


@dataclass(frozen=True)
class Scaled:
    """Intensities divided by one number: fixed, or a percentile of each volume. The data range is 1.

    Args:
        divide_by: the number; where absent, the percentile.
        percentile: of the magnitude of a volume's values.
        display: grey window of pictures.
    """

    divide_by: float | None = None
    percentile: float = 99.5
    display: tuple[float, float] = (0.0, 1.0)

    units = ""
    data_range = 1.0

    def __post_init__(self) -> None:
        if self.divide_by is not None and not self.divide_by > 0:
            raise ValueError(f"divide_by is {self.divide_by}, expected a positive number")
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}, expected above 0 and up to 100")

    @property
    def window(self) -> tuple[float, float]:
        return self.display

    @property
    def labels(self) -> tuple[str, ...]:
        if self.divide_by is not None:
            return (f"intensities divided by {self.divide_by:g}",)
        return (f"each volume divided by its own {self.percentile:g}th percentile, so some values pass 1",)

    def convert(self, values: np.ndarray) -> np.ndarray:
        return values

    def scale(self, volume: Volume) -> float:
        """What the volume's values are divided by; from at most 64 slices, evenly spread."""
        if self.divide_by is not None:
            return self.divide_by
        values = np.concatenate([np.abs(volume.slice(i)).ravel() for i in evenly(len(volume), 64)])
        scale = float(np.percentile(values, self.percentile))
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"{volume.metadata.path}: its {self.percentile:g}th percentile is {scale}; is it empty?")
        return scale


@dataclass(frozen=True)
class Grid:
    """The grid of the truth, and s times as many pixels in each direction to simulate from.

    Args:
        size: N; the truth is N × N.
        pixel_size: of the truth, mm.
        oversampling: s.
        resample: images are brought to pixels of pixel_size / s, by linear interpolation after a Gaussian that
            keeps frequencies under the new Nyquist frequency. Without it, pixels stay as they are and count as
            pixel_size / s wide, whatever the file says. Both crop or pad around the centre.
    """

    size: int
    pixel_size: float
    oversampling: int = 1
    resample: bool = True

    def __post_init__(self) -> None:
        if self.size < 8 or self.oversampling < 1 or not self.pixel_size > 0:
            raise ValueError(
                f"grid of {self.size} pixels of {self.pixel_size} mm, oversampling {self.oversampling}; "
                "expected at least 8 pixels of a positive size, oversampling at least 1"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        if self.resample:
            return (f"resampled to pixels of {self.pixel_size / self.oversampling:g} mm",)
        fine = self.pixel_size / self.oversampling
        return (f"pixels are not resampled; each counts as {fine:g} mm, whatever the scanner's field of view",)

    def place(self, image: Image, spacing: tuple[float, float] | None) -> Image:
        """``[h, w]`` with pixels of ``spacing`` mm → ``[sN, sN]``."""
        fine = self.pixel_size / self.oversampling
        count = self.size * self.oversampling
        if not self.resample:
            return _centred(image, count)
        if spacing is None:
            raise ValueError("the file states no pixel spacing; give grid: native to take its pixels as they are")
        step = np.array([fine / spacing[0], fine / spacing[1]])
        smooth = gaussian_filter(image, np.maximum(0, (step - 1) / 2)) if (step > 1).any() else image
        # Pixel centres: output k stands at (k − (n − 1)/2) · fine from the centre of both images.
        offset = (np.array(image.shape) - 1) / 2 - step * (count - 1) / 2
        return affine_transform(smooth, step, offset, (count, count), order=1, mode="grid-constant", cval=0.0)


def _centred(image: Image, count: int) -> Image:
    """Crop or pad with zeros around the centre."""
    for axis in (0, 1):
        excess = image.shape[axis] - count
        if excess > 0:
            image = np.take(image, np.arange(excess // 2, excess // 2 + count), axis)
        elif excess < 0:
            before = -excess // 2
            image = np.pad(image, [(before, -excess - before) if a == axis else (0, 0) for a in (0, 1)])
    return image
