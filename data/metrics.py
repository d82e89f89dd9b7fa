"""The measure that tuning and training maximise; the report's other measures are in ``benchmarks/metrics.py``."""

from __future__ import annotations

import torch
from torch import Tensor


def psnr(reconstruction: Tensor, truth: Tensor, data_range: float) -> Tensor:
    """10 log10(R² / mean squared error) in dB, one float64 value for each image of ``[B, C, H, W]``.

    Complex images (C = 2) are compared as magnitudes.
    """
    error = magnitude(reconstruction) - magnitude(truth)
    return 10 * torch.log10(data_range**2 / error.square().mean((1, 2)))


def magnitude(image: Tensor) -> Tensor:
    """[B, C, H, W] → [B, H, W] in float64: the image itself, or the magnitude of a complex one."""
    image = image.detach().double()
    return image[:, 0] if image.shape[1] == 1 else torch.linalg.vector_norm(image, dim=1)
