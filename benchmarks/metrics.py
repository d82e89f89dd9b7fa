"""Image quality of a reconstruction against the truth: one implementation of each measure, for every method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from deepinv.loss.metric import HaarPSI
from skimage.metrics import structural_similarity
from torch import Tensor

from ..data.metrics import magnitude, psnr

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Measure:
    """How a measure is named, shown and compared.

    Attributes:
        name: its column.
        title: for people.
        digits: after the point; None for three significant ones, with a power of ten where values are far from 1.
        unit: of its values; that of the images where ``has_image_units``.
        error: whether less is better. Errors run over orders of magnitude, so that two are compared by their ratio and
            drawn on a logarithmic axis; qualities by their difference.
        has_image_units: whether it is in the units of the images.
    """

    name: str
    title: str
    digits: int | None
    unit: str = ""
    error: bool = False
    has_image_units: bool = False

    def unit_in(self, units: str) -> str:
        """Of values, where errors of images are in ``units``."""
        return units if self.has_image_units else self.unit

    def heading(self, units: str) -> str:
        """``PSNR [dB]``, ``RMSE [cm⁻¹]``."""
        unit = self.unit_in(units)
        return f"{self.title} [{unit}]" if unit else self.title

    def spread(self, value: float) -> str:
        """A standard deviation: two significant digits where values have three."""
        return significant(value, 2) if self.digits is None and math.isfinite(value) else self.text(value)

    def text(self, value: float, *, sign: bool = False) -> str:
        """A value for people, with a true minus sign; an en dash for NaN. ``sign`` writes a plus as well."""
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        if self.digits is None:
            return significant(value).replace("-", "−")
        text = f"{value:.{self.digits}f}"
        if not float(text):
            return text.lstrip("-")
        return ("+" if sign and value > 0 else "") + text.replace("-", "−")


def significant(value: float, digits: int = 3) -> str:
    """So many significant digits, none after the point of large numbers: 0.0123, 2.40·10⁻⁵."""
    rounded = f"{value:.{digits - 1}e}"
    mantissa, exponent = rounded.split("e")
    power = int(exponent)
    if -3 <= power < 4:
        return f"{float(rounded):.{max(digits - 1 - power, 0)}f}" if value else "0"
    return f"{mantissa}·10{str(power).translate(RAISED)}"


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("psnr", "PSNR", 2, "dB"),
        Measure("ssim", "SSIM", 3),
        Measure("rmse", "RMSE", None, error=True, has_image_units=True),
        Measure("nrmse", "NRMSE", None, error=True),
        Measure("haarpsi", "HaarPSI", 3),
    )
}
NAMES = tuple(MEASURES)

SETTINGS = (
    "The data range R is fixed by the dataset and never taken from a reconstruction; nothing is rescaled to fit the "
    "truth. Complex images are compared as magnitudes. "
    "PSNR: 10 log10(R² / mean squared error), in dB, on the whole image, clipped only where the task says so. "
    "SSIM: scikit-image with Gaussian weights (σ = 1.5, 11 × 11 window), population covariance, K1 = 0.01, K2 = 0.03, "
    "data range R; the 5 pixels at the border are left out of the mean; an image smaller than the window gets the "
    "largest one that fits. "
    "RMSE: root mean squared error on the whole image, in its units; attenuations are in cm⁻¹ on this page and in "
    "tables/, in 1/mm in results.csv. "
    "NRMSE: ‖reconstruction − truth‖ / ‖truth‖. "
    "HaarPSI: deepinv with the parameters for medical images (C = 5, α = 4.9; Karner et al. 2024), subsampled by two; "
    "both images are divided by R and clipped to [0, 1], after a shift by the truth's minimum where that is negative. "
    "RMSE in HU, for CT: that of 1000 (μ / μ_water − 1), with the dataset's μ_water, over the disc "
    "that every view sees (the whole image where nothing is scanned by rays)."
)

_SIGMA, _TRUNCATE, _RADIUS = 1.5, 3.5, 5  # scikit-image cuts the Gaussian at 3.5 σ, rounded
_haarpsi = HaarPSI()


def metrics(reconstruction: Tensor, truth: Tensor, data_range: float) -> dict[str, Tensor]:
    """PSNR, SSIM, RMSE, NRMSE and HaarPSI of every image of a batch; :data:`SETTINGS` states the definitions.

    Args:
        reconstruction: ``[B, C, H, W]``; C = 1 for real images, 2 for complex ones.
        truth: the same shape.
        data_range: R > 0, the dataset's range of values.

    Returns:
        for each of :data:`NAMES` a float64 tensor ``[B]`` on the CPU; NaN where a reconstruction is not finite.

    Raises:
        ValueError: for shapes that differ or are not images, and for a data range that is not a positive number.
    """
    if reconstruction.shape != truth.shape or truth.ndim != 4 or truth.shape[1] not in (1, 2):
        raise ValueError(
            f"metrics: the reconstruction is {_shape(reconstruction)} and the truth {_shape(truth)}; "
            "both must be batch × channels × height × width with 1 channel (real) or 2 (complex)"
        )
    if not (np.isfinite(data_range) and data_range > 0):
        raise ValueError(f"metrics: the data range is {data_range}; it must be a positive number set by the dataset")
    x, t = magnitude(reconstruction).cpu(), magnitude(truth).cpu()
    squared = (x - t).square()
    return {
        "psnr": psnr(reconstruction, truth, data_range).cpu(),
        "ssim": torch.tensor([_ssim(a, b, data_range) for a, b in zip(x.numpy(), t.numpy(), strict=True)]).double(),
        "rmse": squared.mean((1, 2)).sqrt(),
        "nrmse": squared.sum((1, 2)).sqrt() / t.square().sum((1, 2)).sqrt(),
        "haarpsi": _haar(x, t, data_range),
    }


def _ssim(image: np.ndarray, truth: np.ndarray, data_range: float) -> float:
    fits = (min(truth.shape) - 1) // 2
    return structural_similarity(
        image,
        truth,
        data_range=data_range,
        gaussian_weights=True,
        sigma=_SIGMA if fits >= _RADIUS else fits / _TRUNCATE,
        use_sample_covariance=False,
    )


def _haar(image: Tensor, truth: Tensor, data_range: float) -> Tensor:
    # Only differences of neighbours enter; the shift keeps images with negative values, such as HU, from being clipped.
    low = truth.amin((1, 2), keepdim=True).clamp(max=0)
    finite = torch.isfinite(image).all((1, 2))
    a, b = (((z - low) / data_range).nan_to_num().clamp(0, 1).float().unsqueeze(1) for z in (image, truth))
    similarity = _haarpsi(a, b).double().nan_to_num(1.0)  # 0/0 where neither image has any structure: they agree
    return torch.where(finite, similarity, torch.nan)


def _shape(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
