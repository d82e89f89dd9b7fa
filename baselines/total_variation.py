"""Total variation: the classical sparsity prior for images (Rudin, Osher & Fatemi 1992)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ..data.problem import Problem
from ..physics import LinearOperator, Normalised
from ..physics.conjugate_gradient import inner
from .gradient import NORM_SQUARED, gradient, gradient_adjoint, project_to_ball
from .method import ConvergenceWarning, Fit, Method
from .steps import PDHGState, like, pdhg_step
from .tuning import load_chosen, save_chosen, tune

CHECK_EVERY = 10  # iterations between two looks at the residuals
SEARCH = (1e-6, 1.0)  # range of λ, as a fraction of the data range
TUNING_SLACK = 5.0  # the tolerance while tuning, over the final one: PSNR settles long before the iterates do


class Progress(NamedTuple):
    """What the solver yields: where it is, and how far each image ``[B]`` is from its optimum."""

    state: PDHGState
    balance: Tensor
    residual: Tensor


class Solution(NamedTuple):
    """Images ``[B, C, H, W]``, their residuals ``[B]``, the iterations that were made, and where to go on from."""

    x: Tensor
    residual: Tensor
    iterations: int
    progress: Progress


@dataclass(frozen=True)
class TotalVariationSolver:
    """min_x ½ ‖A x − y‖² + λ Σ |∇x| by the primal–dual hybrid gradient method with balanced steps.

    Where the data term has a closed-form prox, K = ∇; elsewhere K = [∇; A], and a step applies A and Aᵀ once (Sidky,
    Jørgensen & Pan 2012). A is divided by its norm, so that λ means the same thing for every operator, and ∇ by √8, so
    that ‖K‖² ≤ 2. The balance of τ against σ is moved, for each image, until its primal and its dual residual are
    within a factor of two; the moves die out, which keeps the method convergent (Goldstein et al. 2015).

    Args:
        physics: A.
        y: measurements ``[B, *range]``.
        regularisation: λ ≥ 0, in the units of the image.
    """

    physics: LinearOperator
    y: Tensor
    regularisation: float

    def iterate(self, start: Progress | None = None) -> Iterator[Progress]:
        """States after every :data:`CHECK_EVERY` steps, without end.

        The residual is the larger of ‖p‖ / ‖Aᵀy‖ and ‖d‖ / ‖y‖, where p ∈ ∂f(x) + Kᵀq and d ∈ ∂g*(q) − K x are zero
        at the optimum.
        """
        A = Normalised(self.physics)
        y = self.y / A.scale
        closed, root = A.closed_form_prox, NORM_SQUARED**0.5
        norm = 1.0 if closed else 2**0.5

        def forward(x: Tensor) -> tuple[Tensor, ...]:
            return (gradient(x) / root,) if closed else (gradient(x) / root, A.A(x))

        def adjoint(dual: tuple[Tensor, ...]) -> Tensor:
            back = gradient_adjoint(dual[0]) / root
            return back if closed else back + A.A_adjoint(dual[1])

        def prox(x: Tensor) -> Tensor:
            return A.prox_l2(x, y, tau) if closed else x

        def dual_prox(dual: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            ball = (project_to_ball(dual[0], self.regularisation * root),)
            return ball if closed else (*ball, (dual[1] - like(sigma, y) * y) / (1 + like(sigma, y)))

        if start is None:
            x = self.physics.direct(self.y)
            zeros = tuple(torch.zeros_like(block) for block in forward(x))
            state, balance = PDHGState(x, x, zeros, torch.zeros_like(x)), torch.ones_like(x[:, :1, :1, :1])
        else:
            state, balance = start.state, start.balance
        tiny = torch.finfo(y.dtype).tiny
        primal_scale, dual_scale = _norm(A.A_adjoint(y)).clamp_min(tiny), _norm(y).clamp_min(tiny)
        agility = 0.5
        while True:
            tau, sigma = balance / norm, 1 / (balance * norm)
            for _ in range(CHECK_EVERY):
                previous, state = state, pdhg_step(state, forward, adjoint, prox, dual_prox, tau, sigma)
            primal = _norm((previous.x - state.x) / tau) / primal_scale
            ahead = forward(previous.ahead - state.x)
            moves = zip(previous.dual, state.dual, ahead, strict=True)
            dual = _norm(*((a - b) / like(sigma, a) + k for a, b, k in moves)) / dual_scale
            yield Progress(state, balance, torch.maximum(primal, dual))
            factor = torch.where(primal > 2 * dual, 1 / (1 - agility), torch.where(dual > 2 * primal, 1 - agility, 1.0))
            balance = balance * like(factor, balance)
            agility *= 0.95

    def solve(self, tol: float, max_iter: int, start: Progress | None = None) -> Solution:
        """Iterate until every image has its residual under ``tol``; each keeps its first iterate that has."""
        done: Tensor | None = None
        for count, progress in enumerate(self.iterate(start), start=1):
            x = progress.state.x
            if done is None:
                done, best, residual = torch.zeros(len(x), dtype=torch.bool, device=x.device), x, progress.residual
            best = torch.where(like(done, x), best, x)
            residual = torch.where(done, residual, progress.residual)
            done = residual <= tol
            if done.all() or count * CHECK_EVERY >= max_iter:
                return Solution(best, residual, count * CHECK_EVERY, progress)
        raise AssertionError("unreachable")


class TotalVariation(Method):
    """Isotropic total variation, its weight λ tuned on the validation images.

    Args:
        regularisation: λ for A / ‖A‖ and images in their own units; None tunes it in :meth:`fit`.
        tol: residual (see :class:`TotalVariationSolver`) at which an image is done.
        max_iter: bound on the iterations; an image that meets it is reported by a :class:`ConvergenceWarning`.
        budget: how many values of λ :meth:`fit` tries.
    """

    group: ClassVar[Literal["direct", "classical", "learned"]] = "classical"

    def __init__(
        self, regularisation: float | None = None, tol: float = 1e-4, max_iter: int = 3000, budget: int = 12
    ) -> None:
        if regularisation is not None and not regularisation >= 0:
            raise ValueError(f"TotalVariation: regularisation is {regularisation}, expected a number ≥ 0")
        self.regularisation, self.tol, self.max_iter, self.budget = regularisation, tol, max_iter, budget

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        if self.regularisation is None:
            raise ValueError("TotalVariation: no regularisation; give one, or call fit with validation images")
        solution = TotalVariationSolver(physics, y, self.regularisation).solve(self.tol, self.max_iter)
        worst = float(solution.residual.max())
        if not worst <= self.tol:
            warnings.warn(
                f"total variation stopped after {solution.iterations} iterations at residual {worst:.1e}, "
                f"tolerance {self.tol:.0e}; raise max_iter",
                ConvergenceWarning,
                stacklevel=2,
            )
        return solution.x

    def fit(self, train: Problem, validation: Problem, folder: Path | None = None) -> Fit:
        """Maximise the mean PSNR of the validation images over log λ; the training images are not used."""
        truths, y = validation.batch(range(len(validation)))
        progress: Progress | None = None

        def reconstruct(regularisation: float) -> Tensor:
            nonlocal progress
            solver = TotalVariationSolver(validation.physics, y, regularisation)
            solution = solver.solve(TUNING_SLACK * self.tol, self.max_iter, progress)
            progress = solution.progress
            return solution.x

        low, high = (bound * validation.data_range for bound in SEARCH)
        fit = tune("regularisation", reconstruct, truths, validation.data_range, low, high, self.budget)
        self.regularisation = fit.chosen["regularisation"]
        return fit

    def save(self, folder: Path) -> None:
        save_chosen(folder, {"regularisation": self.regularisation})

    def load(self, folder: Path) -> None:
        self.regularisation = load_chosen(folder, "regularisation")

    @property
    def parameters(self) -> int:
        return 1


def _norm(*blocks: Tensor) -> Tensor:
    """‖(a, b, …)‖ of each image, ``[B]``."""
    return sum(inner(block, block).flatten() for block in blocks).sqrt()  # type: ignore[union-attr]
