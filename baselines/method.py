"""The contract of every reconstruction method, classical or learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from ..data.problem import Problem
from ..physics import LinearOperator


class ConvergenceWarning(UserWarning):
    """A solver stopped before its tolerance."""


@dataclass
class Fit:
    """What a fit did: its budget in words, what it chose, the curve it followed, and what to beware of.

    Attributes:
        budget: for people, such as ``"12 values of λ"`` or ``"4,000 steps of 8 images"``.
        chosen: plain data, such as ``{"regularisation": 0.012}``.
        curve: rows with ``x`` (the parameter, or the step) and ``validation_psnr``.
        axis: what ``x`` is.
        seconds: the time that the fit took.
        warnings: such as an optimum on the edge of its search range.
    """

    budget: str = "none"
    chosen: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    axis: str = ""
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def joined(self, other: Fit, word: str) -> Fit:
        """This fit and its curve, with what another has chosen; ``word`` stands between their budgets."""
        budgets = [fit.budget for fit in (self, other) if fit.budget != Fit.budget]
        return replace(
            self,
            budget=word.join(budgets) or self.budget,
            chosen=other.chosen | self.chosen,
            seconds=self.seconds + other.seconds,
            warnings=[*self.warnings, *other.warnings],
        )


class Method(ABC):
    """x = method.reconstruct(y, physics), after method.fit(train, validation) where there is something to fit.

    ``reconstruct`` takes any batch and any :class:`LinearOperator`; the results for an image never depend on the others
    of its batch. Trouble that does not stop it is a Python warning, which the runner records with the cell.
    """

    group: ClassVar[Literal["direct", "classical", "learned"]]

    @abstractmethod
    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """Measurements ``[B, *range]`` → images ``[B, *domain]``."""

    def fit(self, train: Problem, validation: Problem, folder: Path | None = None) -> Fit:
        """Tune or train; an interrupted fit resumes from what it left in ``folder``."""
        return Fit()

    def save(self, folder: Path) -> None:
        """Write what was fitted, so that :meth:`load` restores it."""

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote.

        Raises:
            ValueError: when the folder holds nothing that fits this method.
        """

    @property
    def parameters(self) -> int:
        """The number of learned or tuned numbers."""
        return 0
