"""Operators that act on each pixel alone: denoising and inpainting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .conjugate_gradient import conjugate_gradient
from .operator import LinearOperator
from .shapes import binary_mask, image_domain


class Identity(LinearOperator):
    """x ↦ x.  ``[B, C, H, W]`` → the same; with noise, the task of denoising.

    Args:
        image_shape: (H, W), or (C, H, W).
    """

    def __init__(self, image_shape: Sequence[int]) -> None:
        shape = image_domain(image_shape)
        super().__init__(domain=shape, range=shape)
        self._norm = 1.0

    @property
    def fourier_normal(self) -> Tensor:
        return torch.ones(self.domain[1:], device=self._device_holder.device)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x.clone()  # so that writing to a measurement never changes the image

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        return y.clone()

    def normal(self, x: Tensor) -> Tensor:
        return self.A(x)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        """(γ y + z) / (1 + γ)."""
        self.check_measurement(y)
        return (gamma * y + z) / (1 + gamma)


class Inpaint(LinearOperator):
    """x ↦ m x, pixels that are not seen become zero.  ``[B, C, H, W]`` → the same.

    Args:
        mask: ``[H, W]``, or ``[C, H, W]``, of 0 and 1 or booleans; 1 where a pixel is seen.

    Raises:
        ValueError: if the mask holds anything but 0 and 1.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        mask = binary_mask(mask, "Inpaint")
        shape = image_domain(mask.shape)
        super().__init__(domain=shape, range=shape)
        self.register_buffer("mask", mask.reshape(shape), persistent=False)
        self._norm = float(mask.any())
        self.to(mask.device)

    @property
    def support(self) -> Tensor:
        return self.mask

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x * self.mask

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        return y * self.mask

    def normal(self, x: Tensor) -> Tensor:
        return self.A(x)

    def direct(self, y: Tensor) -> Tensor:
        """Seen pixels as measured, holes filled by the membrane through their edges, Δx = 0."""
        self.check_measurement(y)
        seen = self.mask.to(y.dtype).expand_as(y)
        hole, seen_image = 1 - seen, seen * y
        return conjugate_gradient(
            lambda x: hole * _laplacian(hole * x) + seen * x,
            seen_image - hole * _laplacian(seen_image),
            start=_pull_push(seen_image, seen),
            tol=1e-4,
            max_iter=300,
        )

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        """(γ m y + z) / (1 + γ m)."""
        self.check_measurement(y)
        weight = gamma * self.mask.to(z.dtype)
        return (weight * y + z) / (1 + weight)


def _laplacian(x: Tensor) -> Tensor:
    """−Δx by differences of neighbours, none across the edge of the image."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return 4 * x - p[..., :-2, 1:-1] - p[..., 2:, 1:-1] - p[..., 1:-1, :-2] - p[..., 1:-1, 2:]


def _pull_push(values: Tensor, seen: Tensor) -> Tensor:
    """Replace values where ``seen`` is 0 by interpolation from the half resolution (Gortler et al. 1996)."""
    if max(values.shape[-2:]) == 1 or bool(seen.all()):
        return values
    share = F.avg_pool2d(seen, 2, ceil_mode=True)
    coarse = F.avg_pool2d(values * seen, 2, ceil_mode=True) / torch.where(share > 0, share, 1)
    coarse = _pull_push(coarse, (share > 0).to(values.dtype))
    filling = F.interpolate(coarse, size=values.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(seen > 0, values, filling)
