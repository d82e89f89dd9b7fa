"""Quadratic regularisation: the linear method that every sparsity prior has to beat (Tikhonov 1963)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised
from ..physics.conjugate_gradient import inner
from ..physics.periodic import filter_image, gradient_power
from .gradient import gradient, gradient_adjoint
from .least_squares import peak
from .method import ConvergenceWarning
from .steps import like
from .tuned import Estimate, Parameter, TunedMethod, Tuning, check_choice

Penalty = Literal["identity", "gradient"]

LATEST = 5  # iterations whose largest gain stands for the next ones: single ones may gain next to nothing
SELDOM = 20  # iterations for each one more that is skipped between two looks, which cost as many as there were
TUNING_SLACK = 10.0  # while tuning: PSNR settles long before the error does


class Solution(NamedTuple):
    """Images ``[B, C, H, W]``, and the estimates of their relative errors, ``[B]``."""

    x: Tensor
    error: Tensor


@dataclass(frozen=True)
class TikhonovSolver:
    """argmin_x ½ ‖A x − y‖² + λ/2 ‖L x‖², with L = 1 or ∇, by (AᵀA + λ LᵀL) x = Aᵀy.

    A is divided by its norm, so that λ means the same thing for every operator. One division where a closed form exists
    (L = 1 and an operator with a closed :meth:`LinearOperator.prox_l2`); elsewhere conjugate gradients, preconditioned
    by the circular convolution nearest to the system.

    Args:
        physics: A.
        y: measurements ``[B, *range]``.
        regularisation: λ ≥ 0; for 0 a least squares solution.
        penalty: ``"identity"`` or ``"gradient"``; ∇ takes differences within the image, none across its edges.
    """

    physics: LinearOperator
    y: Tensor
    regularisation: float
    penalty: Penalty = "identity"

    def solve(self, tol: float, max_iter: int, start: Tensor | None = None) -> Solution:
        """Solve until every image is within ``tol`` of the solution, as far as can be told.

        Let e be the error, M = AᵀA + λ LᵀL, and ‖·‖ its norm √(eᵀMe). Iteration j of conjugate gradients takes a known
        gain g_j off ‖e‖² (Strakoš & Tichý 2002), so that later gains tell how many times g_j was left at j. The largest
        such multiple so far, times the largest of the last gains, estimates what is left now (after Meurant, Papež &
        Tichý 2021), and so does rᵀPr with the residual r = Aᵀy − M x and the preconditioner P ≈ M⁻¹; the larger one is
        believed. Since ‖e‖ has only √λ ‖L e‖ of what A does not see, ``error`` is √(1 + 1/λ) ‖e‖ / ‖x‖₂, relative to
        the image, and 0 for a closed form. For λ = 0 nothing determines what A does not see, and it is ‖e‖ / ‖x‖.
        Where rounding has let r drift by δ, it is at least (1 + 1/λ) ‖δ‖₂ / ‖x‖₂, which in float32 exceeds 1e-3 from
        about λ = 1e-4 downwards.

        Args:
            tol: of ``error``.
            max_iter: bound on the iterations.
            start: first iterate where there is no closed form.
        """
        A, scale = Normalised(self.physics), peak(self.y)
        y = self.y / like(scale, self.y) / A.scale
        right = A.A_adjoint(y)
        inverse = self._inverse().to(right)
        tiny = torch.finfo(y.dtype).tiny
        blindness = 1 + 1 / self.regularisation if self.regularisation > 0 else 0.0

        def size(x: Tensor) -> Tensor:
            return (inner(x, x) / blindness if blindness else inner(x, right)).clamp_min(tiny)

        x = guess = filter_image(right, inverse) if start is None else start / like(scale, start)
        if self.penalty == "identity" and self.regularisation > 0:
            # A closed form knows no start and no bound on iterations; what has none returns its start.
            x = A.prox_l2(torch.zeros_like(right), y, 1 / self.regularisation, start=guess, max_iter=0)
            if x is not guess:
                return Solution(x * like(scale, x), y.new_zeros(len(x)))
        residual = right - self._matrix(A, x)
        direction = scaled = filter_image(residual, inverse)
        energy = inner(residual, scaled)
        gains: list[Tensor] = []
        error, running = energy, torch.ones_like(energy, dtype=torch.bool)
        look = 0
        for count in range(max_iter + 1):
            running = running & (energy > 0)
            if count in (look, max_iter):
                look += 1 + count // SELDOM
                error = torch.where(running, torch.maximum(energy, _left(gains, energy)), error)
                running = running & (error > tol**2 * size(x))
                if count == max_iter or not running.any():
                    break
            image = self._matrix(A, direction)
            step = torch.where(running, energy / inner(direction, image).clamp_min(tiny), 0)
            gains.append(step * energy)
            x, residual = x + step * direction, residual - step * image
            scaled = filter_image(residual, inverse)
            last, energy = energy, inner(residual, scaled)
            error = torch.where(energy > 0, error, energy)
            direction = scaled + torch.where(running, energy / last, 0) * direction
        # The recursion for the residual is too sure of itself.
        drift = right - self._matrix(A, x) - residual
        rounding = blindness * inner(drift, drift) if blindness else inner(drift, filter_image(drift, inverse))
        error = torch.maximum(error, rounding)
        return Solution(x * like(scale, x), (error / size(x)).sqrt().flatten())

    def _matrix(self, A: LinearOperator, x: Tensor) -> Tensor:
        penalised = x if self.penalty == "identity" else gradient_adjoint(gradient(x))
        return A.normal(x) + self.regularisation * penalised

    def _inverse(self) -> Tensor:
        """Spectrum of P, ``[H, W]``; zero for a frequency that neither A nor the penalty sees."""
        spectrum = Normalised(self.physics).normal_spectrum.double()
        power = gradient_power(spectrum.shape).to(spectrum) if self.penalty == "gradient" else 1.0
        total = spectrum + self.regularisation * power
        seen = total > 1e-12
        return torch.where(seen, 1 / torch.where(seen, total, 1), 0)


def _left(gains: list[Tensor], energy: Tensor) -> Tensor:
    """What is left of ‖e‖² after these gains, ``[B, 1, 1, 1]``, as far as they tell; infinite for a few."""
    if len(gains) < LATEST:
        return torch.full_like(energy, math.inf)
    history = torch.stack(gains)
    later = history.flip(0).cumsum(0).flip(0)
    multiple = torch.where(history > 0, later / history, 1).amax(0)
    return multiple * history[-LATEST:].amax(0)


class Tikhonov(TunedMethod):
    """Tikhonov regularisation, its weight λ tuned on the validation images.

    Args:
        regularisation: λ for A / ‖A‖; None tunes it in :meth:`fit`. It has no unit: results scale with the data.
        penalty: ``"identity"`` for λ/2 ‖x‖², ``"gradient"`` for λ/2 ‖∇x‖².
        tol: relative error (see :meth:`TikhonovSolver.solve`) at which an image is done.
        max_iter: bound on the iterations; an image that meets it is reported by a :class:`ConvergenceWarning`.
        tuning: how λ is chosen.
    """

    searched = (Parameter("regularisation", 1e-6, 1e2),)

    def __init__(
        self,
        regularisation: float | None = None,
        penalty: Penalty = "identity",
        tol: float = 1e-3,
        max_iter: int = 500,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__({"regularisation": regularisation}, tuning)
        check_choice("penalty", penalty, Penalty)
        self.penalty, self.tol, self.max_iter = penalty, tol, max_iter

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        solver = TikhonovSolver(physics, y, values["regularisation"], self.penalty)
        solution = solver.solve(TUNING_SLACK * self.tol if rough else self.tol, self.max_iter, start)
        worst = float(solution.error.max())
        if not rough and not worst <= self.tol:
            warnings.warn(
                f"Tikhonov regularisation stopped after at most {self.max_iter} iterations, off by up to {worst:.1e}, "
                f"tolerance {self.tol:.1e}; raise max_iter, or regularisation where rounding error is what limits it",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Estimate(solution.x, solution.x)
