"""A problem small enough to train on in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from isocenter.data.problem import Problem
from isocenter.physics import LinearOperator
from isocenter.physics.noise import seeded_generator
from torch import Tensor


class Boxes(Problem):
    """Images of random boxes with values in [0, data_range], and noise that differs with image and draw."""

    def __init__(self, physics: LinearOperator, count: int, name: str, noise: float = 0.05, data_range: float = 1.0):
        self.physics, self.noise, self.name, self.data_range = physics, noise, name, data_range
        self.ids = self.patients = tuple(f"{name}{i}" for i in range(count))

    def truth(self, i: int) -> Tensor:
        channels, height, width = self.physics.domain
        generator = seeded_generator(self.name, i)
        image = torch.zeros(channels, height, width)
        for _ in range(6):
            top, left, down, right, value = torch.rand(5, generator=generator).tolist()
            rows = slice(int(top * height), int(top * height) + 2 + int(down * height / 2))
            image[:, rows, int(left * width) : int(left * width) + 2 + int(right * width / 2)] = value
        return image * self.data_range

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        y = self.physics.A(self.truth(i)[None])[0]
        noise = torch.randn(y.shape, generator=seeded_generator(self.name, i, draw))
        if self.physics.support is not None:
            noise = noise * self.physics.support
        return y + self.noise * self.data_range * noise


@pytest.fixture
def boxes() -> type[Boxes]:
    return Boxes


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def dense() -> Callable[[LinearOperator], Tensor]:
    """The matrix of an operator, in float64."""

    def matrix(physics: LinearOperator) -> Tensor:
        size = torch.Size(physics.domain).numel()
        basis = torch.eye(size, dtype=torch.float64).view(size, *physics.domain)
        return physics.A(basis).flatten(1).T

    return matrix
