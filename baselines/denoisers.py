"""The contract of denoisers, and those that are proximal maps of a sparsity prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..physics import Identity
from .admm import ADMM
from .iteration import solve
from .objective import Objective
from .steps import like
from .terms import TotalVariationTerm
from .wavelet_terms import WaveletTerm


class Denoiser(ABC):
    """x ↦ D_σ(x), which removes white Gaussian noise of standard deviation σ from images ``[B, C, H, W]``.

    σ is a number or one for each image, in the units of the image, which every denoiser scales with:
    D_{aσ}(a x) = a D_σ(x) for a > 0, and D_0 = 1. The channels of a complex image are treated jointly; no image depends
    on the others of its batch.
    """

    @abstractmethod
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """D_σ(x)."""


def noise_level(sigma: float | Tensor, x: Tensor) -> Tensor:
    """σ of each image, ``[B, 1, 1, 1]``.

    Raises:
        ValueError: for a negative σ, or another number of them than one or one an image.
    """
    levels = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1)
    if len(levels) not in (1, len(x)) or not (levels >= 0).all():
        raise ValueError(
            f"denoiser: sigma is {sigma}, expected a number ≥ 0, or one for each of the {len(x)} images of the batch"
        )
    return like(levels.expand(len(x)), x)


class UnitDenoiser(Denoiser):
    """D_σ(x) = σ D_1(x / σ): what scales with the image needs to know noise of one size only."""

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        levels = noise_level(sigma, x)
        noisy = levels > 0
        unit = torch.where(noisy, levels, 1)
        return torch.where(noisy, unit * self.unit(x / unit), x)

    @abstractmethod
    def unit(self, x: Tensor) -> Tensor:
        """D_1(x)."""


@dataclass(frozen=True)
class TotalVariationDenoiser(UnitDenoiser):
    """D_σ(x) = argmin_z ½ ‖z − x‖² + σ Σ |∇z| (Rudin, Osher & Fatemi 1992).

    The weight grows with σ and not with σ², so that the denoiser scales with the image; a prior of fixed weight w is
    met by σ = w.

    Args:
        tol: certified relative gap to the optimum.
        max_iter: bound on the iterations.
    """

    tol: float = 1e-3
    max_iter: int = 200

    def unit(self, x: Tensor) -> Tensor:
        objective = Objective(Identity(x.shape[1:]).to(x.device), x, [TotalVariationTerm(1.0)])
        return solve(ADMM(objective), self.tol, self.max_iter).x


@dataclass(frozen=True)
class WaveletDenoiser(UnitDenoiser):
    """D_σ(x) = Wᵀ S_σ(W x): details are shrunk by σ, jointly over the channels, the coarsest approximation is kept.

    In an orthonormal basis this is argmin_z ½ ‖z − x‖² + σ Σ |W z| (Donoho & Johnstone 1994). Translation invariant, it
    is the mean of that over all shifts of the image, which leaves fewer artefacts (Coifman & Donoho 1995).

    Args:
        family: as for :class:`WaveletTerm`.
        levels: as for :class:`WaveletTerm`.
        translation_invariant: whether W is the tight frame of all shifts.
    """

    family: str = "db4"
    levels: int | None = None
    translation_invariant: bool = True

    def unit(self, x: Tensor) -> Tensor:
        term = WaveletTerm(1.0, self.family, self.levels, self.translation_invariant)
        return term.adjoint(term.prox(term.analysis(x), x.new_ones(len(x))))
