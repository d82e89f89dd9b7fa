"""Volumes stored plane after plane, as NIfTI and NRRD do, plain or gzipped, turned upright."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from .deflate import GzipReader
from .volume import Refused, check_numbers, check_shape, product


@dataclass(frozen=True)
class Turn:
    """How a stored plane [second axis, first axis] becomes an upright image: transpose, then flip."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def __call__(self, plane: np.ndarray) -> np.ndarray:
        if self.transpose:
            plane = plane.T
        return plane[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def upright(first: np.ndarray, second: np.ndarray) -> Turn:
    """The turn for planes whose first (fastest) and second axes point along these patient directions (left,
    posterior, superior).

    Radiological display, as DICOM images are stored: columns run to the patient's left (to posterior in sagittal
    planes), rows to posterior (to inferior in coronal and sagittal planes). Only flips and a transposition, no
    interpolation. Unknown directions (zeros) leave the plane as it is stored.
    """
    if not (np.any(first) and np.any(second)):
        return Turn()
    main_first, main_second = int(np.argmax(np.abs(first))), int(np.argmax(np.abs(second)))
    transpose = main_first > main_second  # columns take left before posterior before superior
    columns, rows = (second, first) if transpose else (first, second)
    return Turn(transpose, flip_rows=_backwards(rows), flip_columns=_backwards(columns))


def _backwards(direction: np.ndarray) -> bool:
    main = int(np.argmax(np.abs(direction)))
    return bool((direction[main] > 0) if main == 2 else (direction[main] < 0))


@dataclass(frozen=True)
class Raster:
    """Loads slices of an array whose first axis is the fastest; axes beyond the second count slices.

    Args:
        path: the file.
        offset: where the array begins, in the file, or in the inflated bytes of a gzip stream.
        sizes: the array's axes, fastest first.
        dtype: number type with byte order.
        turn: see :func:`upright`.
        slope, intercept: value = slope · stored + intercept.
        gzip: the inflated stream, where there is one.
    """

    path: str
    offset: int
    sizes: tuple[int, ...]
    dtype: np.dtype
    turn: Turn
    slope: float = 1.0
    intercept: float = 0.0
    gzip: GzipReader | None = None

    def __post_init__(self) -> None:
        check_numbers(self.dtype, "the image")
        check_shape(self.shape)
        end = self.offset + product(self.sizes) * self.dtype.itemsize
        if self.gzip is None and os.path.getsize(self.path) < end:
            raise Refused(f"is truncated: {os.path.getsize(self.path)} of {end} bytes; download it again")

    @property
    def shape(self) -> tuple[int, ...]:
        """Slices, rows, columns."""
        columns, rows = self.sizes[:2]
        return (product(self.sizes[2:]), *((columns, rows) if self.turn.transpose else (rows, columns)))

    def __call__(self, index: int) -> np.ndarray:
        columns, rows = self.sizes[:2]
        count = rows * columns * self.dtype.itemsize
        start = self.offset + index * count
        if self.gzip is not None:
            data = self.gzip.read(start, count)
        else:
            with open(self.path, "rb") as file:
                file.seek(start)
                data = file.read(count)
        if len(data) != count:
            raise Refused("ended early; the file is truncated or was changed")
        plane = np.frombuffer(data, self.dtype).reshape(rows, columns)
        if (self.slope, self.intercept) != (1.0, 0.0):
            plane = plane * np.float64(self.slope) + self.intercept
        return self.turn(plane)
