"""The few checks of shapes and parameters that the operators share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def image_domain(shape: Sequence[int]) -> tuple[int, int, int]:
    """(H, W) ↦ (1, H, W), and (C, H, W) as it is.

    Raises:
        ValueError: for another number of sizes, or a size below one.
    """
    sizes = tuple(int(n) for n in shape)
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise ValueError(f"an image of shape {sizes}; expected (H, W) or (C, H, W) with positive sizes")
    channels, height, width = sizes if len(sizes) == 3 else (1, *sizes)
    return channels, height, width


def per_image(gamma: float | Tensor) -> float | Tensor:
    """γ itself, which must be one number for all pixels of an image: γ AᵀA + 1 is then symmetric, and a filter.

    Raises:
        ValueError: if γ varies within an image.
    """
    if isinstance(gamma, Tensor) and gamma.numel() > 1 and (gamma.ndim < 4 or gamma[0].numel() > 1):
        raise ValueError(
            f"prox_l2: gamma is {' × '.join(map(str, gamma.shape))}, expected a number or one value per image "
            "[B, 1, 1, 1]"
        )
    return gamma


def binary_mask(mask: Tensor, name: str) -> Tensor:
    """The mask as booleans.

    Raises:
        ValueError: if it holds anything but 0 and 1.
    """
    mask = torch.as_tensor(mask)
    binary = mask != 0
    if not torch.equal(binary.to(mask.dtype), mask):
        raise ValueError(
            f"{name}: the mask has values from {mask.min():g} to {mask.max():g} that are not only 0 and 1; "
            "threshold it first, or weight the measurements instead"
        )
    return binary
