"""One iteration of each solver, a pure function from state to state.

A solver iterates a step with fixed proximal maps until it converges; an unrolled network iterates the same step with
learned maps. Maps act on batches, and step sizes are numbers or tensors that broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.conjugate_gradient import inner

Map = Callable[[Tensor], Tensor]
Update = Callable[[Tensor, Tensor], Tensor]


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
    v = c + state.u
    z = prox(v)
    if isinstance(dual_step, float) and dual_step == 1.0:
        return ADMMState(x, z, v - z)
    return ADMMState(x, z, state.u + dual_step * (c - z))


class HQSState(NamedTuple):
    """Image x that fits the data, and its copy z that fits the prior."""

    x: Tensor
    z: Tensor


def hqs_step(state: HQSState, solve: Map, prox: Map) -> HQSState:
    """One iteration of half-quadratic splitting for min f(x) + g(z) + μ/2 ‖x − z‖² (Geman & Yang 1995).

    Args:
        state: (x, z); x starts the solve.
        solve: z ↦ argmin_x f(x) + μ/2 ‖x − z‖².
        prox: x ↦ argmin_z g(z) + μ/2 ‖z − x‖², or a denoiser.
    """
    z = prox(state.x)
    return HQSState(solve(z), z)


def proximal_gradient_step(x: Tensor, gradient: Map, prox: Map, *, step_size: float | Tensor) -> Tensor:
    """x ← prox(x − τ ∇f(x)) for min f(x) + g(x), with prox of τ g; needs τ < 2/‖∇²f‖ (Combettes & Wajs 2005)."""
    return prox(x - step_size * gradient(x))


class FISTAState(NamedTuple):
    """Image x, the point that the next step starts from, and the momentum t of each image, ``[B, 1, …]``."""

    x: Tensor
    point: Tensor
    t: Tensor

    @classmethod
    def start(cls, x: Tensor) -> FISTAState:
        """No momentum."""
        return cls(x, x, x.new_ones(len(x), *[1] * (x.ndim - 1)))


def fista_step(state: FISTAState, gradient: Map, prox: Map, *, step_size: float | Tensor) -> FISTAState:
    """One accelerated proximal gradient step (Beck & Teboulle 2009) that forgets its momentum where it hurts.

    An image restarts where the step turns back against the last one (O'Donoghue & Candès 2015, gradient scheme). Needs
    τ ≤ 1/‖∇²f‖.
    """
    x = proximal_gradient_step(state.point, gradient, prox, step_size=step_size)
    t = torch.where(inner(state.point - x, x - state.x) > 0, torch.ones_like(state.t), state.t)
    following = (1 + (1 + 4 * t.square()).sqrt()) / 2
    return FISTAState(x, x + (t - 1) / following * (x - state.x), following)


class PrimalDualState(NamedTuple):
    """Image x and the dual variable p, which lives where K x does."""

    x: Tensor
    p: Tensor


def primal_dual_step(
    state: PrimalDualState,
    primal: Update,
    dual: Update,
    *,
    analysis: Map,
    adjoint: Map,
    relaxation: float | Tensor = 1.0,
) -> PrimalDualState:
    """One primal–dual iteration for min f(x) + g(x) + h(K x).

    ``x̃ = primal(x, Kᵀp)``, ``p̃ = dual(p, K(2x̃ − x))``, then both are over-relaxed, x ← x + r (x̃ − x). This is
    Chambolle & Pock (2011) with primal = prox_τg(x − τ Kᵀp) and dual = prox_σh*(p + σ K x̄), which needs
    τσ‖K‖² ≤ 1; and Condat (2013) and Vũ (2013) with primal = prox_τg(x − τ (∇f(x) + Kᵀp)), which needs
    1/τ − σ‖K‖² ≥ ‖∇²f‖/2 (without relaxation). Learned primal–dual puts networks in their places.

    Args:
        state: (x, p).
        primal: (x, Kᵀp) ↦ the next x.
        dual: (p, K x̄) ↦ the next p.
        analysis: x ↦ K x.
        adjoint: p ↦ Kᵀ p.
        relaxation: r in (0, 2).
    """
    x = primal(state.x, adjoint(state.p))
    p = dual(state.p, analysis(2 * x - state.x))
    if isinstance(relaxation, float) and relaxation == 1.0:
        return PrimalDualState(x, p)
    return PrimalDualState(state.x + relaxation * (x - state.x), state.p + relaxation * (p - state.p))


def like(factor: Tensor, tensor: Tensor) -> Tensor:
    """One factor for each image, shaped to multiply ``[B, …]``."""
    return factor.reshape(-1, *[1] * (tensor.ndim - 1))
