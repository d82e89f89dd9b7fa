"""Image quality of a reconstruction against the truth: one implementation of each measure, for every method."""

from __future__ import annotations

import torch
from torch import Tensor


def psnr(reconstruction: Tensor, truth: Tensor, data_range: float) -> Tensor:
    """10 log10(R² / mean squared error) in dB, one float64 value for each image of ``[B, C, H, W]``.

    Complex images (C = 2) are compared as magnitudes.
    """
    error = _magnitude(reconstruction) - _magnitude(truth)
    return 10 * torch.log10(data_range**2 / error.square().mean((1, 2)))


def _magnitude(image: Tensor) -> Tensor:
    """[B, C, H, W] → [B, H, W] in float64: the image itself, or the magnitude of a complex one."""
    image = image.detach().double()
    return image[:, 0] if image.shape[1] == 1 else torch.linalg.vector_norm(image, dim=1)
