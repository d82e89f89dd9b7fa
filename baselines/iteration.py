"""The loop that every convex solver runs in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .method import ConvergenceWarning
from .steps import like
from .watching import Watcher

CHECK_EVERY = 5  # iterations between two looks at the certificate


class Progress(NamedTuple):
    """Where a solver is.

    Attributes:
        x: unknowns, the first of which are the image: ``[B, …]``.
        gap: certified relative distance of each image to its optimum, ``[B]``.
        state: what the solver can go on from.
    """

    x: Tensor
    gap: Tensor
    state: Any


class Solver(Protocol):
    """Frozen parameters, and a generator of states that does not end by itself."""

    def iterate(self, start: Any = None) -> Iterator[Progress]:
        """The state after every :data:`CHECK_EVERY` iterations."""
        ...


class Solution(NamedTuple):
    """Unknowns ``[B, …]``, their gaps ``[B]``, the iterations that were made, and the state to go on from."""

    x: Tensor
    gap: Tensor
    iterations: int
    state: Any


def solve(solver: Solver, tol: float, max_iter: int, start: Any = None, look: Watcher | None = None) -> Solution:
    """Iterate until every image has its gap under ``tol``; each keeps its first iterate that has.

    What an image gets therefore does not depend on the others of its batch. ``look`` is given the unknowns and their
    gaps at every check. Where the measurements carry gradients, so does the result: through the iterations, whose
    gradients come near that of the optimum as they do.
    """
    done: Tensor | None = None
    for count, progress in enumerate(solver.iterate(start), start=1):
        if done is None:
            done, x, gap = torch.zeros_like(progress.gap, dtype=torch.bool), progress.x, progress.gap.detach()
        x = torch.where(like(done, x), x, progress.x)
        gap = torch.where(done, gap, progress.gap.detach())
        if look is not None:
            look(count * CHECK_EVERY, progress.x.detach(), progress.gap.detach())
        done = gap <= tol
        if done.all() or count * CHECK_EVERY >= max_iter:
            break
    return Solution(x, gap, count * CHECK_EVERY, progress.state)


def warn_unless_converged(solution: Solution, tol: float, name: str, remedy: str = "raise max_iter") -> None:
    """A :class:`ConvergenceWarning` for images that stopped before their tolerance, and what to do."""
    worst = float(solution.gap.max())
    if not worst <= tol:
        warnings.warn(
            f"{name} stopped after {solution.iterations} iterations within {worst:.1%} of the optimum, "
            f"tolerance {tol:.1%}; {remedy}",
            ConvergenceWarning,
            stacklevel=4,
        )
