"""The discrete image gradient and what total variation needs of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def gradient(x: Tensor) -> Tensor:
    """Forward differences, zero across the far edges: ``[B, C, H, W]`` → ``[B, 2, C, H, W]``, rows then columns."""
    return torch.stack([pad(x.diff(dim=-2), (0, 0, 0, 1)), pad(x.diff(dim=-1), (0, 1))], dim=1)


def gradient_adjoint(p: Tensor) -> Tensor:
    """∇ᵀ p, the negative divergence: ``[B, 2, C, H, W]`` → ``[B, C, H, W]``."""
    rows, columns = p[:, 0, :, :-1], p[:, 1, :, :, :-1]
    return (
        pad(rows, (0, 0, 1, 0))[..., : p.shape[-2], :]
        - pad(rows, (0, 0, 0, 1))[..., : p.shape[-2], :]
        + pad(columns, (1, 0))
        - pad(columns, (0, 1))
    )


def total_variation(x: Tensor) -> Tensor:
    """Σ |∇x|, isotropic, the channels of a complex image joined: one value for each image of ``[B, C, H, W]``."""
    return joint_length(gradient(x)).sum((-2, -1))


def project_to_ball(p: Tensor, radius: float | Tensor) -> Tensor:
    """Each pixel's vector of differences (directions and channels) onto the ball ‖p‖ ≤ radius; 0 for radius 0.

    Gradients are finite everywhere, where p is zero as well.

    Args:
        p: ``[B, 2, C, H, W]``.
        radius: ≥ 0, a number or ``[B, 1, 1, H, W]``.
    """
    # Differences of 2e-13 and less count as that in float32: the power −3/2 of their energy, a gradient, is a number.
    energy = joint_energy(p)[:, None, None].clamp_min(torch.finfo(p.dtype).tiny ** (2 / 3))
    return p * (radius * energy.rsqrt()).clamp_max(1.0)


def joint_length(p: Tensor) -> Tensor:
    """Euclidean length over directions and channels, ``[B, H, W]``."""
    return joint_energy(p).sqrt()


def joint_energy(p: Tensor) -> Tensor:
    """Sum of squares over directions and channels: ``[B, 2, C, H, W]`` → ``[B, H, W]``."""
    # torch.linalg.vector_norm over these two dimensions is a hundred times slower on the CPU.
    first, *others = p.flatten(1, 2).unbind(1)
    energy = first.square()
    for part in others:
        energy = energy.addcmul(part, part)
    return energy
