"""The contract of classical methods: a few numbers to choose, and an estimate for every choice."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..data.problem import Problem
from ..physics import LinearOperator
from .method import Fit, Method
from .tuning import Axis, Search, Trial, load_chosen, save_chosen
from .tuning_rules import Images, make_rule

BUDGET = 12  # for each parameter: from there on less than a tenth of a decibel is left to gain
ORACLE = "oracle: tuned on the test images, an upper bound and no result"
TOGETHER = 2**18  # numbers of the images, or of their measurements, in one batch: larger ones leave the cache
KEPT = 2**25  # numbers of the images whose states are kept to start from; a state is several times as large


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


RuleName = Literal["validation", "discrepancy", "sure", "held-out", "oracle"]


@dataclass(frozen=True)
class Tuning:
    """How parameters that are not given are chosen.

    Args:
        budget: number of values, or of pairs or triples of values, that are tried; 12 for each free parameter when
            absent.
        rule: what decides. ``"validation"``: the mean PSNR of the validation images. From their measurements alone:
            ``"discrepancy"``, ``"sure"`` and ``"held-out"`` (see :mod:`isocenter.baselines.tuning_rules`).
            ``"oracle"``: as validation, on test images that the runner passes instead; an upper bound, no result.
        noise_level: σ for the rules that need it, in the unit of the measurements; the problem's own where absent.
    """

    budget: int | None = None
    rule: RuleName = "validation"
    noise_level: float | None = None

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, RuleName)
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"Tuning: budget is {self.budget}, expected at least 1")


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
            self._check_number(name, value)
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
        self._check(y, physics)
        return self.estimate(y, physics, self.values).x

    def fit(self, train: Problem, validation: Problem, folder: Path | None = None) -> Fit:
        """Choose what was not given on the validation images; nothing is trained.

        Raises:
            ValueError: without validation images, where their measurements hold NaN or infinity, where the rule cannot
                be applied, and where nothing that was tried gave a finite result.
        """
        free = [parameter for parameter in self.searched if self.given[parameter.name] is None]
        if not free:
            return Fit(chosen=dict(self.values))
        if not len(validation):
            raise ValueError(f"{type(self).__name__}: there are no validation images to tune on")
        began = time.perf_counter()
        rule = make_rule(self.tuning, validation, len(free))
        groups = _groups(validation, rule.uses_truth)
        for images in groups:
            self._check(images.y, validation.physics)

        def evaluate(values: Mapping[str, float], start: Any) -> tuple[float, Any]:
            def reconstruct(y: Tensor, physics: LinearOperator, state: Any) -> Estimate:
                return self.estimate(y, physics, {**self.values, **values}, start=state, rough=True)

            starts = [None] * len(groups) if start is None else start
            done = [rule.figures(images, reconstruct, state) for images, state in zip(groups, starts, strict=True)]
            states = [state for _, state in done]
            return float(torch.cat([figures for figures, _ in done]).mean()), None if None in states else states

        units = [validation.data_range if parameter.intensity else 1.0 for parameter in free]
        axes = [Axis(p.name, p.low * unit, p.high * unit, p.integer) for p, unit in zip(free, units, strict=True)]
        kept = max(1, KEPT // (len(validation) * _size(validation.physics)))
        budget = self.tuning.budget or BUDGET * len(axes)
        search = Search(axes, evaluate, rule.loss, budget, kept, lambda f: f"{f:.4g}{rule.unit}")
        with torch.no_grad():
            best = search.run()
        self.values.update(best.values)
        oracle = self.tuning.rule == "oracle"
        words = f"{len(search.trials)} values of {' and '.join(axis.name for axis in axes)} "
        words += f"on {len(validation)} {'test' if oracle else 'validation'} images"
        return Fit(
            budget=", ".join(part for part in (words, rule.words) if part),
            chosen=dict(best.values),
            curve=_curve(search.trials, rule.column),
            axis=axes[0].name if len(axes) == 1 else f"trial of {' and '.join(axis.name for axis in axes)}",
            seconds=time.perf_counter() - began,
            warnings=[*([ORACLE] if oracle else []), *search.warnings()],
        )

    def _check_number(self, name: str, value: float | None) -> None:
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{type(self).__name__}: {name} is {value}, expected a finite number ≥ 0")

    def _check(self, y: Tensor, physics: LinearOperator) -> None:
        physics.check_measurement(y)
        if y.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{type(self).__name__}: measurements are {y.dtype}, expected float32 or float64")
        bad = y.numel() - int(torch.isfinite(y).sum())
        if bad:
            raise ValueError(
                f"{type(self).__name__}: {bad} of {y.numel()} measured values are NaN or infinity; "
                "leave out or repair what was measured there"
            )

    def save(self, folder: Path) -> None:
        save_chosen(folder, self.values)

    def load(self, folder: Path) -> None:
        self.values.update({p.name: load_chosen(folder, p.name) for p in self.searched})

    @property
    def parameters(self) -> int:
        return sum(value is None for value in self.given.values())


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raise a ValueError unless the value is one of a Literal's."""
    if value not in get_args(choices):
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(get_args(choices))}")


def unit_of(y: Tensor) -> float:
    """The largest power of two in max |y|, and 1 for zero: a unit in which squares of float32 are within its range."""
    largest = float(y.detach().abs().max())
    return 2.0 ** (math.frexp(largest)[1] - 1) if largest > 0 else 1.0


def _size(physics: LinearOperator) -> int:
    """Numbers that an image or its measurement consists of, whichever is larger."""
    return max(math.prod(physics.domain), math.prod(physics.range))


def _groups(problem: Problem, with_truths: bool) -> list[Images]:
    """The images in batches that fit in memory; their truth is touched where the rule needs it only."""
    step, groups = max(1, TOGETHER // _size(problem.physics)), []
    for first in range(0, len(problem), step):
        indices = range(first, min(first + step, len(problem)))
        if with_truths:
            truths, y = problem.batch(indices)
            groups.append(Images(indices, y, truths))
        else:
            groups.append(Images(indices, torch.stack([problem.measurement(i) for i in indices]), None))
    return groups


def _curve(trials: list[Trial], column: str) -> list[dict[str, float]]:
    """Rows for the report: over the values of one parameter, or over the trials where there are several."""
    if len(trials[0].values) == 1:
        rows = [{"x": value, column: trial.figure} for trial in trials for value in trial.values.values()]
        return sorted(rows, key=lambda row: row["x"])
    return [{"x": float(i), column: trial.figure, **trial.values} for i, trial in enumerate(trials, start=1)]
