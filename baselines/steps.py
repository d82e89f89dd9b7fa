"""One iteration of each solver, a pure function from state to state.

A solver iterates a step with a fixed proximal map until it converges; an unrolled network iterates the same step with
learned maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Map = Callable[[Tensor], Tensor]


class ADMMState(NamedTuple):
    """Image x, its split copy z ≈ D x, and the scaled multiplier u."""

    x: Tensor
    z: Tensor
    u: Tensor


def admm_step(
    state: ADMMState, solve: Map, prox: Map, *, analysis: Map = lambda x: x, dual_step: float | Tensor = 1.0
) -> ADMMState:
    """One scaled-form ADMM iteration for min f(x) + g(D x) (Boyd et al. 2011, §3.1.1).

    Args:
        state: (x, z, u).
        solve: v ↦ argmin_x f(x) + ρ/2 ‖D x − v‖².
        prox: v ↦ argmin_z g(z) + ρ/2 ‖z − v‖².
        analysis: x ↦ D x.
        dual_step: η of u ← u + η (D x − z), a number or a tensor that broadcasts against z; converges for
            0 < η < (1 + √5)/2 (Glowinski 1984).
    """
    x = solve(state.z - state.u)
    c = analysis(x)
    z = prox(c + state.u)
    return ADMMState(x, z, state.u + dual_step * (c - z))


def like(factor: Tensor, tensor: Tensor) -> Tensor:
    """One factor for each image, shaped to multiply ``[B, …]``."""
    return factor.reshape(-1, *[1] * (tensor.ndim - 1))
