"""Several problems as one, for a network that is trained on all of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..data.problem import Problem


class Mixture(Problem):
    """The images of several problems, one problem after another; each part keeps its operator and its noise.

    Args:
        parts: of one data range, since a trained network knows one.

    Raises:
        ValueError: for parts of different data ranges, or of images that are complex here and real there.
    """

    def __init__(self, parts: Sequence[Problem]) -> None:
        self.parts = tuple(parts)
        for name, values in (
            ("data ranges", {part.data_range for part in self.parts}),
            ("numbers of channels", {part.physics.domain[0] for part in self.parts}),
        ):
            if len(values) != 1:
                raise ValueError(
                    f"train_on: the tasks have the {name} {', '.join(map(str, sorted(values)))}; choose one"
                )
        self.physics, self.data_range = self.parts[0].physics, self.parts[0].data_range
        self.ids = tuple(id for part in self.parts for id in part.ids)
        self.patients = tuple(patient for part in self.parts for patient in part.patients)

    def truth(self, i: int) -> Tensor:
        part, own = self._find(i)
        return part.truth(own)

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        part, own = self._find(i)
        return part.measurement(own, draw)

    def _find(self, i: int) -> tuple[Problem, int]:
        for part in self.parts:
            if i < len(part):
                return part, i
            i -= len(part)
        raise IndexError(f"image {i} after the last")
