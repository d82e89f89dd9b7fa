"""Pairs of image and measurement: what a method is fitted on, and what it is judged on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import torch
from torch import Tensor

from ..physics import LinearOperator
from ..physics.noise import GaussianNoise, Noise, seeded_generator
from .datasets import Dataset, Sample
from .whole_file import whole_file

HDF5_OVERHEAD = 1 << 16
"""Bytes that a file takes beside its numbers, at most."""


class Problem(ABC):
    """One split of one task: images x, their measurements y = A x + noise, and the operator A.

    ``fit`` is handed the training and the validation problem and nothing else.

    Attributes:
        physics: the operator A that methods reconstruct with.
        data_range: the fixed intensity range of the dataset, in the units of its images.
        ids: one id per image.
        patients: one patient per image.
        noise_level: σ of the noise where it is Gaussian and the same for every measured number, None elsewhere.
    """

    physics: LinearOperator
    data_range: float
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    noise_level: float | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def truth(self, i: int) -> Tensor:
        """The image x, ``[C, H, W]``."""

    @abstractmethod
    def measurement(self, i: int, draw: int = 0) -> Tensor:
        """Its measurement, ``[*range]``; another ``draw`` gives another noise."""

    def batch(self, indices: Sequence[int], draw: int = 0) -> tuple[Tensor, Tensor]:
        """Images ``[B, C, H, W]`` and measurements ``[B, *range]``."""
        truths = torch.stack([self.truth(i) for i in indices])
        return truths, torch.stack([self.measurement(i, draw) for i in indices])


class SimulatedProblem(Problem):
    """Measurements simulated when they are asked for; images and noise-free measurements stay in memory.

    The noise of an image is drawn from a generator seeded by ``seed``, the dataset, the image, the task and the draw,
    so that it depends neither on the method nor on the order or number of images.

    Args:
        task: name of the task.
        dataset: where the images come from.
        samples: the images of this split.
        physics: the operator to reconstruct with.
        simulate: fine image ``[1, C, sH, sW]`` → noise-free measurement ``[1, *range]``; ``physics.A`` of the
            truth when absent.
        noise: added to the noise-free measurement.
        seed: of the suite.
        keep: all images in memory; otherwise the last one only, for going through them once.
    """

    def __init__(
        self,
        task: str,
        dataset: Dataset,
        samples: Sequence[Sample],
        physics: LinearOperator,
        noise: Noise,
        seed: int,
        simulate: Callable[[Tensor], Tensor] | None = None,
        keep: bool = True,
    ) -> None:
        self.task, self.dataset, self.samples, self.keep = task, dataset, tuple(samples), keep
        self.physics, self.noise, self.seed, self.simulate = physics, noise, seed, simulate
        self.data_range = dataset.data_range
        self.noise_level = noise.sigma if isinstance(noise, GaussianNoise) and not noise.relative else None
        self.ids = tuple(sample.id for sample in self.samples)
        self.patients = tuple(sample.patient for sample in self.samples)
        self._truths: dict[int, Tensor] = {}
        self._clean: dict[int, Tensor] = {}

    def truth(self, i: int) -> Tensor:
        if i not in self._truths:
            self._load(i)
        return self._truths[i]

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        if i not in self._clean:
            self._load(i)
        generator = seeded_generator(self.seed, self.dataset.name, self.ids[i], self.task, draw)
        return self.noise(self._clean[i][None], generator, self.physics.support)[0]

    def _load(self, i: int) -> None:
        fine = self.dataset.fine(self.samples[i])
        truth = self.dataset.coarsen(fine)
        with torch.no_grad():
            clean = self.physics.A(truth[None]) if self.simulate is None else self.simulate(fine[None])
        if not self.keep:
            self._truths.clear()
            self._clean.clear()
        self._truths[i], self._clean[i] = truth, clean[0]


class StoredProblem(Problem):
    """A problem written by :func:`store`, read back image by image."""

    def __init__(self, path: Path, split: str, physics: LinearOperator) -> None:
        self.path, self.split, self.physics = Path(path), split, physics
        with h5py.File(self.path, "r") as file:
            group = file[split]
            self.data_range = float(file.attrs["data_range"])
            self.ids = tuple(group["ids"].asstr()[:])
            self.patients = tuple(group["patients"].asstr()[:])
            level = group.attrs.get("noise_level")
            self.noise_level = None if level is None else float(level)
            stored = tuple(group["measurement"].shape[1:])
        if stored != physics.range:
            raise ValueError(
                f"{self.path.name}: stored measurements are {stored}, the operator measures {physics.range}; "
                "delete the file to simulate again"
            )

    def truth(self, i: int) -> Tensor:
        return self._read("truth", i)

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        if draw:
            raise ValueError(f"{self.path.name} holds one noise draw per image; asked for draw {draw}")
        return self._read("measurement", i)

    def _read(self, name: str, i: int) -> Tensor:
        with h5py.File(self.path, "r") as file:
            return torch.from_numpy(file[self.split][name][i])


def store(path: Path, problems: dict[str, Problem], progress: Callable[[], object] = lambda: None) -> None:
    """Simulate each problem once and write it under its split's name; atomically, so that a file is whole or absent."""
    numbers = sum(len(p) * (math.prod(p.physics.domain) + math.prod(p.physics.range)) for p in problems.values())
    with whole_file(path, size=4 * numbers + HDF5_OVERHEAD) as partial, h5py.File(partial, "w") as file:
        for split, problem in problems.items():
            group = file.create_group(split)
            file.attrs["data_range"] = problem.data_range
            if problem.noise_level is not None:
                group.attrs["noise_level"] = problem.noise_level
            for name, values in (("ids", problem.ids), ("patients", problem.patients)):
                group.create_dataset(name, data=list(values), shape=(len(values),), dtype=h5py.string_dtype())
            domain, range_ = problem.physics.domain, problem.physics.range
            truths = group.create_dataset("truth", (len(problem), *domain), "float32")
            measurements = group.create_dataset("measurement", (len(problem), *range_), "float32")
            for i in range(len(problem)):
                truths[i], measurements[i] = problem.truth(i), problem.measurement(i)
                progress()
