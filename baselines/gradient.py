"""The discrete image gradient and what total variation needs of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..physics.linear_map import apply_linear


def gradient(x: Tensor) -> Tensor:
    """Forward differences, zero across the far edges: ``[B, C, H, W]`` → ``[B, 2, C, H, W]``, rows then columns."""
    return apply_linear(x, _gradient, _gradient_adjoint)


def gradient_adjoint(p: Tensor) -> Tensor:
    """∇ᵀ p, the negative divergence: ``[B, 2, C, H, W]`` → ``[B, C, H, W]``."""
    return apply_linear(p, _gradient_adjoint, _gradient)


def _gradient(x: Tensor) -> Tensor:
    p = x.new_empty(len(x), 2, *x.shape[1:])
    rows, columns = p.unbind(1)
    torch.sub(x[..., 1:, :], x[..., :-1, :], out=rows[..., :-1, :])
    torch.sub(x[..., 1:], x[..., :-1], out=columns[..., :-1])
    rows[..., -1, :] = columns[..., -1] = 0
    return p


def _gradient_adjoint(p: Tensor) -> Tensor:
    rows, columns = p.unbind(1)
    x = rows.new_empty(rows.shape)
    x[..., -1, :] = 0
    torch.neg(rows[..., :-1, :], out=x[..., :-1, :])
    x[..., 1:, :].add_(rows[..., :-1, :])
    x[..., 1:].add_(columns[..., :-1])
    x[..., :-1].sub_(columns[..., :-1])
    return x


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
    return p * (radius * _inverse_length(p)).clamp_max(1.0)


def shrink(p: Tensor, radius: float | Tensor) -> Tensor:
    """What :func:`project_to_ball` takes away: lengths fall by the radius, down to zero."""
    return p * (1 - radius * _inverse_length(p)).clamp_min(0.0)


def _inverse_length(p: Tensor) -> Tensor:
    # Differences of 2e-13 and less count as that in float32: the power −3/2 of their energy, a gradient, is a number.
    return joint_energy(p)[:, None, None].clamp_min(torch.finfo(p.dtype).tiny ** (2 / 3)).rsqrt()


def joint_length(p: Tensor) -> Tensor:
    """Euclidean length over directions and channels, ``[B, H, W]``; its gradient where it is zero is zero."""
    energy = joint_energy(p)
    flat = energy == 0
    return torch.where(flat, 0, torch.where(flat, 1, energy).sqrt())


def joint_energy(p: Tensor) -> Tensor:
    """Sum of squares over directions and channels: ``[B, 2, C, H, W]`` → ``[B, H, W]``."""
    # torch.linalg.vector_norm over these two dimensions is a hundred times slower on the CPU.
    first, *others = p.flatten(1, 2).unbind(1)
    energy = first.square()
    for part in others:
        energy = energy.addcmul(part, part)
    return energy
