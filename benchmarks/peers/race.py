"""How long solvers take to come near an optimum, and tables of that."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...baselines.admm import ADMM
from ...baselines.iteration import CHECK_EVERY, Solver, solve
from ...baselines.objective import Objective
from ...baselines.terms import Term
from ...physics import LinearOperator

TURNS = 5.0  # seconds up to which a way is timed several times


class Way(NamedTuple):
    """A solver of one problem: ``begin`` gives the image after every ``block`` iterations, from the start and without
    end; None where the library is not installed.
    """

    begin: Callable[[], Iterator[Tensor]] | None
    block: int = CHECK_EVERY


class Mark(NamedTuple):
    """Where a way met a gap, or where it was stopped."""

    iterations: int
    seconds: float
    gap: float
    met: bool


class Problem(NamedTuple):
    """min ½ ‖A x − y‖² + g(K x), for A / ‖A‖."""

    physics: LinearOperator
    y: Tensor
    term: Term

    def objective(self, dtype: torch.dtype = torch.float32) -> Objective:
        """The objective, computed in ``dtype``."""
        return Objective(self.physics, self.y.to(dtype), [self.term])


class Optimum:
    """The least value of a problem, to a certified relative gap in float64, and how far images are from it.

    Args:
        problem: of one image.
        tol: certified relative gap.
        max_iter: bound on the iterations of :class:`ADMM`.
    """

    def __init__(self, problem: Problem, tol: float, max_iter: int = 5000) -> None:
        progress(f"reference optimum, certified to {tol:g}")
        self._objective = problem.objective(torch.float64)
        solution = solve(ADMM(self._objective), tol, max_iter)
        self.x, self.certified = solution.x, float(solution.gap)
        self.value = self.value_of(self.x)

    def value_of(self, x: Tensor) -> float:
        """The objective of an image, in float64."""
        return float(self._objective.value(x.double()))

    def gap(self, x: Tensor) -> float:
        """The relative distance of an image's objective to the optimum."""
        return self.value_of(x) / self.value - 1


def ours(solver: Callable[[Objective], Solver], problem: Problem) -> Way:
    """One of our solvers in float32, from its objective on; norm and spectrum of A are known from earlier calls."""

    def begin() -> Iterator[Tensor]:
        for state in solver(problem.objective()).iterate():
            yield state.x

    return Way(begin)


@torch.no_grad()
def iterate(solver: Callable[[Objective], Solver], task: Problem, iterations: int) -> Tensor:
    """The image after some iterations, a multiple of :data:`CHECK_EVERY`."""
    states = solver(task.objective()).iterate()
    for _ in range(iterations // CHECK_EVERY):
        x = next(states).x
    return x


@torch.no_grad()
def run(way: Way, gap: Callable[[Tensor], float], tolerances: Sequence[float], limit: float) -> list[Mark]:
    """Where the way meets each tolerance, from the largest to the smallest. Only iterations are timed, not the looks.

    It is stopped at the first look after ``limit`` seconds of its own.
    """
    if way.begin is None:
        raise ValueError("run: this way's library is not installed")
    marks: list[Mark] = []
    left, seconds, iterations, iterates = sorted(tolerances, reverse=True), 0.0, 0, way.begin()
    while left:
        began = time.perf_counter()
        image = next(iterates)
        seconds += time.perf_counter() - began
        iterations += way.block
        reached = gap(image)
        while left and reached <= left[0]:
            marks.append(Mark(iterations, seconds, reached, True))
            left.pop(0)
        if seconds > limit:
            marks += [Mark(iterations, seconds, reached, False)] * len(left)
            break
    return marks


def race(
    ways: Mapping[str, Way], gap: Callable[[Tensor], float], tolerances: Sequence[float], limit: float, repeats: int
) -> dict[str, list[Mark]]:
    """The marks of every way that is installed, after a warm-up. Quick ways run again in turns; seconds are medians."""
    present = {name: way for name, way in ways.items() if way.begin is not None}
    runs: dict[str, list[list[Mark]]] = {}
    for name, way in present.items():
        progress(name)
        run(way, gap, [float("inf")], limit)
        runs[name] = [run(way, gap, tolerances, limit)]
    for turn in range(1, repeats):
        for name, way in present.items():
            if runs[name][0][-1].seconds < TURNS:
                progress(f"{name}, run {turn + 1} of {repeats}")
                runs[name].append(run(way, gap, tolerances, limit))
    return {name: [_median(marks) for marks in zip(*own, strict=True)] for name, own in runs.items()}


def _median(marks: Sequence[Mark]) -> Mark:
    return marks[0]._replace(seconds=statistics.median(mark.seconds for mark in marks))


def print_race(ways: Mapping[str, Way], marks: Mapping[str, Sequence[Mark]], tolerances: Sequence[float]) -> None:
    """A row for each way, columns for each tolerance; ratios are to the first way."""
    clear_progress()
    tolerances = sorted(tolerances, reverse=True)
    print(f"{'':40}" + "".join(f"{f'to a gap of {tol:g}':>40}" for tol in tolerances))
    print(f"{'':40}" + f"{'iterations':>14}{'seconds':>10}{'ratio':>16}" * len(tolerances))
    reference = marks[next(iter(ways))]
    for name in ways:
        if name not in marks:
            print(f"{name:40}{'not installed':>14}")
            continue
        cells = []
        for mark, first in zip(marks[name], reference, strict=True):
            ratio = mark.seconds / first.seconds
            words = f"{ratio:.1f}×" if mark.met else f"> {ratio:.0f}×, at {mark.gap:.0e}"
            cells.append(f"{mark.iterations:14}{mark.seconds:10.3f}{words:>16}")
        print(f"{name:40}" + "".join(cells))


def installed(*names: str) -> bool:
    """Whether Python packages are there."""
    return all(importlib.util.find_spec(name) is not None for name in names)


def progress(text: str) -> None:
    """What is running now, on a line of the terminal that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r{text[:110]:110}", end="", file=sys.stderr, flush=True)
    else:
        print(f"… {text}", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Empty that line before a table."""
    if sys.stderr.isatty():
        print(f"\r{'':110}\r", end="", file=sys.stderr, flush=True)
