"""The operator's own direct reconstruction."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from ..physics import LinearOperator
from .method import Method


class Direct(Method):
    """Filtered back-projection, zero filling, Wiener or bicubic: whatever the operator calls direct."""

    group: ClassVar[Literal["direct", "classical", "learned"]] = "direct"

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        return physics.direct(y)
