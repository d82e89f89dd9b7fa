"""Problems as a network sees them."""

from __future__ import annotations

from torch import Tensor

from ..data.problem import Problem
from ..physics import LinearOperator, Normalised
from .augmentation import Augmentation, Augmented


class UnitProblem(Problem):
    """A problem in the network's units: images divided by the data range, the operator by its norm.

    Args:
        problem: in the units of the dataset.
        data_range: of the dataset.
        physics: its operator, perhaps on another device; the problem's own when None.
        augmentation: of the pairs of :meth:`pair`.
    """

    def __init__(
        self,
        problem: Problem,
        data_range: float,
        physics: LinearOperator | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.problem, self.scale = problem, data_range
        self.norm = problem.physics.norm
        self.physics = Normalised(physics or problem.physics)
        self.data_range = problem.data_range / data_range
        self.ids, self.patients = problem.ids, problem.patients
        self.augmented = Augmented(problem, augmentation) if augmentation else None

    def truth(self, i: int) -> Tensor:
        return self.problem.truth(i) / self.scale

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        return self.problem.measurement(i, draw) / (self.scale * self.norm)

    def pair(self, i: int, draw: int) -> tuple[Tensor, Tensor]:
        """An example of training: image and measurement, changed at random if there is an augmentation."""
        if self.augmented is None:
            return self.truth(i), self.measurement(i, draw)
        truth, y = self.augmented.pair(i, draw)
        return truth / self.scale, y / (self.scale * self.norm)
