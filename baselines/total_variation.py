"""Total variation: the classical sparsity prior for images (Rudin, Osher & Fatemi 1992)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised
from ..physics.conjugate_gradient import conjugate_gradient
from ..physics.periodic import filter_image, gradient_power
from .circulant import normal_spectrum
from .gradient import gradient, gradient_adjoint, project_to_ball, total_variation
from .method import ConvergenceWarning
from .steps import ADMMState, admm_step, like
from .tuned import Estimate, Parameter, TunedMethod, Tuning

CHECK_EVERY = 5  # iterations between two looks at gap and residuals
ADAPT_UNTIL = 60  # iterations after which ρ stays, which keeps the method convergent
RELAXATION = 1.8
TUNING_SLACK, TUNING_ITERATIONS = 3.0, 100  # while tuning: PSNR settles long before the gap closes


class Progress(NamedTuple):
    """What the solver yields: where it is, and the certified relative distance of each image ``[B]`` to its optimum."""

    state: ADMMState
    rho: Tensor
    gap: Tensor


class Solution(NamedTuple):
    """Images ``[B, C, H, W]``, their gaps ``[B]``, the iterations that were made, and where to go on from."""

    x: Tensor
    gap: Tensor
    iterations: int
    progress: Progress


@dataclass(frozen=True)
class TotalVariationSolver:
    """P(x) = ½ ‖A x − y‖² + λ Σ |∇x| minimised by over-relaxed ADMM with z = ∇x, whatever A is.

    A is divided by its norm, so that λ means the same thing for every operator. The image is updated by conjugate
    gradients on AᵀA + ρ ∇ᵀ∇, started from the last image and preconditioned by the circular convolution nearest to it:
    one iteration where AᵀA is a circular convolution (only the edges of ∇ are then amiss), three elsewhere. ρ is
    adapted for each image until its relative primal and dual residuals balance (Boyd et al. 2011, §3.4.1; Wohlberg
    2017).

    Args:
        physics: A.
        y: measurements ``[B, *range]``.
        regularisation: λ ≥ 0, in the units of the image.
    """

    physics: LinearOperator
    y: Tensor
    regularisation: float

    def iterate(self, start: Progress | None = None) -> Iterator[Progress]:
        """States after every :data:`CHECK_EVERY` iterations, without end.

        The gap bounds (P(x) − min P) / P(x) from above. With the multiplier p = ρu, which keeps |p| ≤ λ, and
        w = Aᵀ(Ax − y) + ∇ᵀp, weak duality gives P(x) − P(x*) ≤ λ Σ|∇x| − ⟨p, ∇x⟩ + ⟨w, x − x*⟩, whose last term is at
        most ‖x‖_∞ ‖w‖₁ unless the solution is off by more than the image's own magnitude.
        """
        A = Normalised(self.physics)
        y = self.y / A.scale
        weight, right = self.regularisation, A.A_adjoint(y)
        spectrum = normal_spectrum(self.physics).to(right)
        differences = gradient_power(spectrum.shape).to(right)
        iterations = 1 if A.fourier_normal is not None else 3
        state, rho = self._start(right) if start is None else (start.state, start.rho)

        def solve(v: Tensor) -> Tensor:
            inverse = 1 / (spectrum + rho * differences).clamp_min(1e-12)
            return conjugate_gradient(
                lambda x: A.A_adjoint(A.A(x)) + rho * gradient_adjoint(gradient(x)),
                right + rho * gradient_adjoint(v),
                start=state.x,
                tol=1e-7,
                max_iter=iterations,
                precondition=lambda r: filter_image(r, inverse),
            )

        def relaxed_gradient(x: Tensor) -> Tensor:
            return RELAXATION * gradient(x) + (1 - RELAXATION) * state.z

        def prox(v: Tensor) -> Tensor:
            return v - project_to_ball(v, weight / like(rho, v))

        for count in range(CHECK_EVERY, 2**62, CHECK_EVERY):
            for _ in range(CHECK_EVERY):
                last, state = state, admm_step(state, solve, prox, analysis=relaxed_gradient)
            multiplier = like(rho, state.u) * state.u
            slopes, back = gradient(state.x), gradient_adjoint(multiplier)
            misfit = A.A(state.x) - y
            variation = weight * total_variation(state.x)
            objective = misfit.flatten(1).square().sum(1) / 2 + variation
            amiss = (A.A_adjoint(misfit) + back).flatten(1).abs().sum(1)
            gap = variation - (multiplier * slopes).flatten(1).sum(1) + state.x.flatten(1).abs().amax(1) * amiss
            yield Progress(state, rho, gap / objective.clamp_min(torch.finfo(y.dtype).tiny))
            if count < ADAPT_UNTIL:
                primal = _ratio(slopes - state.z, slopes)
                dual = _ratio(rho * gradient_adjoint(state.z - last.z), back)
                change = (primal / dual.clamp_min(1e-12)).sqrt().clamp(0.2, 5)
                change = torch.where((change > 1.5) | (change < 1 / 1.5), change, torch.ones_like(change))
                rho = rho * like(change, rho)
                state = state._replace(u=state.u / like(change, state.u))

    def solve(self, tol: float, max_iter: int, start: Progress | None = None) -> Solution:
        """Iterate until every image has its gap under ``tol``; each keeps its first iterate that has."""
        done: Tensor | None = None
        for count, progress in enumerate(self.iterate(start), start=1):
            x = progress.state.x
            if done is None:
                done, best, gap = torch.zeros(len(x), dtype=torch.bool, device=x.device), x, progress.gap
            best = torch.where(like(done, x), best, x)
            gap = torch.where(done, gap, progress.gap)
            done = gap <= tol
            if done.all() or count * CHECK_EVERY >= max_iter:
                break
        return Solution(best, gap, count * CHECK_EVERY, progress)

    def _start(self, right: Tensor) -> tuple[ADMMState, Tensor]:
        x = self.physics.direct(self.y)
        z = gradient(x)
        slope = z.abs().mean((1, 2, 3, 4)).clamp_min(1e-6 * x.abs().amax((1, 2, 3)))
        rho = self.regularisation / slope.clamp_min(torch.finfo(x.dtype).tiny)
        return ADMMState(x, z, torch.zeros_like(z)), rho.clamp(1e-6, 1e6).reshape(-1, 1, 1, 1)


class TotalVariation(TunedMethod):
    """Isotropic total variation, its weight λ tuned on the validation images.

    Args:
        regularisation: λ for A / ‖A‖ and images in their own units; None tunes it in :meth:`fit`.
        tol: certified gap (see :meth:`TotalVariationSolver.iterate`) at which an image is done.
        max_iter: bound on the iterations; an image that meets it is reported by a :class:`ConvergenceWarning`.
        tuning: how λ is chosen.
    """

    searched = (Parameter("regularisation", 1e-6, 1.0, intensity=True),)

    def __init__(
        self,
        regularisation: float | None = None,
        tol: float = 1e-2,
        max_iter: int = 500,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__({"regularisation": regularisation}, tuning)
        self.tol, self.max_iter = tol, max_iter

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        solver = TotalVariationSolver(physics, y, values["regularisation"])
        if rough:
            solution = solver.solve(TUNING_SLACK * self.tol, min(self.max_iter, TUNING_ITERATIONS), start)
            return Estimate(solution.x, solution.progress)
        solution = solver.solve(self.tol, self.max_iter, start)
        worst = float(solution.gap.max())
        if not worst <= self.tol:
            warnings.warn(
                f"total variation stopped after {solution.iterations} iterations within {worst:.1%} of the optimum, "
                f"tolerance {self.tol:.1%}; raise max_iter",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Estimate(solution.x, solution.progress)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """‖part‖ / ‖whole‖ of each image, ``[B]``."""
    return part.flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1).clamp_min(torch.finfo(part.dtype).tiny)
