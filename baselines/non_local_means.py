"""Non-local means: every pixel becomes a mean over pixels whose surroundings look alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .denoisers import UnitDenoiser

CUTOFF = 5.0  # an exponent from which on a patch has no say: many faint weights blur what few strong ones agree on


@dataclass(frozen=True)
class NonLocalMeans(UnitDenoiser):
    """D_σ(x)_i = Σ_j w_ij x_j / Σ_j w_ij with w_ij = exp(−max(d²_ij − 2σ², 0) / (h σ)²) (Buades, Coll & Morel 2005).

    d²_ij is the mean squared difference, over pixels and channels, of the patches around i and j, and 2σ² what noise
    alone makes of it. Differences are taken once for each shift of the whole image and summed over patches by a box
    filter (Darbon et al. 2008), and d²_ij = d²_ji halves the shifts. Images are mirrored at their edges.

    Args:
        patch: side of a patch in pixels, odd.
        distance: pixels up to which alike patches are searched, in each direction.
        strength: h, the width of the weights in units of σ.

    Raises:
        ValueError: for an even patch, a distance below 1 or a strength that is not positive.
    """

    patch: int = 3
    distance: int = 6
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.patch < 1 or self.patch % 2 == 0 or self.distance < 1 or not self.strength > 0:
            raise ValueError(f"expected an odd patch, distance ≥ 1 and strength > 0: {self}")

    def unit(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        reach, half = self.distance, self.patch // 2
        wide = _mirror(x, reach + half)
        values, total = x.clone(), torch.ones_like(x[:, :1])  # the patch itself has weight one
        for down in range(reach + 1):
            for right in range(-reach if down else 1, reach + 1):
                # Weights of i and j = i + (down, right) for every i that is in the image, or whose j is.
                left, top = max(right, 0), down
                rows, columns = height + down, width + abs(right)
                here = _part(wide, reach - top, reach - left, rows + 2 * half, columns + 2 * half)
                there = _part(wide, reach, reach - left + right, rows + 2 * half, columns + 2 * half)
                distance = _box_mean((here - there).square().mean(1), self.patch)
                exponent = (distance - 2).clamp_min(0) / self.strength**2
                weight = torch.where(exponent < CUTOFF, (-exponent).exp(), 0)[:, None]
                origin = reach + half
                for i, j, sign in ((top, left, 1), (0, left - right, -1)):
                    w = weight[..., i : i + height, j : j + width]
                    values.addcmul_(w, _part(wide, origin + sign * down, origin + sign * right, height, width))
                    total += w
        return values / total


def _part(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    return x[..., top : top + height, left : left + width]


def _mirror(x: Tensor, margin: int) -> Tensor:
    """Mirrored at the centres of the outermost pixels, as often as the margin needs."""

    def places(n: int) -> Tensor:
        places = torch.arange(-margin, n + margin, device=x.device) % max(2 * n - 2, 1)
        return torch.where(places < n, places, 2 * n - 2 - places)

    return x[..., places(x.shape[-2])[:, None], places(x.shape[-1])]


def _box_mean(x: Tensor, side: int) -> Tensor:
    """Means over ``side`` × ``side`` pixels that lie inside: ``[B, H, W]`` → ``[B, H − side + 1, W − side + 1]``."""
    return x.unfold(1, side, 1).sum(-1).unfold(2, side, 1).sum(-1) / side**2
