"""What training minimises: one number for each image of a batch, so that a batch may be shared by processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import conv2d

Loss = Callable[[Tensor, Tensor], Tensor]
"""(x, truth), both ``[B, …]`` with data range one, ↦ ``[B]``."""

SSIM_WEIGHT = 0.84


def mse(x: Tensor, truth: Tensor) -> Tensor:
    """‖x − x*‖² / n."""
    return (x - truth).square().flatten(1).mean(1)


def normalised_l2(x: Tensor, truth: Tensor) -> Tensor:
    """‖x − x*‖ / ‖x*‖."""
    return (x - truth).flatten(1).norm(dim=1) / _size(truth.flatten(1).norm(dim=1))


def l1_ssim(x: Tensor, truth: Tensor) -> Tensor:
    """0.16 · mean |x − x*| + 0.84 · (1 − SSIM) (Zhao, Gallo, Frosio, Kautz, TCI 2017, with a single scale)."""
    distance = (x - truth).abs().flatten(1).mean(1)
    return (1 - SSIM_WEIGHT) * distance + SSIM_WEIGHT * (1 - ssim(x, truth))


def normalised_l1_l2(y: Tensor, measured: Tensor) -> Tensor:
    """‖y − y*‖₂ / ‖y*‖₂ + ‖y − y*‖₁ / ‖y*‖₁, of measurements (Yaman et al., MRM 2020, eq. 8)."""
    error, measured = (y - measured).flatten(1), measured.flatten(1)
    two, one = (error.norm(p, dim=1) / _size(measured.norm(p, dim=1)) for p in (2, 1))
    return two + one


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli, TIP 2004) for the data range one, ``[B]``.

    Gaussian window of σ = 1.5 over 11 × 11 pixels, windows inside the image only. Complex images as magnitudes.
    """
    x, truth = _magnitude(x), _magnitude(truth)
    radius = (min(11, x.shape[-2], x.shape[-1]) - 1) // 2
    line = torch.exp(-torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype).square() / (2 * 1.5**2))
    line = line / line.sum()
    moments = torch.cat((x, truth, x * x, truth * truth, x * truth), dim=1)
    kernel = line.expand(5, 1, 1, -1)
    m = conv2d(conv2d(moments, kernel, groups=5), kernel.transpose(-1, -2), groups=5)
    a, b, aa, bb, ab = m.unbind(1)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    structure = (2 * (ab - a * b) + c2) / (aa - a * a + bb - b * b + c2)
    return (luminance * structure).flatten(1).mean(1)


SUPERVISED: Mapping[str, Loss] = {"mse": mse, "normalised-l2": normalised_l2, "l1-ssim": l1_ssim}
"""Losses that compare images with truths, by their names in YAML."""


def _magnitude(x: Tensor) -> Tensor:
    """``[B, C, H, W]`` → ``[B, 1, H, W]``, with a gradient at zero."""
    return x if x.shape[1] == 1 else (x.square().sum(1, keepdim=True) + 1e-12).sqrt()


def _size(norm: Tensor) -> Tensor:
    return norm.clamp_min(torch.finfo(norm.dtype).eps)
