"""Coil maps from the calibration region of the k-space, repaired by a small network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..physics.fourier import ifft2, to_channels, to_complex
from .cnn import unet


class CoilMapEstimation(nn.Module):
    """s_c = v_c / (Σ |v|²)^½, v_c = x_c + U(x_c), x_c the low-resolution image of coil c (Sriram et al. 2020).

    ``[B, 2, coils, H, W]`` → the same. x_c is the inverse Fourier transform of the calibration region alone. One U-Net
    serves all coils, whatever their number; it sees real and imaginary part with mean 0 and deviation 1, and starts at
    zero: training starts from the classical estimate by self-calibration. Maps have the phase of the image, which is
    then real and positive but for errors.

    Args:
        widths: of the U-Net, feature maps at each scale, finest first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.correction = unet(2, 2, widths)

    def forward(self, y: Tensor, mask: Tensor) -> Tensor:
        coil_images = ifft2(y * calibration_region(mask)).transpose(1, 2).flatten(0, 1)
        standard, deviation = standardise(coil_images)
        maps = coil_images + deviation * self.correction(standard)
        return normalise_maps(maps.unflatten(0, (len(y), -1)).transpose(1, 2))


def calibration_region(mask: Tensor) -> Tensor:
    """The largest box about the zero frequency that is sampled without gaps: booleans, ``[H, W]``.

    Raises:
        ValueError: if the zero frequency is not sampled.
    """
    height, width = mask.shape
    rows, columns = (torch.arange(n // 2 + 1, device=mask.device) for n in (height, width))
    sampled = mask.bool()
    for axis, (distance, n) in enumerate(((rows, height), (columns, width))):  # both sides, which meet at an even edge
        centre = n // 2
        sides = (sampled.index_select(axis, (centre + sign * distance) % n) for sign in (1, -1))
        sampled = torch.stack(tuple(sides)).all(0)
    filled = sampled.int().cumprod(0).cumprod(1)  # 1 where nothing is missing up to here
    if not filled[0, 0]:
        raise ValueError("the mask does not sample the zero frequency, so there is no calibration region for coil maps")
    area = filled * (2 * rows[:, None] + 1) * (2 * columns + 1)
    far_row, far_column = divmod(int(area.argmax()), len(columns))
    region = torch.zeros_like(mask, dtype=torch.bool)
    top, left = max(height // 2 - far_row, 0), max(width // 2 - far_column, 0)
    region[top : height // 2 + far_row + 1, left : width // 2 + far_column + 1] = True
    return region


def normalise_maps(maps: Tensor) -> Tensor:
    """Maps ``[B, 2, coils, H, W]`` with Σ |s|² = 1; zero where no coil sees anything."""
    energy = maps.square().sum((1, 2), keepdim=True)
    visible = energy > 1e-6 * energy.amax((-2, -1), keepdim=True)
    return torch.where(visible, maps / torch.where(visible, energy, 1).sqrt(), 0)


def combine(coil_images: Tensor, maps: Tensor) -> Tensor:
    """Σ s̄_c x_c: ``[B, 2, coils, H, W]`` → ``[B, 2, H, W]``."""
    return to_channels((to_complex(coil_images) * to_complex(maps).conj()).sum(1))


def standardise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel of each image with mean 0 and deviation 1, and that deviation; constants become 0."""
    centred = x - x.mean((-2, -1), keepdim=True)
    deviation = (centred.square().mean((-2, -1), keepdim=True) + 1e-12).sqrt()
    return centred / deviation, deviation
