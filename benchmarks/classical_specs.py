"""Direct and classical methods in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from .spec import Count, MethodSpec, NonNegative, Positive, Spec

if TYPE_CHECKING:
    from ..baselines.method import Method
    from ..baselines.tuned import Tuning


class TuningSpec(Spec):
    """How parameters that are not given are chosen; see :class:`isocenter.baselines.tuned.Tuning`."""

    budget: Count = 12

    def build(self) -> Tuning:
        from ..baselines.tuned import Tuning

        return Tuning(**self.model_dump())


class DirectSpec(MethodSpec):
    """The operator's own direct reconstruction."""

    kind: Literal["direct"]
    title: ClassVar[str] = "Direct"

    def build(self, seed: int) -> Method:
        from ..baselines.direct import Direct

        return Direct()


class TotalVariationSpec(MethodSpec):
    """Total variation; ``regularisation`` is tuned on the validation images where it is not given."""

    kind: Literal["tv"]
    regularisation: NonNegative | None = None
    tol: Positive = 1e-2
    max_iter: Count = 500
    tuning: TuningSpec = TuningSpec()
    title: ClassVar[str] = "TV"

    def build(self, seed: int) -> Method:
        from ..baselines.total_variation import TotalVariation

        return TotalVariation(self.regularisation, self.tol, self.max_iter, self.tuning.build())

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if self.regularisation is None else ()


SPECS: tuple[type[MethodSpec], ...] = (DirectSpec, TotalVariationSpec)
