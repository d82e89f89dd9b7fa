"""Methods in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from .spec import Count, MethodSpec, NonNegative, Positive

if TYPE_CHECKING:
    from ..baselines.method import Method


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
    tol: Positive = 1e-3
    max_iter: Count = 2000
    budget: Count = 12
    title: ClassVar[str] = "TV"

    def build(self, seed: int) -> Method:
        from ..baselines.total_variation import TotalVariation

        return TotalVariation(self.regularisation, self.tol, self.max_iter, self.budget)

    def needs(self) -> tuple[str, ...]:
        return ("validation",) if self.regularisation is None else ()


SPECS: tuple[type[MethodSpec], ...] = (DirectSpec, TotalVariationSpec)
