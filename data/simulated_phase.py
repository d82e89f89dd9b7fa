"""A smooth phase for magnitude images, so that methods for complex images have something to work on."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .datasets import Dataset
from .random_fields import generator, smooth_field

CELLS = 3  # features of about a third of the image, as inhomogeneities of the field and of the receiver make them

LABEL = (
    "data crime: complex images are magnitude images with a simulated smooth phase; raw scans are harder "
    "(Shimron et al. 2022)"
)


def with_simulated_phase(dataset: Dataset, seed: int) -> Dataset:
    """The dataset with images |x| e^{iφ}: φ a Gaussian random field of π/2 standard deviation, one for each image.

    φ depends on ``seed`` and the image's id alone, and is the same at every resolution up to block means.
    """
    splits = {
        split: tuple(replace(sample, load=_WithPhase(sample.load, sample.id, seed)) for sample in samples)
        for split, samples in dataset.splits.items()
    }
    return replace(dataset, channels=2, labels=(*dataset.labels, LABEL), splits=splits)


@dataclass(frozen=True)
class _WithPhase:
    """Loads one image; a value, so that samples can be sent to another process."""

    load: Callable[[], np.ndarray]
    id: str
    seed: int

    def __call__(self) -> np.ndarray:
        magnitude = np.abs(self.load())
        rng = generator("phase", self.seed, zlib.crc32(self.id.encode()))
        phase = np.pi / 2 * smooth_field(rng, CELLS, (magnitude.shape[0], magnitude.shape[1]))
        return (magnitude * np.exp(1j * phase)).astype(np.complex64)
