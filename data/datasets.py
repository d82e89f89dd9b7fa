"""Datasets: images with a patient, split by patient, on a stated grid and in stated units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sample:
    """One image, loaded when it is asked for.

    Attributes:
        id: unique in the dataset, stable over runs.
        patient: whose image it is; a patient is in one split only.
        load: returns the image ``[sH, sW]`` on the fine grid, in the dataset's units; complex where the images are.
    """

    id: str
    patient: str
    load: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """Images on a fine grid, from which measurements are simulated, and their block means, the truth.

    Attributes:
        name: part of the seed of every image's noise.
        shape: (H, W) of the truth.
        oversampling: s; the fine grid is (sH, sW).
        pixel_size: of the truth, in mm.
        data_range: fixed range of the intensities for PSNR and SSIM, in ``units``.
        units: ``"1/mm"`` for CT, ``""`` for normalised intensities.
        display: grey window for pictures, in ``units``.
        labels: what a reader of results must know about the data.
        splits: samples by split.
        channels: 1, or 2 where images are complex; the data range and the window are then those of magnitudes.
        water: attenuation in 1/mm that is 0 HU; None where intensities are no attenuations.
    """

    name: str
    shape: tuple[int, int]
    oversampling: int
    pixel_size: float
    data_range: float
    units: str
    display: tuple[float, float]
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Sample, ...]]
    channels: int = 1
    water: float | None = None

    def __post_init__(self) -> None:
        owner: dict[str, str] = {}
        for split in SPLITS:
            for sample in self.splits[split]:
                if owner.setdefault(sample.patient, split) != split:
                    raise ValueError(
                        f"dataset {self.name}: patient {sample.patient} is in {owner[sample.patient]} and in {split}; "
                        "a patient may be in one split only"
                    )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W), or (2, H, W) where images are complex: what operators are built for."""
        return self.shape if self.channels == 1 else (self.channels, *self.shape)

    def fine(self, sample: Sample) -> Tensor:
        """The image on the fine grid, ``[C, sH, sW]`` float32."""
        values = np.asarray(sample.load())
        parts = [values] if self.channels == 1 else [values.real, values.imag]
        image = torch.from_numpy(np.stack(parts).astype(np.float32))
        expected = (self.shape[0] * self.oversampling, self.shape[1] * self.oversampling)
        if values.shape != expected:
            raise ValueError(f"dataset {self.name}: {sample.id} is {values.shape}, the fine grid is {expected}")
        if not torch.isfinite(image).all():
            raise ValueError(
                f"dataset {self.name}: {sample.id} holds NaN or infinite pixels; leave it out or repair it"
            )
        return image

    def coarsen(self, fine: Tensor) -> Tensor:
        """Block means: fine grid ``[C, sH, sW]`` → truth ``[C, H, W]``."""
        return avg_pool2d(fine, self.oversampling) if self.oversampling > 1 else fine
