"""Least squares by conjugate gradients, stopped early or converged."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised
from ..physics.conjugate_gradient import inner
from .method import ConvergenceWarning
from .steps import like
from .terms import relative
from .tuned import Estimate, Parameter, TunedMethod, Tuning
from .watching import show

CONVERGED = 1000  # bound on the iterations where a tolerance stops them
DOUBLED, SETTLED, HEADROOM, EXACT = (10, 20, 40, 80, 160), 0.9, 1.05, 1e-4  # of least_misfit


class CGLSState(NamedTuple):
    """After ``iteration`` iterations: image x, misfit r = y − A x, search direction p, and ‖Aᵀr‖² of each image."""

    iteration: int
    x: Tensor
    r: Tensor
    p: Tensor
    energy: Tensor


class Solution(NamedTuple):
    """Images ``[B, C, H, W]``, their relative residuals ‖Aᵀ(y − A x)‖ / ‖Aᵀy‖, ``[B]``, and where to go on from."""

    x: Tensor
    residual: Tensor
    state: CGLSState


@dataclass(frozen=True)
class LeastSquaresSolver:
    """min ‖A x − y‖ by CGLS (Hestenes & Stiefel 1952, Björck 1996, §7.4), from x = 0.

    The k-th iterate is the best of the Krylov space spanned by (AᵀA)^j Aᵀy, j < k, which holds the large singular
    vectors first: few iterations are a regularisation, and many converge to the solution of least norm. An image whose
    normal equations hold to ``tol`` keeps its iterate, whatever the others of its batch do.

    Args:
        physics: A.
        y: measurements ``[B, *range]``.
        tol: of ‖Aᵀ(y − A x)‖ / ‖Aᵀy‖; None goes on to rounding error.
    """

    physics: LinearOperator
    y: Tensor
    tol: float | None = None

    def solve(self, iterations: int, start: CGLSState | None = None) -> Solution:
        """``iterations`` in all, those of ``start`` included where it has no more than these."""
        A, scale = Normalised(self.physics), peak(self.y)
        y = self.y / like(scale, self.y) / A.scale
        right = A.A_adjoint(y)
        initial = inner(right, right)
        bound = (10 * torch.finfo(y.dtype).eps if self.tol is None else self.tol) ** 2 * initial
        fresh = CGLSState(0, torch.zeros_like(right), y, right, initial)
        state = fresh if start is None or start.iteration > iterations else start
        while state.iteration < iterations and (state.energy > bound).any():
            state = cgls_step(state, A, bound)
            show(state.iteration, state.x * like(scale, state.x))
        # From the definition, since the recursion for r drifts: this is what certifies the solution.
        residual = A.A_adjoint(y - A.A(state.x)).flatten(1).norm(dim=1)
        relative = residual / right.flatten(1).norm(dim=1).clamp_min(torch.finfo(y.dtype).tiny)
        return Solution(state.x * like(scale, state.x), relative, state)


def cgls_step(state: CGLSState, A: LinearOperator, bound: float | Tensor = 0.0) -> CGLSState:
    """One iteration of CGLS; images with ‖Aᵀr‖² ≤ ``bound``, ``[B, 1, 1, 1]``, stay as they are."""
    tiny = torch.finfo(state.x.dtype).tiny
    running = state.energy > bound
    image = A.A(state.p)
    step = torch.where(running, state.energy / like(inner(image, image), state.x).clamp_min(tiny), 0)
    x, r = state.x + step * state.p, state.r - like(step, image) * image
    gradient = A.A_adjoint(r)
    energy = torch.where(running, inner(gradient, gradient), state.energy)
    return CGLSState(state.iteration + 1, x, r, gradient + energy / state.energy.clamp_min(tiny) * state.p, energy)


@torch.no_grad()
def least_misfit(physics: LinearOperator, y: Tensor) -> Tensor:
    """What least squares leave of y, min ‖A x − y‖ / ‖y‖, and a little more: ``[B]``; 0 where some image explains it.

    CGLS stops once twice as many iterations take less than a tenth off it: the rest is noise, of which A explains no
    more, or only with huge images along its small singular values. Without noise it keeps falling, and 0 is believed.
    What is left then is 5 % more at least than the next doubling would leave, since a ball that one image alone
    reaches is slow to solve for.
    """
    A = Normalised(physics)
    y = y / like(peak(y), y) / A.scale
    right = A.A_adjoint(y)
    energy = inner(right, right)
    state, rounding = CGLSState(0, torch.zeros_like(right), y, right, energy), torch.finfo(y.dtype).eps ** 2 * energy
    least = before = y.new_full((len(y),), torch.inf)
    for iterations in DOUBLED:
        while state.iteration < iterations:
            state = cgls_step(state, A, rounding)
        misfit = relative(state.r, y)
        roomy = torch.maximum(misfit, HEADROOM * misfit * (misfit / before))
        found = torch.where(misfit > SETTLED * before, roomy, torch.where(misfit <= EXACT, 0, torch.inf))
        least, before = torch.where(least.isinf(), found, least), misfit
        if least.isfinite().all():
            break
    return torch.where(least.isinf(), 0, least)


class LeastSquares(TunedMethod):
    """Least squares; its iterations, which regularise it, are tuned on the validation images.

    Args:
        iterations: k; None tunes it in :meth:`fit`, or bounds it by :data:`CONVERGED` where ``tol`` is given.
        tol: asks for the converged solution instead, with ‖Aᵀ(y − A x)‖ ≤ tol ‖Aᵀy‖; an image that does not get there
            is reported by a :class:`ConvergenceWarning`.
        tuning: how k is chosen.
    """

    searched = (Parameter("iterations", 1, 200, integer=True),)

    def __init__(self, iterations: int | None = None, tol: float | None = None, tuning: Tuning | None = None) -> None:
        if iterations is None and tol is not None:
            iterations = CONVERGED
        super().__init__({"iterations": iterations}, tuning)
        self.tol = tol

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        solution = LeastSquaresSolver(physics, y, self.tol).solve(round(values["iterations"]), start)
        worst = float(solution.residual.max())
        if self.tol is not None and not worst <= self.tol:
            warnings.warn(
                f"least squares stopped after {solution.state.iteration} iterations with a residual of the normal "
                f"equations of {worst:.1e}, tolerance {self.tol:.1e}; raise iterations, or tol",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Estimate(solution.x, solution.state)


def peak(y: Tensor) -> Tensor:
    """max |y| of each measurement, ``[B]``, and 1 for zero: its square may be out of range where y is not."""
    largest = y.flatten(1).abs().amax(1)
    return torch.where(largest > 0, largest, 1)
