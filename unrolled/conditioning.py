"""What a network may know of the noise and the sampling, so that one serves several of both."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from ..physics import LinearOperator

CONDITIONS = 2  # planes of them


def conditions(x: Tensor, physics: LinearOperator) -> Tensor:
    """Two constant planes for a CNN to see: direct reconstructions ``[B, C, H, W]`` → ``[B, 2, H, W]``.

    The :func:`noise_level` in decades above a hundredth of the data range, not less than −2, and the
    :func:`sampled_fraction`. With the level itself, as small as it is, a network takes several times as long to learn
    what to make of it.
    """
    level = (100 * noise_level(x)).clamp_min(1e-2).log10().view(-1, 1, 1, 1)
    planes = torch.cat((level, torch.full_like(level, sampled_fraction(physics))), dim=1)
    return planes.expand(-1, -1, *x.shape[-2:])


def noise_level(x: Tensor) -> Tensor:
    """σ of white Gaussian noise in images ``[B, C, H, W]``, one number for each.

    The median of the finest diagonal Haar details, |·| / 0.6745 (Donoho & Johnstone, Biometrika 1994); edges are few
    among them, fine texture counts as noise. Where the image is zero, as outside the field of view, nothing is looked
    at. Noise that is not white, as after filtered back-projection, has the level of its highest frequencies.
    """
    x = x.detach()
    rows = x[..., 1:, :] - x[..., :-1, :]
    details = (rows[..., 1:] - rows[..., :-1]).abs() / 2
    seen = max_pool2d(x.abs(), 2, stride=1) > 0
    return torch.where(seen, details, math.nan).flatten(1).nanmedian(dim=1).values.nan_to_num(0.0) / 0.6745


def sampled_fraction(physics: LinearOperator) -> float:
    """The measured part of a measurement, less where even the whole has fewer numbers than the image.

    Of k-space this is the sampled part, whatever the coils.
    """
    measured = 1.0 if physics.support is None else float(physics.support.float().mean())
    return measured * min(1.0, math.prod(physics.range) / math.prod(physics.domain))
