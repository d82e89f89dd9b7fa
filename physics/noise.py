"""Measurement noise, seeded.

A noise model is a value, called as ``noise(y, generator, support)``: ``y`` is ``[B, *range]``, ``generator`` is
where all randomness comes from, and ``support`` (booleans that broadcast against ``y``, such as the mask of k-space)
limits the noise to what was measured; outside it ``y`` is unchanged. The same generator state gives the same
noise in every dtype. For noise that does not depend on what else is in a batch, give each image its own
:func:`seeded_generator` and a batch of one.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    """What a noise model is."""

    def __call__(self, y: Tensor, generator: torch.Generator, support: Tensor | None = None) -> Tensor: ...


def seeded_generator(*parts: int | str) -> torch.Generator:
    """A generator whose state depends on the parts only, such as (suite seed, dataset, image id, task).

    The seed is taken from SHA-256, so that it is the same on every machine and for every Python process.
    """
    text = "".join(f"{type(part).__name__} {len(str(part))} {part};" for part in parts)
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"))


@dataclass(frozen=True)
class NoNoise:
    """y."""

    def __call__(self, y: Tensor, generator: torch.Generator, support: Tensor | None = None) -> Tensor:
        return y


@dataclass(frozen=True)
class GaussianNoise:
    """y + σ n, n standard normal; complex measurements get σ in the real and in the imaginary part.

    Args:
        sigma: σ in the unit of y; or, with ``relative``, a share of the mean of |y| over the image's real numbers
            (Adler & Öktem 2018 take 0.05), measured entries only if there is a support.
        relative: σ is a share of the signal.
    """

    sigma: float
    relative: bool = False

    def __post_init__(self) -> None:
        _require(self.sigma >= 0, f"GaussianNoise: sigma is {self.sigma}, expected a number of at least 0")

    def __call__(self, y: Tensor, generator: torch.Generator, support: Tensor | None = None) -> Tensor:
        noise = self.sigma * _normal(y, generator)
        if self.relative:
            measured = torch.ones_like(y) if support is None else support.to(y).expand_as(y)
            every = tuple(range(1, y.ndim))
            count = measured.sum(dim=every, keepdim=True).clamp_min(1)
            noise = noise * ((y.abs() * measured).sum(dim=every, keepdim=True) / count)
        return _where(support, y + noise, y)


@dataclass(frozen=True)
class PoissonCounts:
    """−log(max(n, ½) / I₀), n ~ Poisson(I₀ exp(−y)): line integrals y (no unit) measured by counting photons.

    Detector cells without a photon count as half a photon, which bounds a measurement by log(2 I₀).

    Args:
        photons: I₀, the mean count of a cell with nothing in the beam.
    """

    photons: float

    def __post_init__(self) -> None:
        _require(self.photons > 0, f"PoissonCounts: photons is {self.photons}, expected a number above 0")

    def __call__(self, y: Tensor, generator: torch.Generator, support: Tensor | None = None) -> Tensor:
        mean = self.photons * torch.exp(-y.detach().to(generator.device, torch.float64))
        counts = torch.poisson(mean, generator=generator)
        noisy = math.log(self.photons) - torch.log(counts.clamp_min(0.5))
        return _where(support, noisy.to(y), y)


@dataclass(frozen=True)
class Rician:
    """√((y + σ n₁)² + (σ n₂)²): magnitude images, y ≥ 0, of complex images with Gaussian noise (Gudbjartsson 1995).

    Args:
        sigma: σ of the real and of the imaginary part, in the unit of y.
    """

    sigma: float

    def __post_init__(self) -> None:
        _require(self.sigma >= 0, f"Rician: sigma is {self.sigma}, expected a number of at least 0")

    def __call__(self, y: Tensor, generator: torch.Generator, support: Tensor | None = None) -> Tensor:
        real = y + self.sigma * _normal(y, generator)
        return _where(support, torch.hypot(real, self.sigma * _normal(y, generator)), y)


def _normal(y: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(y.shape, generator=generator, device=generator.device, dtype=torch.float32).to(y)


def _where(support: Tensor | None, noisy: Tensor, y: Tensor) -> Tensor:
    return noisy if support is None else torch.where(support.to(y.device).bool(), noisy, y)


def _require(kept: bool, message: str) -> None:
    if not kept:  # also for NaN
        raise ValueError(message)
