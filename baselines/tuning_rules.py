"""What decides between parameters: the truth of validation images, or their measurements alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..data.metrics import psnr
from ..data.problem import Problem
from ..physics import LinearOperator, seeded_generator
from .held_out import hold_out

if TYPE_CHECKING:
    from .tuned import Estimate, Tuning


class Images(NamedTuple):
    """Images that are reconstructed together: their places in the split, ``y``, and the truth for rules that use it."""

    indices: range
    y: Tensor
    truths: Tensor | None


Reconstruct = Callable[[Tensor, LinearOperator, Any], "Estimate"]


class Rule(ABC):
    """A figure of merit of every image, whose mean over the images decides.

    Attributes:
        column: of the figure, in the saved curve.
        words: in reports.
        unit: of the figure.
        uses_truth: whether it looks at the images behind the measurements.
    """

    column: ClassVar[str]
    unit: ClassVar[str] = ""
    uses_truth: ClassVar[bool] = False
    words: str = ""

    def __init__(self, problem: Problem) -> None:
        self.physics, self.data_range = problem.physics, problem.data_range

    @abstractmethod
    def figures(self, images: Images, reconstruct: Reconstruct, start: Any) -> tuple[Tensor, Any]:
        """One figure for each image, ``[B]``, and the state that other values can start from."""

    def loss(self, figure: float) -> float:
        """What is minimised."""
        return figure

    def _measured(self, residual: Tensor) -> Tensor:
        """Σ over measured entries of residual², ``[B]`` in float64."""
        support = self.physics.support
        residual = residual if support is None else residual * support
        return residual.flatten(1).double().square().sum(1)

    @property
    def _count(self) -> int:
        """m, the real numbers that are measured."""
        support = self.physics.support
        return math.prod(self.physics.range) if support is None else int(support.expand(self.physics.range).sum())


class TruePSNR(Rule):
    """Mean PSNR against the truth, in dB."""

    column: ClassVar[str] = "validation_psnr"
    unit: ClassVar[str] = " dB"
    uses_truth: ClassVar[bool] = True

    def figures(self, images: Images, reconstruct: Reconstruct, start: Any) -> tuple[Tensor, Any]:
        estimate = reconstruct(images.y, self.physics, start)
        assert images.truths is not None
        return psnr(estimate.x, images.truths, self.data_range), estimate.state

    def loss(self, figure: float) -> float:
        return -figure


class Discrepancy(Rule):
    """‖A x̂ − y‖² / (m σ²), which should be one: what is not fitted is as large as the noise (Morozov 1966).

    One equation for one parameter; over several images their mean. Solved as the least squared logarithm.
    """

    column: ClassVar[str] = "discrepancy"

    def __init__(self, problem: Problem, sigma: float) -> None:
        super().__init__(problem)
        self.sigma, self.words = sigma, f"discrepancy principle, σ = {sigma:g}"

    def figures(self, images: Images, reconstruct: Reconstruct, start: Any) -> tuple[Tensor, Any]:
        estimate = reconstruct(images.y, self.physics, start)
        misfit = self._measured(self.physics.A(estimate.x) - images.y)
        return misfit / (self._count * self.sigma**2), estimate.state

    def loss(self, figure: float) -> float:
        return math.log(max(figure, 1e-300)) ** 2


class SURE(Rule):
    """Stein's unbiased estimate of ‖A x̂ − A x‖² / m over measured entries, for Gaussian noise.

    ‖A x̂ − y‖² − m σ² + 2 σ² div, divided by m; the divergence of y ↦ A x̂(y) is bᵀ(A x̂(y + ε b) − A x̂(y)) / ε for a
    random b of ±1, fixed for each image (Ramani, Blu & Unser 2008), with ε = 2 σ / m^0.3 (Deledalle et al. 2014). For
    A = I this is the mean squared error; in general the error of the predicted measurements, blind to the null space.
    """

    column: ClassVar[str] = "sure"

    def __init__(self, problem: Problem, sigma: float) -> None:
        super().__init__(problem)
        self.sigma, self.words = sigma, f"Stein's unbiased risk estimate, σ = {sigma:g}"

    def figures(self, images: Images, reconstruct: Reconstruct, start: Any) -> tuple[Tensor, Any]:
        y, m, variance = images.y, self._count, self.sigma**2
        step = 2 * self.sigma / m**0.3
        probe = torch.stack([self._probe(i) for i in images.indices]).to(y)
        # Each starts from its own kind: the perturbed one from the other's result would not move if that is near enough
        # to the optimum, and the divergence would vanish.
        plain, perturbed = (None, None) if start is None else start
        one = reconstruct(y, self.physics, plain)
        other = reconstruct(y + step * probe, self.physics, perturbed)
        prediction = self.physics.A(one.x)
        change = self.physics.A(other.x) - prediction
        divergence = (probe * change).flatten(1).double().sum(1) / step
        risk = self._measured(prediction - y) - m * variance + 2 * variance * divergence
        return risk / m, None if one.state is None else (one.state, other.state)

    def _probe(self, i: int) -> Tensor:
        signs = torch.randint(2, self.physics.range, generator=seeded_generator("probe", i)) * 2.0 - 1
        return signs if self.physics.support is None else signs * self.physics.support.to(signs)


class HeldOutError(Rule):
    """Mean squared error of measurements that are withheld from the reconstruction; see :func:`hold_out`."""

    column: ClassVar[str] = "held_out_error"
    words: str = "error of withheld measurements"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.rest, self.withheld = hold_out(problem.physics)

    def figures(self, images: Images, reconstruct: Reconstruct, start: Any) -> tuple[Tensor, Any]:
        estimate = reconstruct(images.y * ~self.withheld, self.rest, start)
        error = self._measured((self.physics.A(estimate.x) - images.y) * self.withheld)
        return error / self.withheld.sum(), estimate.state


def make_rule(tuning: Tuning, problem: Problem, free: int) -> Rule:
    """The rule that a :class:`Tuning` names, for ``free`` parameters.

    Raises:
        ValueError: where it needs a noise level that nobody has stated, or cannot choose that many parameters.
    """
    if tuning.rule in ("validation", "oracle"):
        return TruePSNR(problem)
    if tuning.rule == "held-out":
        return HeldOutError(problem)
    sigma = problem.noise_level if tuning.noise_level is None else tuning.noise_level
    if sigma is None:
        raise ValueError(
            f"rule {tuning.rule} needs the standard deviation of the noise, and this problem's noise has no single "
            "one (it is relative or not Gaussian); give noise_level, in the unit of the measurements"
        )
    if not sigma > 0:
        raise ValueError(
            f"rule {tuning.rule}: the noise level is {sigma:g}, expected a number above 0; choose another rule"
        )
    if tuning.rule == "sure":
        return SURE(problem, sigma)
    if free > 1:
        raise ValueError(
            f"rule discrepancy chooses one parameter, {free} are free; give the others, or take another rule"
        )
    return Discrepancy(problem, sigma)
