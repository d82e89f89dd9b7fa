"""Compressed sensing around a prior image: what another method made is corrected where the measurements disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..physics import LinearOperator
from .convex import Options, minimise
from .least_squares import least_misfit
from .method import Method
from .terms import Term, TotalVariationTerm
from .tuned import Estimate, Parameter, TunedMethod, Tuning


class Anchored(Term):
    """x ↦ g(K (x − a)) for a term g(K x) and images a.

    Args:
        term: g and K.
        anchor: a, ``[B, *domain]``.
    """

    def __init__(self, term: Term, anchor: Tensor) -> None:
        self.term, self.at = term, term.analysis(anchor)
        self.orthonormal, self.groups, self.share, self.adaptive = (
            term.orthonormal,
            term.groups,
            term.share,
            term.adaptive,
        )

    def analysis(self, x: Tensor) -> Tensor:
        return self.term.analysis(x)

    def adjoint(self, c: Tensor) -> Tensor:
        return self.term.adjoint(c)

    def gram(self, x: Tensor, c: Tensor) -> Tensor:
        return self.term.gram(x, c)

    def value(self, c: Tensor) -> Tensor:
        return self.term.value(c - self.at.to(c))

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        at = self.at.to(c)
        return at + self.term.prox(c - at, step)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        return self.term.spectrum(domain)

    def norm(self, domain: tuple[int, ...]) -> float:
        return self.term.norm(domain)

    def first_penalty(self, c: Tensor) -> Tensor | None:
        return self.term.first_penalty(c - self.at.to(c))


class PriorImage(TunedMethod):
    """min ½ ‖A x − y‖² + λ Σ |∇(x − a)| + κ λ Σ |∇x|, for A / ‖A‖, with a from another method.

    Prior image constrained compressed sensing (Chen, Tang & Leng, Med. Phys. 2008). The first penalty lets the image
    leave a only where the measurements pay for an edge of the difference; a may thus have texture that total variation
    would not keep. The second lets edges of a go that the measurements do not ask for. For κ → ∞ it is total variation;
    for κ = 0, a plus the total variation reconstruction of what a leaves unexplained; for λ → ∞ and κ = 0, a up to a
    constant.

    With ``epsilon`` the data are a constraint instead, a :class:`MeasurementBall` with the least misfit, and λ has no
    meaning. For κ > 1 an image of few edges is then recovered exactly whatever a is, where total variation recovers it
    with room to spare; near the fewest measurements that total variation needs, a poor a costs accuracy, and κ has to
    be large.

    Args:
        prior: makes a; fitted already.
        regularisation: λ, in the units of the image; None tunes it in :meth:`fit`.
        sparsity: κ; None tunes it in :meth:`fit`.
        epsilon: ε, relative to each measurement.
        options: tolerance and algorithm.
        tuning: how λ and κ are chosen.
    """

    def __init__(
        self,
        prior: Method,
        regularisation: float | None = None,
        sparsity: float | None = None,
        epsilon: float | None = None,
        options: Options | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        self._check_number("epsilon", epsilon)
        given = {"sparsity": sparsity} | ({"regularisation": regularisation} if epsilon is None else {})
        super().__init__(given, tuning)
        self.prior, self.epsilon, self.options = prior, epsilon, options or Options()

    @property
    def searched(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        weight = (Parameter("regularisation", 1e-6, 1.0, intensity=True),) if self.epsilon is None else ()
        return (*weight, Parameter("sparsity", 1e-3, 1e2))

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        anchor, least, state = start or (self.prior.reconstruct(y, physics), self._least(y, physics), None)

        def terms(y: Tensor, unit: float) -> list[Term]:
            weight = values["regularisation"] / unit if self.epsilon is None else 1.0
            own = TotalVariationTerm(values["sparsity"] * weight)
            return [Anchored(TotalVariationTerm(weight), anchor / unit), own]

        x, state = minimise(
            "total variation around a prior image",
            physics,
            y,
            terms,
            self.options,
            epsilon=self.epsilon,
            least=least,
            start=state,
            rough=rough,
        )
        return Estimate(x, (anchor, least, state))

    def _least(self, y: Tensor, physics: LinearOperator) -> Tensor | None:
        return None if self.epsilon is None else least_misfit(physics, y)
