"""Sparsity of wavelet coefficients, alone and beside total variation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..physics import LinearOperator
from .convex import Options, minimise
from .terms import Term, TotalVariationTerm
from .tuned import Estimate, Parameter, TunedMethod, Tuning
from .wavelet_terms import WaveletTerm


class Wavelet(TunedMethod):
    """min ½ ‖A x − y‖² + λ Σ |W x|, for A / ‖A‖.

    Args:
        regularisation: λ, in the units of the image; None tunes it in :meth:`fit`.
        family: such as haar, db4, sym8 or coif2.
        levels: of the transform; as many as the image has room for when absent.
        translation_invariant: whether W is the tight frame of all shifts instead of a basis: no blocks, more time.
        options: bounds, likelihood, tolerance, algorithm.
        tuning: how λ is chosen.
    """

    searched = (Parameter("regularisation", 1e-6, 1.0, intensity=True),)

    def __init__(
        self,
        regularisation: float | None = None,
        family: str = "db4",
        levels: int | None = None,
        translation_invariant: bool = True,
        options: Options | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__({"regularisation": regularisation}, tuning)
        self.family, self.levels, self.translation_invariant = family, levels, translation_invariant
        self.options = options or Options()

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        def terms(y: Tensor, unit: float) -> list[Term]:
            weight = values["regularisation"] / unit
            return [WaveletTerm(weight, self.family, self.levels, self.translation_invariant)]

        return minimise("wavelet sparsity", physics, y, terms, self.options, start=start, rough=rough)


class TotalVariationWavelet(TunedMethod):
    """min ½ ‖A x − y‖² + λ Σ |∇x| + μ Σ |W x|, the sparse MRI of Lustig, Donoho & Pauly 2007 (eq. 5).

    Args:
        regularisation: λ of total variation, in the units of the image; None tunes it in :meth:`fit`.
        wavelet: μ of the wavelet coefficients, likewise.
        family: as for :class:`Wavelet`.
        levels: as for :class:`Wavelet`.
        translation_invariant: as for :class:`Wavelet`.
        options: bounds, likelihood, tolerance, algorithm.
        tuning: how both are chosen.
    """

    searched = (
        Parameter("regularisation", 1e-6, 1.0, intensity=True),
        Parameter("wavelet", 1e-6, 1.0, intensity=True),
    )

    def __init__(
        self,
        regularisation: float | None = None,
        wavelet: float | None = None,
        family: str = "db4",
        levels: int | None = None,
        translation_invariant: bool = False,
        options: Options | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__({"regularisation": regularisation, "wavelet": wavelet}, tuning)
        self.family, self.levels, self.translation_invariant = family, levels, translation_invariant
        self.options = options or Options()

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        def terms(y: Tensor, unit: float) -> list[Term]:
            return [
                TotalVariationTerm(values["regularisation"] / unit),
                WaveletTerm(values["wavelet"] / unit, self.family, self.levels, self.translation_invariant),
            ]

        return minimise("total variation and wavelets", physics, y, terms, self.options, start=start, rough=rough)
