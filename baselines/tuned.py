"""The contract of classical methods: a few numbers to choose, and an estimate for every choice."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor

from ..data.problem import Problem
from ..physics import LinearOperator
from .method import Fit, Method
from .tuning import load_chosen, save_chosen, tune


@dataclass(frozen=True)
class Parameter:
    """A number that is chosen on validation images, in log space between ``low`` and ``high``.

    Attributes:
        name: as in YAML and in reports.
        low, high: ends of the search; fractions of the data range where ``intensity`` holds.
        intensity: whether the number scales with the images, as the weight of an ℓ1 penalty does.
        integer: whether it counts something, such as iterations.
    """

    name: str
    low: float
    high: float
    intensity: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Tuning:
    """How parameters that are not given are chosen.

    Args:
        budget: number of values, or of points in a plane or space of values, that are tried.
    """

    budget: int = 12


class Estimate(NamedTuple):
    """Images ``[B, *domain]``, and what another estimate of the same images can start from."""

    x: Tensor
    state: Any = None


class TunedMethod(Method):
    """A classical method x̂(y; θ) whose parameters θ are given, or tuned by :meth:`fit`.

    Args:
        given: value of each of :attr:`searched`, by name; None leaves it to :meth:`fit`.
        tuning: how it is chosen.
    """

    group: ClassVar[Literal["direct", "classical", "learned"]] = "classical"
    searched: ClassVar[tuple[Parameter, ...]]

    def __init__(self, given: Mapping[str, float | None], tuning: Tuning | None = None) -> None:
        for name, value in given.items():
            if value is not None and not value >= 0:
                raise ValueError(f"{type(self).__name__}: {name} is {value}, expected a number ≥ 0")
        self.given, self.tuning = dict(given), tuning or Tuning()
        self.values: dict[str, float] = {name: value for name, value in given.items() if value is not None}

    @abstractmethod
    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        """Reconstruct with given parameters.

        Args:
            y: ``[B, *range]``.
            physics: A.
            values: one for each of :attr:`searched`.
            start: the ``state`` of an earlier estimate of the same images, with other values.
            rough: accuracy enough to compare values: PSNR settles long before a solver does.
        """

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        missing = [parameter.name for parameter in self.searched if parameter.name not in self.values]
        if missing:
            raise ValueError(
                f"{type(self).__name__}: no {' and no '.join(missing)}; "
                "give a number, or call fit with validation images"
            )
        return self.estimate(y, physics, self.values).x

    def fit(self, train: Problem, validation: Problem, folder: Path | None = None) -> Fit:
        """Choose what was not given on the validation images; nothing is trained."""
        free = [parameter for parameter in self.searched if self.given[parameter.name] is None]
        if not free:
            return Fit(chosen=dict(self.values))
        (parameter,) = free
        truths, y = validation.batch(range(len(validation)))
        unit = validation.data_range if parameter.intensity else 1.0
        fit = tune(
            parameter.name,
            lambda value: self.estimate(y, validation.physics, {**self.values, parameter.name: value}, rough=True).x,
            truths,
            validation.data_range,
            parameter.low * unit,
            parameter.high * unit,
            self.tuning.budget,
        )
        self.values.update(fit.chosen)
        return fit

    def save(self, folder: Path) -> None:
        save_chosen(folder, self.values)

    def load(self, folder: Path) -> None:
        self.values.update({p.name: load_chosen(folder, p.name) for p in self.searched})

    @property
    def parameters(self) -> int:
        return sum(value is None for value in self.given.values())
