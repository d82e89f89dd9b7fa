"""HDF5: fastMRI's and LoDoPaB's layouts, and any dataset by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import h5py
import numpy as np

from .volume import DEFLATE_RATIO, Metadata, Refused, Volume, check_shape, choose, product, stack_shape

LARGEST_CHUNK = 1 << 30  # bytes that HDF5 allocates to read any part of a chunk
ISMRMRD = "{http://www.ismrm.org/ISMRMRD}"


def read_hdf5(path: str, key: str | None) -> Volume:
    """Slices along the first axis of a dataset, all axes but the last two staying in front.

    Without ``key`` it is the dataset ``kspace`` at the root where there is one (fastMRI; ``[slices, coils, H, W]``
    or ``[slices, H, W]``), otherwise the only one with two axes or more (LoDoPaB's ``data``). Links to other files
    are not followed.
    """
    with h5py.File(path, "r") as file:
        arrays = {name: dataset.shape for name, dataset in numeric_datasets(file)}
        if key is None and len(arrays.get("kspace", ())) >= 3:
            key = "kspace"
        name = choose(arrays, key)
        dataset = file[name]
        check_dataset(dataset, stack_shape(dataset.shape))
        load = Hdf5Slices(path, name, len(dataset.shape) == 2)
        return Volume(stack_shape(dataset.shape), _metadata(path, file, name), load, number_type(dataset))


@dataclass(frozen=True)
class Hdf5Slices:
    """Loads slice i of a dataset; the file is open only meanwhile."""

    path: str
    name: str
    single: bool

    def __call__(self, index: int) -> np.ndarray:
        with h5py.File(self.path, "r") as file:
            dataset = file[self.name]
            return plain(dataset[()] if self.single else dataset[index])


def numeric_datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset of numbers that is in the file itself, by its path."""
    names: list[str] = []
    file.visit(names.append)  # follows no soft or external link, and every object once
    for name in names:
        # A part of the file that is damaged must not hide the rest of it.
        with contextlib.suppress(KeyError, TypeError, ValueError, OSError, RuntimeError):
            thing = file[name]
            if isinstance(thing, h5py.Dataset) and thing.shape and number_type(thing).kind in "biufc":
                yield name, thing


def number_type(dataset: h5py.Dataset) -> np.dtype:
    """The dataset's number type, complex for pairs of floats (MATLAB's real, imag), void for all else."""
    dtype = dataset.dtype
    if dtype.names is None:
        return dtype
    if tuple(dtype.names) == ("real", "imag") and all(dtype[n].kind == "f" for n in dtype.names):
        return np.dtype(np.complex128)
    return np.dtype("V1")


def plain(values: np.ndarray) -> np.ndarray:
    """Pairs of floats as complex numbers, anything else as it is."""
    return values["real"] + 1j * values["imag"] if values.dtype.names else values


def check_dataset(dataset: h5py.Dataset, shape: tuple[int, ...]) -> None:
    """Refuse datasets whose claims the file cannot keep, before anything is allocated."""
    check_shape(shape)
    if dataset.is_virtual or dataset.external:
        raise Refused(f"{dataset.name} is kept in other files, which are not read; copy it into one file")
    stored, size = dataset.id.get_storage_size(), os.path.getsize(dataset.file.filename)
    claimed = product(dataset.shape) * dataset.dtype.itemsize
    if stored == 0:
        raise Refused(f"{dataset.name} was declared but never written; was the program that made it interrupted?")
    # The bound is deflate's; a file of which less was written than that is as good as empty.
    if stored > size or claimed > stored * (DEFLATE_RATIO if dataset.chunks else 1):
        raise Refused(f"{dataset.name} claims {claimed} bytes, stored are {min(stored, size)}; the file is damaged")
    if dataset.chunks and product(dataset.chunks) * dataset.dtype.itemsize > LARGEST_CHUNK:
        raise Refused(f"{dataset.name} has chunks of {dataset.chunks} values, too large to read; repack it")


def _metadata(path: str, file: h5py.File, name: str) -> Metadata:
    if "ismrmrd_header" not in file or "kspace" not in file:
        return Metadata(path)
    patient = file.attrs.get("patient_id")
    patient = patient.decode(errors="replace") if isinstance(patient, bytes) else patient
    header = file["ismrmrd_header"][()]
    spacing = _ismrmrd_spacing(header, "encodedSpace" if name == "kspace" else "reconSpace")
    return Metadata(path, spacing, modality="MR", patient=str(patient) if patient else None)


def _ismrmrd_spacing(header: bytes | str, space: str) -> tuple[float, float] | None:
    """Field of view over matrix; x is the readout and counts rows, as in fastMRI's arrays."""
    text = header.decode(errors="replace") if isinstance(header, bytes) else str(header)
    if "<!" in text:  # entities could expand without end; no scanner writes them
        return None
    try:
        encoding = ElementTree.fromstring(text).find(f"{ISMRMRD}encoding/{ISMRMRD}{space}")
        if encoding is None:
            return None
        row, column = (
            float(encoding.findtext(f"{ISMRMRD}fieldOfView_mm/{ISMRMRD}{axis}", ""))
            / float(encoding.findtext(f"{ISMRMRD}matrixSize/{ISMRMRD}{axis}", ""))
            for axis in "xy"
        )
    except (ElementTree.ParseError, ValueError, ZeroDivisionError):
        return None
    return (row, column) if 0 < row < 1e3 and 0 < column < 1e3 else None
