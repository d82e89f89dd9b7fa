"""Choosing one to three numbers within a stated budget: the search, whatever it is that decides."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from tqdm import tqdm

EDGE = 0.03  # of the search range in log space: an optimum this close to an end may lie beyond it
NEIGHBOURS = 2  # trials that are kept for the neighbours of a whole number
TOLERANCE = 0.002  # of the same: values closer than this make no difference
FAILED = 1e9  # the loss of a trial without a finite result: infinity would make NaN of the fits of a search
FILE = "chosen.json"

# Steps that spread points evenly over a line, a square and a cube: powers of the golden and the plastic number.
_STEPS = {1: (), 2: (0.6180339887,), 3: (0.7548776662, 0.5698402910)}


class Axis(NamedTuple):
    """The range of a parameter, 0 < low < high; whole numbers only where ``integer`` holds."""

    name: str
    low: float
    high: float
    integer: bool = False

    @property
    def width(self) -> float:
        """In log space."""
        return math.log(self.high / self.low)

    def value(self, place: float) -> float:
        """The number at 0 ≤ place ≤ 1 of the range in log space, to four digits, as reports print it."""
        value = self.low * math.exp(min(max(place, 0.0), 1.0) * self.width)
        if self.integer:
            return min(max(round(value), math.ceil(self.low)), math.floor(self.high))
        return float(f"{value:.4g}")

    def place(self, value: float) -> float:
        """The inverse of :meth:`value`."""
        return math.log(value / self.low) / self.width


class Trial(NamedTuple):
    """Values that were tried, and what came out: the figure that decides, and the loss that is made of it."""

    values: dict[str, float]
    figure: float
    loss: float


Evaluate = Callable[[Mapping[str, float], Any], tuple[float, Any]]


class _SpentError(Exception):
    """The budget is spent."""


class Search:
    """The least loss over a box in log space.

    A third of the budget spreads points over the box. Then Brent's bounded search goes on between the neighbours of the
    best one, or, for two and three parameters, Nelder and Mead's from the best one. Nothing is evaluated twice, whole
    numbers included; of one whole number, the last trials are its best value's neighbours. Trials without a finite
    result never win.

    Args:
        axes: one to three.
        evaluate: (values, state to start from or None) ↦ (figure, state).
        loss: of a figure, to be minimised.
        budget: number of trials.
        kept: number of states that are kept, those of the values nearest to the best.
        label: a figure in words, for the progress line.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        evaluate: Evaluate,
        loss: Callable[[float], float],
        budget: int,
        kept: int,
        label: Callable[[float], str] = "{:.4g}".format,
    ) -> None:
        for axis in axes:
            if not 0 < axis.low < axis.high:
                raise ValueError(f"tuning {axis.name}: the range is {axis.low:g} to {axis.high:g}; give 0 < low < high")
        if len(axes) not in _STEPS:
            raise ValueError(f"tuning: {len(axes)} parameters are free, at most 3 can be tuned together; give some")
        self.axes, self.evaluate, self.loss, self.budget = tuple(axes), evaluate, loss, budget
        self.kept, self.label = kept, label
        self.trials: list[Trial] = []
        self.trouble: str = ""
        self._known: dict[tuple[float, ...], Trial] = {}
        self._states: dict[tuple[float, ...], Any] = {}

    def run(self) -> Trial:
        """Search, and return the best trial.

        Raises:
            ValueError: when no trial has a finite result.
        """
        names = " and ".join(axis.name for axis in self.axes)
        with tqdm(total=self.budget, desc=f"tuning {names}", leave=False, unit="value", disable=None) as bar:
            self._bar = bar
            try:
                coarse = self._spread(max(1, self.budget // 3))
                self._line(coarse) if len(self.axes) == 1 else self._simplex(coarse)
            except _SpentError:
                pass
        if self.best.loss == FAILED:
            raise ValueError(
                f"tuning {names}: none of {len(self.trials)} values tried gave a finite result{self.trouble}"
            )
        return self.best

    @property
    def best(self) -> Trial:
        """The best trial so far."""
        return min(self.trials, key=lambda trial: trial.loss)

    def warnings(self) -> list[str]:
        """What to beware of: an optimum at the end of a range, and trials that failed."""
        found = []
        for axis in self.axes:
            value = self.best.values[axis.name]
            place = axis.place(value)
            low, high = (math.ceil(axis.low), math.floor(axis.high)) if axis.integer else (axis.low, axis.high)
            if not EDGE < place < 1 - EDGE or value in (low, high):
                end, number = (low if place < 0.5 else high), "d" if axis.integer else ".2e"
                found.append(
                    f"{axis.name} {value:{number}} is at the end {end:{'d' if axis.integer else '.0e'}} of its search "
                    "range; the optimum may lie beyond"
                )
        failed = sum(trial.loss == FAILED for trial in self.trials)
        if failed:
            found.append(f"{failed} of {len(self.trials)} values tried gave no finite result{self.trouble}")
        return found

    def _spread(self, count: int) -> dict[tuple[float, ...], float]:
        """Losses of points spread over the box; their places are between 0 and 1 along every axis."""
        steps = np.array(_STEPS[len(self.axes)])
        points = [((i + 0.5) / count, *np.mod(0.5 + i * steps, 1).tolist()) for i in range(count)]
        return {point: self._try(point) for point in points}

    def _line(self, coarse: dict[tuple[float, ...], float]) -> None:
        places = [0.0, *sorted(place for (place,) in coarse), 1.0]
        at = places.index(min(coarse, key=coarse.__getitem__)[0])
        (axis,) = self.axes
        spare = NEIGHBOURS if axis.integer else 0  # Brent's search stops within the places that round to one number
        with suppress(_SpentError):
            minimize_scalar(
                lambda place: self._try((place,), spare),
                bounds=(places[at - 1], places[at + 1]),
                method="bounded",
                options={"maxiter": 10 * self.budget, "xatol": TOLERANCE},
            )
        known = 0
        while axis.integer and known < len(self.trials):
            known, value = len(self.trials), self.best.values[axis.name]
            for neighbour in (value - 1, value + 1):
                if axis.low <= neighbour <= axis.high:
                    self._try((axis.place(neighbour),))

    def _simplex(self, coarse: dict[tuple[float, ...], float]) -> None:
        best = np.array(min(coarse, key=coarse.__getitem__))
        step = 0.5 * len(coarse) ** (-1 / len(best))  # half the distance between points
        simplex = np.vstack([best, best + np.diag(np.where(best < 0.5, step, -step))])
        minimize(
            lambda places: self._try(tuple(places.tolist())),
            best,
            method="Nelder-Mead",
            bounds=[(0.0, 1.0)] * len(best),
            options={
                "initial_simplex": simplex,
                "xatol": TOLERANCE,
                "fatol": math.inf,
                "maxiter": 10 * self.budget,
                "maxfev": 10 * self.budget,  # the budget counts trials, of which some calls make none
            },
        )

    def _try(self, place: tuple[float, ...], spare: int = 0) -> float:
        values = {axis.name: axis.value(p) for axis, p in zip(self.axes, place, strict=True)}
        key = tuple(values.values())
        if key not in self._known:
            if len(self.trials) >= self.budget - spare:
                raise _SpentError
            trial = self._evaluate(values, key)
            self._known[key] = trial
            self.trials.append(trial)
            self._forget()
            self._bar.update()
            told = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
            self._bar.set_postfix_str(f"{told}: {self.label(trial.figure)}")
        return self._known[key].loss

    def _evaluate(self, values: dict[str, float], key: tuple[float, ...]) -> Trial:
        start = self._states[min(self._states, key=lambda k: self._distance(k, key))] if self._states else None
        try:
            figure, state = self.evaluate(values, start)
        except (ArithmeticError, RuntimeError) as error:  # a solver that breaks at one value may work at others
            self.trouble = f" ({error})"
            return Trial(values, math.nan, FAILED)
        loss = self.loss(figure)
        if math.isnan(loss) or loss == math.inf:
            return Trial(values, figure, FAILED)
        if state is not None:
            self._states[key] = state
        return Trial(values, figure, min(max(loss, -FAILED), FAILED / 2))

    def _forget(self) -> None:
        """Drop the states that are farthest from the best values."""
        best = tuple(self.best.values.values())
        for key in sorted(self._states, key=lambda k: self._distance(k, best))[self.kept :]:
            del self._states[key]

    def _distance(self, one: tuple[float, ...], other: tuple[float, ...]) -> float:
        return math.hypot(*(math.log(a / b) for a, b in zip(one, other, strict=True)))


def save_chosen(folder: Path, chosen: dict[str, Any]) -> None:
    """Write tuned parameters."""
    (folder / FILE).write_text(json.dumps(chosen), encoding="utf-8")


def load_chosen(folder: Path, name: str) -> float:
    """Read one tuned parameter back, whole if it was; a ValueError where there is none."""
    try:
        value = json.loads((folder / FILE).read_text(encoding="utf-8"))[name]
        return value if isinstance(value, int) else float(value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder.name}/{FILE} holds no {name} ({error}); fit again") from error
