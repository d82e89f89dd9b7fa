"""From terms to an image: what all convex methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

from torch import Tensor

from ..physics import LinearOperator
from .admm import ADMM
from .data_terms import MeasurementBall, TransmissionLikelihood
from .first_order import FISTA, PrimalDual
from .iteration import Solver, solve, warn_unless_converged
from .objective import Objective
from .terms import Bounds, Term
from .tuned import Estimate, check_choice, unit_of
from .watching import show

ROUGH_SLACK, ROUGH_ITERATIONS = 3.0, 100  # to compare parameters: PSNR settles long before the gap closes

Algorithm = Literal["admm", "pdhg", "condat-vu", "fista"]
Likelihood = Literal["gaussian", "poisson"]


@dataclass(frozen=True)
class Options:
    """What every convex method may be told beside its penalty.

    Args:
        low, high: bounds on the image, in its units; real images only.
        likelihood: of the measurements: least squares (Gaussian noise), or the Poisson likelihood of the photon counts
            behind line integrals.
        tol: certified relative gap at which an image is done (:meth:`Objective.certificate`).
        max_iter: bound on the iterations, looked at after every five; an image that meets it is reported by a warning.
        algorithm: ADMM was the fastest nearly wherever we looked; FISTA is faster for small blurs without a boundary
            beside an orthonormal wavelet.
    """

    low: float | None = None
    high: float | None = None
    likelihood: Likelihood = "gaussian"
    tol: float = 1e-2
    max_iter: int = 500
    algorithm: Algorithm = "admm"

    def __post_init__(self) -> None:
        if not (self.tol > 0 and self.max_iter >= 1):
            raise ValueError(f"tol is {self.tol} and max_iter {self.max_iter}, expected both positive")
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if any(isnan(bound) for bound in bounds) or (len(bounds) == 2 and not bounds[0] < bounds[1]):
            raise ValueError(f"low is {self.low} and high {self.high}, expected low < high")
        check_choice("likelihood", self.likelihood, Likelihood)
        check_choice("algorithm", self.algorithm, Algorithm)


def minimise(
    name: str,
    physics: LinearOperator,
    y: Tensor,
    terms: Callable[[Tensor, float], Sequence[Term]],
    options: Options,
    *,
    epsilon: float | None = None,
    least: Tensor | None = None,
    start: Any = None,
    rough: bool = False,
) -> Estimate:
    """The image that minimises the terms beside its fit to the data, within the options' tolerance.

    It is computed in a unit of its own, :func:`unit_of` the measurements.

    Args:
        name: of the model, for the warning.
        physics: A.
        y: measurements ``[B, *range]``.
        terms: penalties and constraints, for measurements in their unit, and this unit.
        options: what the user chose.
        epsilon: ε of a :class:`MeasurementBall`, which then takes the place of the likelihood.
        least: its m.
        start: where the same solver was left, on the same images.
        rough: only as accurate as comparing parameters needs, and without a warning.
    """
    holds_data = epsilon is not None
    poisson = options.likelihood == "poisson" and not holds_data
    unit = 1.0 if poisson else unit_of(y)  # line integrals have no other
    y = y / unit
    model = list(terms(y, unit))
    if epsilon is not None:
        model.append(MeasurementBall(physics, y, epsilon, least))
    bounded = options.low is not None or options.high is not None
    if bounded:
        if physics.domain[0] == 2:
            raise ValueError(f"{name}: bounds on a complex image make no sense; leave low and high out")
        model.append(Bounds(*(None if bound is None else bound / unit for bound in (options.low, options.high))))
    if poisson:
        model.append(TransmissionLikelihood(physics, y))
    objective = Objective(physics, y, model, least_squares=not (poisson or holds_data))
    solver: Solver
    if options.algorithm == "admm":
        solver = ADMM(objective)
    elif options.algorithm == "fista":
        solver = FISTA(objective)
    else:
        solver = PrimalDual(objective, explicit=options.algorithm == "condat-vu")
    if rough:
        solution = solve(solver, ROUGH_SLACK * options.tol, min(options.max_iter, ROUGH_ITERATIONS), start)
    else:
        solution = solve(
            solver,
            options.tol,
            options.max_iter,
            start,
            lambda iteration, u, gap: show(iteration, unit * objective.image(u), gap),
        )
        remedy = "raise epsilon, if no image fits the data that well, or max_iter" if holds_data else "raise max_iter"
        warn_unless_converged(solution, options.tol, name, remedy)
    image = unit * objective.image(solution.x)
    return Estimate(image.clamp(options.low, options.high) if bounded else image, solution.state)
