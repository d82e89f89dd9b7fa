"""Reweighted total variation: edges that another image shows cost little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..physics import LinearOperator
from .convex import Options, minimise
from .gradient import gradient, joint_length, shrink
from .least_squares import least_misfit
from .method import Method
from .terms import Term, TotalVariationTerm
from .tuned import Estimate, Parameter, TunedMethod, Tuning, unit_of


class WeightedTotalVariationTerm(TotalVariationTerm):
    """λ Σ w |∇x|, isotropic.

    Args:
        weight: λ ≥ 0, in the units of the image.
        profile: w ≥ 0, ``[B, H, W]``.
    """

    def __init__(self, weight: float, profile: Tensor) -> None:
        super().__init__(weight)
        self.profile = profile

    def value(self, c: Tensor) -> Tensor:
        return self.weight * (self.profile.to(c) * joint_length(c)).flatten(1).sum(1)

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        return shrink(c, (self.weight * step.reshape(-1, 1, 1) * self.profile.to(c))[:, None, None])


class ReweightedTotalVariation(TunedMethod):
    """min ½ ‖A x − y‖² + λ Σ w |∇x|, for A / ‖A‖, with w = δ / (δ + |∇a|) of an image a.

    Where a has edges, x may have them at a small price, so that fewer measurements determine it (Candès, Wakin & Boyd,
    J. Fourier Anal. Appl. 2008). The image a is total variation's, and then what the last round made; or that of
    another method, such as a network, which only proposes where edges are: every value comes from the measurements.
    For δ → ∞ it is total variation.

    With ``epsilon`` the data are a constraint instead, a :class:`MeasurementBall` with the least misfit, and λ has no
    meaning.

    Args:
        prior: makes the first a, fitted already; total variation with the same λ or ε when absent.
        regularisation: λ, in the units of the image; None tunes it in :meth:`fit`.
        edge: δ, in the units of the image, the difference of neighbours that halves the price; None tunes it.
        epsilon: ε, relative to each measurement.
        rounds: how often weights are chosen.
        options: bounds, likelihood, tolerance, algorithm.
        tuning: how λ and δ are chosen.
    """

    def __init__(
        self,
        prior: Method | None = None,
        regularisation: float | None = None,
        edge: float | None = None,
        epsilon: float | None = None,
        rounds: int = 2,
        options: Options | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        if edge == 0 or rounds < 1:
            raise ValueError(f"ReweightedTotalVariation: edge is {edge} and rounds {rounds}, expected both positive")
        self._check_number("epsilon", epsilon)
        super().__init__({"edge": edge} | ({"regularisation": regularisation} if epsilon is None else {}), tuning)
        self.prior, self.epsilon, self.rounds, self.options = prior, epsilon, rounds, options or Options()

    @property
    def searched(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        weight = (Parameter("regularisation", 1e-6, 1.0, intensity=True),) if self.epsilon is None else ()
        return (*weight, Parameter("edge", 1e-3, 1.0, intensity=True))

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        first, least, state = start or (None, None if self.epsilon is None else least_misfit(physics, y), None)

        def step(profile: Tensor | None, state: Any) -> Estimate:
            def terms(y: Tensor, unit: float) -> list[Term]:
                weight = values["regularisation"] / unit if self.epsilon is None else 1.0
                return [TotalVariationTerm(weight) if profile is None else WeightedTotalVariationTerm(weight, profile)]

            return minimise(
                "reweighted total variation",
                physics,
                y,
                terms,
                self.options,
                epsilon=self.epsilon,
                least=least,
                start=state,
                rough=rough,
            )

        if self.prior is None:
            x, first = step(None, first)
        else:
            x = first = self.prior.reconstruct(y, physics) if first is None else first
        unit = unit_of(y)
        edge = values["edge"] / unit
        for _ in range(self.rounds):
            x, state = step(edge / (edge + joint_length(gradient(x / unit))), state)
        return Estimate(x, (first, least, state))
