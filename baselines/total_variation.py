"""Total variation: the classical sparsity prior for images (Rudin, Osher & Fatemi 1992)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..physics import LinearOperator
from .convex import Options, minimise
from .generalised_variation import CurvatureTerm, SlopeTerm
from .least_squares import least_misfit
from .terms import Term, TotalVariationTerm
from .tuned import Estimate, Parameter, TunedMethod, Tuning

WEIGHT = Parameter("regularisation", 1e-6, 1.0, intensity=True)


class TotalVariation(TunedMethod):
    """min ½ ‖A x − y‖² + λ Σ |∇x|, for A / ‖A‖.

    Args:
        regularisation: λ, in the units of the image; None tunes it in :meth:`fit`.
        isotropic: whether differences along rows and columns are joined in one length.
        options: bounds, likelihood, tolerance, algorithm.
        tuning: how λ is chosen.
    """

    searched = (WEIGHT,)

    def __init__(
        self,
        regularisation: float | None = None,
        isotropic: bool = True,
        options: Options | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__({"regularisation": regularisation}, tuning)
        self.isotropic, self.options = isotropic, options or Options()

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        def terms(y: Tensor, unit: float) -> list[Term]:
            return [TotalVariationTerm(values["regularisation"] / unit, self.isotropic)]

        return minimise("total variation", physics, y, terms, self.options, start=start, rough=rough)


class ConstrainedTotalVariation(TunedMethod):
    """min Σ |∇x| under ‖A x − ŷ‖ ≤ ε ‖y‖; ε = 0 demands A x = ŷ, which recovers images with few edges exactly.

    ŷ is y up to noise that no image explains, such as that of more measurements than pixels: the constraint is
    ‖A x − y‖² ≤ (ε² + m²) ‖y‖² with the :func:`least_misfit` m. So there is an image for every ε, unless bounds in
    ``options`` rule it out.

    Source: Candès, Romberg & Tao 2006; Sidky & Pan 2008.

    Args:
        epsilon: ε, relative to each measurement; None tunes it in :meth:`fit`.
        isotropic: whether differences along rows and columns are joined in one length.
        options: bounds, tolerance, algorithm; the likelihood is replaced by the constraint.
        tuning: how ε is chosen.
    """

    searched = (Parameter("epsilon", 1e-3, 1.0),)

    def __init__(
        self,
        epsilon: float | None = None,
        isotropic: bool = True,
        options: Options | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__({"epsilon": epsilon}, tuning)
        self.isotropic, self.options = isotropic, options or Options()

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        least, state = start or (least_misfit(physics, y), None)

        def terms(y: Tensor, unit: float) -> list[Term]:
            return [TotalVariationTerm(1.0, self.isotropic)]

        x, state = minimise(
            "constrained total variation",
            physics,
            y,
            terms,
            self.options,
            epsilon=values["epsilon"],
            least=least,
            start=state,
            rough=rough,
        )
        return Estimate(x, (least, state))


class TotalGeneralisedVariation(TunedMethod):
    """min ½ ‖A x − y‖² + min_v λ Σ |∇x − v| + κ λ Σ |E v|: slopes cost nothing, so that they do not become stairs.

    Source: Bredies, Kunisch & Pock 2010, with α₁ = λ and α₀ = κ λ.

    Args:
        regularisation: λ, in the units of the image; None tunes it in :meth:`fit`.
        ratio: κ; 2 is usual, large values approach total variation of images without slopes.
        options: bounds, likelihood, tolerance, algorithm.
        tuning: how λ is chosen.
    """

    searched = (WEIGHT,)

    def __init__(
        self,
        regularisation: float | None = None,
        ratio: float = 2.0,
        options: Options | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__({"regularisation": regularisation}, tuning)
        if not 0 < ratio < math.inf:
            raise ValueError(f"TotalGeneralisedVariation: ratio is {ratio}, expected a positive number")
        self.ratio, self.options = ratio, options or Options()

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        def terms(y: Tensor, unit: float) -> list[Term]:
            weight = values["regularisation"] / unit
            return [SlopeTerm(weight), CurvatureTerm(self.ratio * weight)]

        return minimise("total generalised variation", physics, y, terms, self.options, start=start, rough=rough)
