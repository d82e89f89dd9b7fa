"""Raw multi-coil k-space: coils of a file, and the complex image that they combine to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..physics.coil_maps import estimate_coil_maps
from ..physics.multicoil import MultiCoilSampling
from .read import read
from .volume import Volume

LARGEST_GAP = 0.25  # share of k-space that may be empty, for corners and partial Fourier, in what counts as the truth


@dataclass(frozen=True)
class RawKspace:
    """How files of fully sampled multi-coil k-space become complex images.

    Each slice is the combination Σ s̄_c F⁻¹ y_c of its coils, with ESPIRiT maps s of its own. A file of three axes is
    one slice, (coils, H, W); of four, (slices, coils, H, W). The zero frequency is at (H // 2, W // 2).

    Args:
        key: of the array in a file that has several.
        calibration_lines: side of the central square that maps are estimated from.
    """

    key: str | None = None
    calibration_lines: int = 24

    @property
    def labels(self) -> tuple[str, ...]:
        return ("complex images from raw k-space, combined by ESPIRiT maps; the scan's own noise is part of the truth",)

    def open(self, file: Path) -> Volume:
        """The combined slices, complex ``[H, W]``, computed when they are asked for.

        Raises:
            ValueError: for a file that holds no complex numbers or has another number of axes.
        """
        volume = _coils(file, self.key)
        slices = len(volume) if len(volume.shape) == 4 else 1
        shape = (slices, *volume.shape[-2:])
        return Volume(shape, volume.metadata, _Combine(self, file), volume.dtype)


def read_coils(file: Path, key: str | None = None, index: int = 0) -> Tensor:
    """Slice ``index`` of a file of coils, ``[2, C, H, W]`` float32: k-space or maps, real and imaginary parts first.

    Raises:
        ValueError: for a file that holds no complex numbers or has another number of axes.
    """
    volume = _coils(file, key)
    coils = np.stack(list(volume)) if len(volume.shape) == 3 else volume.slice(index)
    return torch.from_numpy(np.stack((coils.real, coils.imag)))


def _coils(file: Path, key: str | None) -> Volume:
    volume = read(file, key=key)
    if volume.dtype.kind != "c" or len(volume.shape) not in (3, 4):
        shape = " × ".join(map(str, volume.shape))
        raise ValueError(
            f"{file} holds {shape} {'complex' if volume.dtype.kind == 'c' else 'real'} numbers; expected complex ones, "
            "coils × H × W, or slices × coils × H × W"
        )
    return volume


@dataclass(frozen=True)
class _Combine:
    """Combines one slice; a value, so that volumes can be sent to another process."""

    kspace: RawKspace
    file: Path

    def __call__(self, index: int) -> np.ndarray:
        return _combined(self.kspace, self.file, index)


@lru_cache(maxsize=64)
def _combined(kspace: RawKspace, file: Path, index: int) -> np.ndarray:
    """Kept, since a slice is asked for by the search for a scale, the search for content, and the simulation."""
    y = read_coils(file, kspace.key, index)
    empty = float((y == 0).all(0).all(0).float().mean())
    if empty > LARGEST_GAP:
        raise ValueError(f"{file}: {100 * empty:.0f} % of its k-space is empty; the truth needs a fully sampled scan")
    maps = estimate_coil_maps(y, kspace.calibration_lines)
    image = MultiCoilSampling(torch.ones(y.shape[-2:]), maps).A_adjoint(y[None])[0]
    return torch.complex(image[0], image[1]).numpy()
