"""Bare arrays: NPY, NPZ, and BART's cfl."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy

from .volume import DEFLATE_RATIO, KeptSlices, Metadata, Refused, Volume, check_numbers, choose, product, stack_shape

LARGEST_MEMBER = 1 << 31
BART_AXES = 16
BART_COILS = 3


def read_npy(path: str) -> Volume:
    """Slices along the first axis, through a memory map. Arrays of objects are pickles and are refused."""
    with open(path, "rb") as file:
        shape, dtype, offset = _npy_header(file)
        end = offset + product(shape) * dtype.itemsize
    if os.path.getsize(path) != end:
        raise Refused(f"has {os.path.getsize(path)} bytes where its header promises {end}; it is truncated or damaged")
    if len(shape) < 2:
        raise Refused(f"holds {shape} values, expected two axes or more")
    return Volume(stack_shape(shape), Metadata(path), NpySlices(path, len(shape) == 2), dtype)


@dataclass(frozen=True)
class NpySlices:
    """Loads slice i; the map is open only meanwhile."""

    path: str
    single: bool

    def __call__(self, index: int) -> np.ndarray:
        values = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return np.array(values if self.single else values[index])


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype, int]:
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:  # 3.0 differs by field names outside Latin-1, which records have and numbers have not
        raise Refused(f"is a .npy of version {version}, expected an array of plain numbers")
    check_numbers(dtype, "it")
    return shape, dtype, file.tell()


def read_npz(path: str, key: str | None) -> Volume:
    """Slices along the first axis of array ``key``, or of the only one with two axes or more."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename[:-4]: info for info in archive.infolist() if info.filename.endswith(".npy")}
        if not members:
            raise Refused("is a zip archive without .npy arrays; unpack it")
        headers: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        refused: dict[str, str] = {}
        for name, info in members.items():
            with archive.open(info) as file:
                try:
                    shape, dtype, offset = _npy_header(file)
                except (Refused, ValueError) as error:
                    refused[name] = str(error)
                    continue
            end = offset + product(shape) * dtype.itemsize
            if info.file_size != end or end > info.compress_size * DEFLATE_RATIO + LARGEST_MEMBER // 1024:
                refused[name] = f"has {info.file_size} bytes where its header promises {end}; it is damaged"
            elif end > LARGEST_MEMBER:
                refused[name] = f"has {end} bytes, too many for a .npz; save it as .npy, which is read by slice"
            else:
                headers[name] = shape, dtype
    if (key or "") in refused or (key is None and not headers):
        name = key or next(iter(refused))
        raise Refused(f"{name}: {refused[name]}")
    name = choose({name: shape for name, (shape, _) in headers.items()}, key)
    shape, dtype = headers[name]
    return Volume(stack_shape(shape), Metadata(path), KeptSlices(_load_npz, path, name), dtype)


def _load_npz(path: str, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        values = archive[name]
    return values[None] if values.ndim == 2 else values


def read_cfl(path: str) -> Volume:
    """BART's pair NAME.hdr (text) and NAME.cfl (complex64, first axis fastest).

    Axis 0 counts rows, axis 1 columns, axis 3 (coils, where there are several) stays in front; slices run over
    axis 2 and all after the coils, the earlier axis faster.
    """
    base = path.removesuffix(".hdr").removesuffix(".cfl")
    with open(f"{base}.hdr", encoding="ascii", errors="replace") as file:
        lines = file.read(1 << 16).splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() == "# Dimensions"), None)
    if start is None or start + 1 >= len(lines):
        raise Refused("its .hdr has no line after '# Dimensions'; is it BART's?")
    sizes = tuple(int(word) for word in lines[start + 1].split())
    if not 1 <= len(sizes) <= BART_AXES or min(sizes) < 1:
        raise Refused(f"its .hdr gives the sizes {sizes}, expected up to {BART_AXES} positive numbers")
    sizes += (1,) * (BART_AXES - len(sizes))
    size = os.path.getsize(f"{base}.cfl")
    if size != product(sizes) * 8:
        raise Refused(f"its .cfl has {size} bytes where the .hdr promises {product(sizes) * 8}; it is truncated")
    coils = sizes[BART_COILS]
    slices = product(sizes) // product((*sizes[:2], coils))
    shape = (slices, *((coils,) if coils > 1 else ()), *sizes[:2])
    return Volume(shape, Metadata(path), CflSlices(f"{base}.cfl", sizes), np.dtype("<c8"))


@dataclass(frozen=True)
class CflSlices:
    """Loads slice i; the map is open only meanwhile."""

    path: str
    sizes: tuple[int, ...]

    def __call__(self, index: int) -> np.ndarray:
        rows, columns, depth, coils = self.sizes[:4]
        values = np.memmap(
            self.path, "<c8", "r", shape=(rows, columns, depth, coils, product(self.sizes[4:])), order="F"
        )
        plane = np.array(values[:, :, index % depth, :, index // depth]).transpose(2, 0, 1)
        return plane if coils > 1 else plane[0]
