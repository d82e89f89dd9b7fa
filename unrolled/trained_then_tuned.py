"""A network, and a classical method around it whose few numbers are tuned once the network is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ..baselines.method import Fit, Method
from ..baselines.tuned import TunedMethod
from ..data.problem import Problem
from ..physics import LinearOperator
from .network import LearnedMethod


class TrainedThenTuned(Method):
    """A :class:`LearnedMethod` inside a :class:`TunedMethod`, fitted one after the other.

    Args:
        trained: the network.
        around: makes the method that uses it.
    """

    group = "learned"

    def __init__(self, trained: LearnedMethod, around: Callable[[LearnedMethod], TunedMethod]) -> None:
        self.trained, self.tuned = trained, around(trained)

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        return self.tuned.reconstruct(y.float(), physics)

    def fit(self, train: Problem, validation: Problem, folder: Path | None = None) -> Fit:
        """Train, then tune; an interrupted training goes on from what it left in ``folder``.

        Raises:
            ValueError: if a split is empty, or ``folder`` holds another training.
        """
        training = self.trained.fit(*self.training_problems(train, validation), folder)
        return self.tune(training, train, validation)

    def tune(self, training: Fit, train: Problem, validation: Problem) -> Fit:
        """What is left to fit once the network is trained, by ``training``; the fit of both."""
        return training.joined(self.tuned.fit(train, validation), ", then ")

    def training_problems(self, train: Problem, validation: Problem) -> tuple[Problem, Problem]:
        """What the network is trained on: the method's own problems unless a subclass makes others of them."""
        return train, validation

    def save(self, folder: Path) -> None:
        self.trained.save(folder)
        self.tuned.save(folder)

    def load(self, folder: Path) -> None:
        self.trained.load(folder)
        self.tuned.load(folder)

    @property
    def parameters(self) -> int:
        return self.trained.parameters + self.tuned.parameters
