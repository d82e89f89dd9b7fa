"""Point spread functions, float64 ``[h, w]`` with sum one.

The centre of a point spread function is the element (h // 2, w // 2): a bright pixel is blurred to a copy of the
function with this element on the pixel, as in ``scipy.ndimage.convolve``. Sizes are odd where not asked otherwise.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .load import load_plane


def gaussian_psf(sigma: float, size: int | None = None) -> Tensor:
    """exp(−|t|² / 2σ²) at the pixel centres.

    Args:
        sigma: σ in pixels; the full width at half maximum is 2.355 σ.
        size: side of the square; reaches 4 σ when absent, as in ``scipy.ndimage.gaussian_filter``. An even size is
            symmetric about the half pixel, which is what :class:`Downsample` by an even factor wants.
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"gaussian_psf: sigma is {sigma}, expected a number of pixels above 0")
    if size is None:
        size = 2 * int(4 * sigma + 0.5) + 1
    if size < 1:
        raise ValueError(f"gaussian_psf: size is {size}, expected at least 1 pixel")
    t = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    profile = torch.exp((t.abs().min() ** 2 - t**2) / (2 * sigma**2))
    return _normalised(profile[:, None] * profile)


def motion_psf(length: float, angle: float) -> Tensor:
    """A straight segment, each of its points shared by the four nearest pixels.

    Args:
        length: of the segment in pixels.
        angle: in radians, counter-clockwise from the row axis, as the image is seen with row 0 at the top.
    """
    if not 0 < length < math.inf:
        raise ValueError(f"motion_psf: length is {length}, expected a number of pixels above 0")
    count = 32 * math.ceil(length)
    t = length * ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5)
    y, x = -t * math.sin(angle), t * math.cos(angle)
    reach = [math.ceil(float(v.abs().max()) - 1e-9) for v in (y, x)]
    rows, columns = (torch.arange(-r, r + 1, dtype=torch.float64) for r in reach)
    # Σ_t hat(row − y_t) hat(column − x_t)
    return _normalised(_hat(rows[:, None] - y) @ _hat(columns[:, None] - x).T)


def defocus_psf(radius: float) -> Tensor:
    """A disc; pixels on its edge weigh the share of their area that it covers (to 1/1024).

    Args:
        radius: in pixels.
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"defocus_psf: radius is {radius}, expected a number of pixels above 0")
    fine, reach = 32, max(math.ceil(radius - 0.5), 0)
    size = 2 * reach + 1
    t = (torch.arange(size * fine, dtype=torch.float64) + 0.5) / fine - size / 2
    inside = (t[:, None] ** 2 + t**2 <= radius**2).double()
    return _normalised(inside.reshape(size, fine, size, fine).sum(dim=(1, 3)))


def bicubic_psf(factor: int) -> Tensor:
    """The cubic kernel stretched by ``factor``: the anti-aliasing of the usual bicubic downsampling.

    The side is odd for an odd and even for an even factor, symmetric about the centre of a low-resolution pixel.
    """
    if factor < 1:
        raise ValueError(f"bicubic_psf: factor is {factor}, expected at least 1")
    size = 4 * factor - factor % 2
    profile = cubic((torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / factor)
    return _normalised(profile[:, None] * profile)


def measured_psf(source: str | Path | np.ndarray | Tensor, key: str | None = None) -> Tensor:
    """A measured function from an array or a NPY, MAT or PNG file, divided by its sum.

    Raises:
        ValueError: unless it is a finite plane with a positive sum.
    """
    loaded = load_plane(source, key) if isinstance(source, str | Path) else source
    psf = torch.as_tensor(loaded).to(torch.float64)
    if psf.ndim != 2 or not bool(psf.isfinite().all()) or not psf.sum() > 0:
        raise ValueError(
            f"measured_psf: {tuple(psf.shape)} with sum {psf.sum():g}; expected finite [h, w], sum above 0"
        )
    return _normalised(psf)


def cubic(t: Tensor) -> Tensor:
    """Cubic convolution kernel with a = −1/2 (Keys 1981), zero from |t| = 2."""
    t = t.abs()
    near = (1.5 * t - 2.5) * t**2 + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0))


def check_psf(psf: Tensor, name: str) -> Tensor:
    """``psf`` in float64.

    Raises:
        ValueError: unless it is a finite, real ``[h, w]``.
    """
    psf = torch.as_tensor(psf)
    if psf.ndim != 2 or psf.is_complex() or not bool(psf.isfinite().all()):
        raise ValueError(f"{name}: the psf is {tuple(psf.shape)} {psf.dtype}, expected finite real numbers [h, w]")
    return psf.to(torch.float64)


def _hat(t: Tensor) -> Tensor:
    return (1 - t.abs()).clamp_min(0)


def _normalised(psf: Tensor) -> Tensor:
    return psf / psf.sum()
