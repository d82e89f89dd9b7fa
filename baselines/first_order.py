"""First-order solvers: primal–dual (Chambolle & Pock), forward–backward primal–dual (Condat, Vũ), and FISTA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .iteration import CHECK_EVERY, Progress
from .objective import Objective, Stack
from .steps import FISTAState, PrimalDualState, fista_step, like, primal_dual_step

RELAXATION = 1.8
ADAPTATIONS = 40  # changes of the balance, each smaller than the one before, which keeps the method convergent
DRIFT = 30.0  # how far the balance may go from its first value: beyond, 600 iterations ended up to 40 times less exact


class Balanced(NamedTuple):
    """A primal–dual state, and the balance ω between its two step sizes, ``[B]``."""

    pair: PrimalDualState
    omega: Tensor


@dataclass(frozen=True)
class PrimalDual:
    """Chambolle & Pock (2011), over-relaxed, with every term dual; or Condat (2013) and Vũ (2013) where ``explicit``.

    Steps are σ_i = ω / (T ‖K_i‖²) and τ = 1/ω, so that τ Σ σ_i ‖K_i‖² = 1. The balance ω decides the speed; it follows
    the ratio of the dual to the primal movement of each image (Applegate et al. 2021, §3.3), by ever smaller changes
    and within bounds.

    Args:
        objective: what is minimised.
        explicit: whether least squares are met by their gradient instead of by a dual variable (then τ = 1/(ω + 1)).
    """

    objective: Objective
    explicit: bool = False

    def __post_init__(self) -> None:
        if self.explicit and not self.objective.least_squares:
            raise ValueError("condat-vu needs least squares; take pdhg or admm for this model of the data")

    def iterate(self, start: Balanced | None = None) -> Iterator[Progress]:
        """States after every few iterations, without end."""
        objective = self.objective
        stack, smooth = objective.stack, objective.least_squares and self.explicit
        if objective.least_squares and not self.explicit:
            stack = Stack((*stack.terms, objective.least_squares_term()))
        norms = self._norms(stack)
        share = 1 / (len(norms) * norms.square())
        state, omega = self._start(stack, norms, start)
        z, first = state.p, omega
        for count in range(1, 2**62):
            step = 1 / (omega + float(smooth))
            sigma = (omega[:, None] * share).to(state.x.dtype)
            spread = stack.spread(sigma, state.p)

            def primal(x: Tensor, back: Tensor, step: Tensor = step) -> Tensor:
                slope = back + objective.normal(x) - objective.right if smooth else back
                return x - like(step, x) * slope

            def dual(p: Tensor, ahead: Tensor, spread: Tensor = spread, sigma: Tensor = sigma) -> Tensor:
                nonlocal z
                v = p / spread + ahead
                z = stack.prox(v, 1 / sigma)  # Moreau: the proximal map of σ g* is v ↦ σ (v − prox of g/σ)
                return spread * (v - z)

            for _ in range(CHECK_EVERY):
                last = state
                state = primal_dual_step(
                    state, primal, dual, analysis=stack.analysis, adjoint=stack.adjoint,
                    relaxation=1.0 if smooth else RELAXATION,
                )  # fmt: skip
            # The multiplier of the last proximal map, before relaxation, is the subgradient at z.
            slope = last.p + (state.p - last.p) / (1.0 if smooth else RELAXATION)
            yield Progress(state.x, self._certificate(stack, state.x, z, slope), Balanced(state, omega))
            if count <= ADAPTATIONS:
                moved = (state.p - last.p).flatten(1).norm(dim=1), (state.x - last.x).flatten(1).norm(dim=1)
                ratio = moved[0] / (moved[1] * omega).clamp_min(torch.finfo(omega.dtype).tiny)
                omega = omega * torch.where(ratio > 0, ratio, 1).clamp(0.1, 10) ** (0.5 / count**0.5)
                omega = omega.clamp(first / DRIFT, first * DRIFT)

    def _start(self, stack: Stack, norms: Tensor, start: Balanced | None) -> Balanced:
        u = self.objective.start() if start is None else start[0].x
        c = stack.analysis(u)  # which tells the stack what shapes its parts have
        if start is not None:
            return start
        omega = self.objective.first_penalties(c, stack)
        balance = (omega * norms.square()).sum(1)
        return Balanced(PrimalDualState(u, torch.zeros_like(c)), balance)

    def _norms(self, stack: Stack) -> Tensor:
        """Bounds on ‖K_i‖, ``[T]``, above zero for the differences of a single pixel, too."""
        norms = [term.norm(self.objective.A.domain) for term in stack.terms]
        return torch.tensor(norms, device=self.objective.right.device).clamp_min(1e-3)

    def _certificate(self, stack: Stack, u: Tensor, z: Tensor, p: Tensor) -> Tensor:
        if stack is not self.objective.stack:  # least squares are the last of its terms
            z, p = (self.objective.stack.join(stack.split(part)[:-1]) for part in (z, p))
        return self.objective.certificate(u, z, p)


@dataclass(frozen=True)
class FISTA:
    """Beck & Teboulle (2009) with restarts, for least squares and one term whose K has K Kᵀ = KᵀK = I."""

    objective: Objective

    def __post_init__(self) -> None:
        terms = self.objective.terms
        if not (self.objective.least_squares and len(terms) == 1 and terms[0].orthonormal):
            raise ValueError("fista needs least squares and one orthonormal transform; take admm, pdhg or condat-vu")

    def iterate(self, start: FISTAState | None = None) -> Iterator[Progress]:
        """States after every few iterations, without end."""
        objective, (term,) = self.objective, self.objective.terms
        state = FISTAState.start(objective.start()) if start is None else start
        v = z = term.analysis(state.x)
        step = v.new_ones(len(v))

        def prox(x: Tensor) -> Tensor:
            nonlocal v, z
            v = term.analysis(x)
            z = term.prox(v, like(step, v))
            return term.adjoint(z)

        while True:
            for _ in range(CHECK_EVERY):
                state = fista_step(state, lambda x: objective.normal(x) - objective.right, prox, step_size=1.0)
            yield Progress(state.x, objective.certificate(state.x, z, v - z), state)
