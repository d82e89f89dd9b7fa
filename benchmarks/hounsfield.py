"""Errors of CT images in Hounsfield units, inside the field of view."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..physics import LinearOperator
from ..physics.geometry import FanBeam
from ..physics.radon import Radon

RMSE_HU = "rmse_hu"


def field_of_view(physics: LinearOperator) -> Tensor:
    """The pixels, ``[H, W]`` booleans, whose centres every view sees; all of them where nothing is scanned by rays.

    Views turn around the axis, so that this is a disc: for parallel rays as wide as the shorter side of the detector
    from the axis, for a fan with its outermost ray on that side as a tangent.
    """
    height, width = physics.domain[-2:]
    if not isinstance(physics, Radon):
        return torch.ones(height, width, dtype=torch.bool)
    geometry = physics.geometry
    radius = geometry.detectors * geometry.spacing / 2 - abs(geometry.offset)
    if isinstance(geometry, FanBeam):
        radius = geometry.source_axis * math.sin(math.atan(radius / geometry.source_detector))
    y, x = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * physics.pixel_size for n in (height, width))
    return torch.hypot(y[:, None], x) <= radius


def rmse_hu(reconstruction: Tensor, truth: Tensor, water: float, where: Tensor) -> Tensor:
    """Root mean squared error over the pixels ``where``, 1000 HU being ``water`` in 1/mm.

    Args:
        reconstruction, truth: attenuation in 1/mm, ``[B, 1, H, W]``.
        water: attenuation of water in 1/mm.
        where: ``[H, W]`` booleans.

    Returns:
        float64 ``[B]``; NaN where there is no pixel.
    """
    error = (reconstruction.double() - truth.double())[:, 0, where]
    return 1000 / water * error.square().mean(dim=1).sqrt()
