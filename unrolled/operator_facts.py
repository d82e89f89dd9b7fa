"""What networks ask of an operator: what is inside its wrappers, and how much of an image it sees."""

from __future__ import annotations

from ..physics import LinearOperator, Normalised
from ..physics.subset import Subset


def unwrapped(physics: LinearOperator) -> tuple[LinearOperator, float]:
    """The operator inside :class:`Normalised` and :class:`Subset`, and what its measurements were divided by."""
    scale = 1.0
    while isinstance(physics, Normalised | Subset):
        scale *= physics.scale if isinstance(physics, Normalised) else 1.0
        physics = physics.operator
    return physics, scale


def mean_eigenvalue(physics: LinearOperator) -> float:
    """That of AᵀA for an operator of norm one: the sampled fraction of k-space, a hundredth for sparse-view CT."""
    return float(physics.normal_spectrum.mean())
