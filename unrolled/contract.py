"""The contract of every network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from ..physics import LinearOperator


class Network(nn.Module, ABC):
    """x = network(y, A) for operators of norm one and images whose data range is one.

    No image may depend on the others of its batch: no batch normalisation. All in float32 but the insides of
    :class:`ConvolutionBlock`.

    Attributes:
        settings: what was given to make the network, plain data; weights fit networks of the same settings only.
    """

    settings: dict[str, Any]

    @abstractmethod
    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
