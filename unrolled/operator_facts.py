"""What networks ask of an operator: how much of an image it sees."""

from __future__ import annotations

from ..physics import LinearOperator


def mean_eigenvalue(physics: LinearOperator) -> float:
    """That of AᵀA for an operator of norm one: the sampled fraction of k-space, a hundredth for sparse-view CT."""
    return float(physics.normal_spectrum.mean())
