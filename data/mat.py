"""MATLAB files: version 5, and version 7.3, which is HDF5 with the axes reversed."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np

from .hdf5 import check_dataset, number_type, numeric_datasets, plain
from .mat5 import list_arrays, load_array
from .volume import KeptSlices, Metadata, Volume, choose

NOT_IMAGES = {b"char", b"cell", b"struct", b"function_handle", b"canonical empty"}

# MATLAB's array [H, W, …, N] holds N slices; the axes between stay in front of H and W, in HDF5's order. Both
# versions so give the same slices.


def stack(values: np.ndarray) -> np.ndarray:
    """[H, W] → [1, H, W], and [H, W, a, …, N] → [N, …, a, H, W]."""
    return values[None] if values.ndim == 2 else values.T.swapaxes(-1, -2)


def stacked(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of :func:`stack`."""
    return (1, *shape) if len(shape) == 2 else (*shape[:1:-1], *shape[:2])


def read_mat(path: str, key: str | None) -> Volume:
    """The variable ``key`` of a version 5 file, a struct's field as ``struct/field``; without it the only array."""
    load = KeptSlices(_load, path, choose(list_arrays(path), key))
    values = load.stack()
    return Volume(values.shape, Metadata(path), load, values.dtype)


def _load(path: str, name: str) -> np.ndarray:
    return stack(load_array(path, name))


def read_mat73(path: str, key: str | None) -> Volume:
    """The variable ``key`` of a version 7.3 file, a struct's field as ``struct/field``; read by slice."""
    with h5py.File(path, "r") as file:
        datasets = {name: d for name, d in numeric_datasets(file) if _is_array(name, d)}
        name = choose({name: d.shape[::-1] for name, d in datasets.items()}, key)
        dataset = datasets[name]
        shape = stacked(dataset.shape[::-1])
        check_dataset(dataset, shape)
        return Volume(shape, Metadata(path), Mat73Slices(path, name), number_type(dataset))


def _is_array(name: str, dataset: h5py.Dataset) -> bool:
    kind = dataset.attrs.get("MATLAB_class", b"")
    return not name.startswith("#") and kind not in NOT_IMAGES and "MATLAB_empty" not in dataset.attrs


@dataclass(frozen=True)
class Mat73Slices:
    """Loads slice i of a version 7.3 variable; the file is open only meanwhile."""

    path: str
    name: str

    def __call__(self, index: int) -> np.ndarray:
        with h5py.File(self.path, "r") as file:
            dataset = file[self.name]
            return plain(dataset[()] if dataset.ndim == 2 else dataset[index]).swapaxes(-1, -2)
