"""Plug-and-play priors and regularisation by denoising: a denoiser in the place of a prior, for every operator."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..physics import LinearOperator
from .denoisers import Denoiser
from .iteration import CHECK_EVERY, Progress, solve
from .method import ConvergenceWarning
from .steps import ADMMState, FISTAState, HQSState, admm_step, fista_step, hqs_step
from .tuned import Estimate, Parameter, TunedMethod, Tuning, check_choice, unit_of
from .watching import show

Algorithm = Literal["hqs", "admm", "red"]

START_LEVEL = 0.2  # of the largest magnitude of the direct reconstruction: the first σ of a decreasing schedule
DATA_ITERATIONS, DATA_TOL = 10, 1e-6  # of the conjugate gradients in a data step, which start from the last image
ITERATIONS: dict[Algorithm, int] = {"hqs": 24, "admm": 100, "red": 100}


def data_step(physics: LinearOperator, y: Tensor, v: Tensor, penalty: float | Tensor, start: Tensor) -> Tensor:
    """argmin_x ½ ‖A x − y‖² + ρ/2 ‖x − v‖² for A / ‖A‖; from the image ``start`` where there is no closed form."""
    gamma = 1 / (penalty * physics.norm**2)
    return physics.prox_l2(v, y, gamma, start=start, tol=DATA_TOL, max_iter=DATA_ITERATIONS)


def half_quadratic(
    physics: LinearOperator, y: Tensor, denoiser: Denoiser, noise_level: float, penalty: float, iterations: int
) -> Iterator[HQSState]:
    """Plug-and-play half-quadratic splitting with decreasing noise levels (Zhang et al., DPIR, TPAMI 2022, §4.2).

    σ_k falls in equal ratios from :data:`START_LEVEL` of the direct reconstruction's largest magnitude, or from
    ``noise_level`` where that is larger, to ``noise_level``, and ρ_k = ρ (σ / σ_k)²: their λ σ_n² / σ_k² with ρ for
    what it is at the end. It is not iterated until it converges; its schedule is a part of the method.

    Args:
        physics: A.
        y: measurements ``[B, *range]``.
        denoiser: D.
        noise_level: σ > 0 of the last iteration, in the units of the image.
        penalty: ρ > 0 of the last iteration, for A / ‖A‖.
        iterations: length of the schedule.
    """
    x = physics.direct(y)
    first = (START_LEVEL * x.abs().amax((1, 2, 3), keepdim=True)).clamp_min(noise_level)
    state = HQSState(x, x)
    for k in range(1, iterations + 1):
        level = noise_level * (first / noise_level) ** (1 - k / iterations)
        rho = penalty * (noise_level / level).square()
        state = hqs_step(
            state,
            lambda z: data_step(physics, y, z, rho, state.x),  # noqa: B023
            lambda x: denoiser(x, level),  # noqa: B023
        )
        yield state


@dataclass(frozen=True)
class DenoiserAsPrior:
    """What the two iterations with a fixed noise level are made of.

    Args:
        physics: A.
        y: measurements ``[B, *range]``.
        denoiser: D.
        noise_level: σ > 0, in the units of the image.
        penalty: ρ > 0, for A / ‖A‖.
    """

    physics: LinearOperator
    y: Tensor
    denoiser: Denoiser
    noise_level: float
    penalty: float

    def fit(self, v: Tensor, start: Tensor) -> Tensor:
        """The data step."""
        return data_step(self.physics, self.y, v, self.penalty, start)

    def denoise(self, x: Tensor) -> Tensor:
        """D(x)."""
        return self.denoiser(x, self.noise_level)


class PlugAndPlayADMM(DenoiserAsPrior):
    """ADMM with a denoiser as the proximal map (Venkatakrishnan, Bouman & Wohlberg 2013).

    With D = prox_{τ g} it minimises ½ ‖A x − y‖² + ρ τ g(x). Any fixed point has x = D(x + u) and
    Aᵀ(A x − y) + ρ u = 0 for A / ‖A‖; it is found where D is averaged, as proximal maps are.
    """

    def iterate(self, start: ADMMState | None = None) -> Iterator[Progress]:
        """States after every few iterations, without end; the gap is the larger of |x − z| and |z's last move|."""
        state = start
        if state is None:
            x = self.physics.direct(self.y)
            state = ADMMState(x, x, torch.zeros_like(x))
        while True:
            for _ in range(CHECK_EVERY):
                last = state
                state = admm_step(last, lambda v: self.fit(v, last.x), self.denoise)  # noqa: B023
            residual = torch.maximum(_distance(state.x, state.z), _distance(state.z, last.z))
            yield Progress(state.z, residual, state)


class RegularisationByDenoising(DenoiserAsPrior):
    """RED: Aᵀ(A x − y) + ρ (x − D(x)) = 0 for A / ‖A‖ (Romano, Elad & Milanfar 2017).

    Proximal gradients with the gradient x − D(x) and the exact data step, which at step size one is their fixed-point
    iteration, accelerated as in Reehorst & Schniter (2019). A schedule-free half-quadratic splitting ends there, too.
    """

    def iterate(self, start: FISTAState | None = None) -> Iterator[Progress]:
        """States after every few iterations, without end; the gap is |x − p|, p being what x was made from."""
        state = FISTAState.start(self.physics.direct(self.y)) if start is None else start
        while True:
            for _ in range(CHECK_EVERY):
                last = state
                state = fista_step(
                    last,
                    lambda x: x - self.denoise(x),
                    lambda v: self.fit(v, last.x),  # noqa: B023
                    step_size=1.0,
                )
            yield Progress(state.x, _distance(state.x, last.point), state)


class PlugAndPlay(TunedMethod):
    """A denoiser as prior; its noise level σ and the penalty ρ are tuned on the validation images.

    Args:
        denoiser: D.
        algorithm: ``"hqs"``, half-quadratic splitting with decreasing noise levels; ``"admm"``; or ``"red"``.
        noise_level: σ, in the units of the image; the last one of a schedule. None tunes it.
        penalty: ρ between the image that fits the data and the denoised one, for A / ‖A‖; larger trusts the denoiser
            more. None tunes it.
        tol: of ADMM and RED: the relative change of a step at which an image is done.
        max_iter: of ADMM and RED: bound on the iterations; an image that meets it is reported by a
            :class:`ConvergenceWarning`. Of HQS: the length of its schedule. 100 and 24 when absent.
        tuning: how σ and ρ are chosen.
    """

    searched = (Parameter("noise_level", 1e-3, 0.5, intensity=True), Parameter("penalty", 1e-5, 10.0))

    def __init__(
        self,
        denoiser: Denoiser,
        algorithm: Algorithm = "hqs",
        noise_level: float | None = None,
        penalty: float | None = None,
        tol: float = 1e-3,
        max_iter: int | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        super().__init__({"noise_level": noise_level, "penalty": penalty}, tuning)
        for name, value in (("noise_level", noise_level), ("penalty", penalty)):
            if value == 0:
                raise ValueError(f"PlugAndPlay: {name} is 0, expected a positive number")
        check_choice("algorithm", algorithm, Algorithm)
        self.denoiser, self.algorithm, self.tol = denoiser, algorithm, tol
        self.max_iter = ITERATIONS[algorithm] if max_iter is None else max_iter
        if not (tol > 0 and self.max_iter >= 1):
            raise ValueError(f"PlugAndPlay: tol is {tol} and max_iter {max_iter}, expected both positive")

    @torch.no_grad()
    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        physics.check_measurement(y)
        # Neither rough nor from other values' images: with denoisers that are no proximal maps PSNR peaks on the way
        # and then falls, and where it ends may depend on where it began.
        unit = unit_of(y)
        model = (physics, y / unit, self.denoiser, values["noise_level"] / unit, values["penalty"])
        if self.algorithm == "hqs":
            for iteration, last in enumerate(half_quadratic(*model, self.max_iter), start=1):
                show(iteration, last.x * unit)
            return Estimate(last.x * unit)
        solver = (PlugAndPlayADMM if self.algorithm == "admm" else RegularisationByDenoising)(*model)
        solution = solve(solver, self.tol, self.max_iter, look=lambda k, x, gap: show(k, x * unit, gap))
        worst = float(solution.gap.max())
        if not rough and not worst <= self.tol:
            warnings.warn(
                f"plug-and-play stopped after {solution.iterations} iterations that still moved the image by "
                f"{worst:.1e}, tolerance {self.tol:.1e}; raise max_iter, or the denoiser does not let it converge",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Estimate(solution.x * unit)


def _distance(x: Tensor, z: Tensor) -> Tensor:
    """‖x − z‖ / ‖x‖ of each image, ``[B]``."""
    return (x - z).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
