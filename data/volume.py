"""What a reader returns, and the one error that a file can end in."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

# What these libraries log about odd files would break into the one line that users are promised.
for _library in ("tifffile", "nibabel", "pydicom", "PIL"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

LARGEST_SLICE = 2**27
"""Values in one slice. A header that claims more is taken for damaged, before anything is allocated."""

DEFLATE_RATIO = 1032
"""No deflate stream expands by more (258 bytes from two bits), so file sizes bound what a header may promise."""


class ReadError(ValueError):
    """A file cannot be read. One line: the file, the reason, what to do."""


class Refused(Exception):
    """The reason alone, raised inside a reader; :func:`reading` adds the file and makes it a :class:`ReadError`."""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its images; None where it says nothing.

    Attributes:
        path: the file or folder.
        spacing: distance between rows and between columns in mm.
        slice_spacing: distance between neighbouring slices in mm, None where they are not equally spaced.
        modality: DICOM's code, ``"CT"``, ``"MR"``, …
        patient: DICOM PatientID, or fastMRI's.
        series: DICOM SeriesInstanceUID.
        units: ``"HU"`` where values are Hounsfield units.
        labels: ``"lossy compression"`` where the file says, or its format implies, that values were changed.
    """

    path: str
    spacing: tuple[float, float] | None = None
    slice_spacing: float | None = None
    modality: str | None = None
    patient: str | None = None
    series: str | None = None
    units: str | None = None
    labels: tuple[str, ...] = ()


class Volume:
    """A lazy stack of slices. Nothing but the header is read before :meth:`slice`, and no file stays open, so
    volumes can be forked and pickled.

    Slices are float32 ``[H, W]``, complex64 where the file holds complex numbers, and ``[coils, H, W]`` (or more
    leading axes) where a slice has more than two axes. Values wider than float32 are rounded; NaN and infinity are
    passed on as they are.

    Args:
        shape: slices first.
        metadata: see :class:`Metadata`.
        load: reads slice i in the file's own number type; must pickle.
        dtype: number type in the file, from which real or complex is taken.
    """

    def __init__(
        self, shape: tuple[int, ...], metadata: Metadata, load: Callable[[int], np.ndarray], dtype: np.dtype
    ) -> None:
        self.shape = tuple(int(n) for n in shape)
        check_shape(self.shape)
        self.metadata = metadata
        self.dtype = np.dtype(np.complex64 if dtype.kind == "c" else np.float32)
        self._load = load

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.slice(i) for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Volume({' × '.join(map(str, self.shape))} {self.dtype}, {self.metadata.path})"

    def slice(self, index: int) -> np.ndarray:
        """Slice ``index``, 0 ≤ index < len.

        Raises:
            ReadError: the file is damaged, or changed since it was opened.
            IndexError: there is no such slice.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.metadata.path}: slice {index} of {len(self)}; slices count from 0")
        with reading(self.metadata.path):
            values = self._load(index)
            if values.shape != self.shape[1:]:
                raise Refused(f"slice {index} is {by(values.shape)}, the header says {by(self.shape[1:])}")
            with np.errstate(over="ignore"):
                return np.ascontiguousarray(values, self.dtype)


@contextlib.contextmanager
def reading(path: str | PathLike[str]) -> Iterator[None]:
    """Let nothing but a :class:`ReadError` that names ``path`` out of the block."""
    name = fspath(path)
    try:
        with warnings.catch_warnings():  # libraries warn about files that are odd but readable
            warnings.simplefilter("ignore")
            yield
    except ReadError:
        raise
    except Refused as error:
        raise ReadError(f"{name}: {_one_line(error)}") from None
    except FileNotFoundError:
        raise ReadError(f"{name}: there is no such file; check the path") from None
    except PermissionError:
        raise ReadError(f"{name}: no permission to read it; check its access rights") from None
    except MemoryError:
        raise ReadError(f"{name}: does not fit into memory; is its header damaged?") from None
    except Exception as error:  # whatever a library meets in a damaged file
        reason = _one_line(f"{type(error).__name__}: {error}")[:300]
        raise ReadError(f"{name}: cannot be decoded; is the file complete? ({reason})") from error


def _one_line(message: object) -> str:
    """Without line breaks and control characters, which names out of a damaged file may hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(message)).split())[:2000]


def by(shape: tuple[int, ...]) -> str:
    """A shape in words, ``256 × 256``."""
    return " × ".join(map(str, shape)) or "a single number"


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse stacks without slices, slices without pixels, and slices beyond :data:`LARGEST_SLICE`."""
    if len(shape) < 3 or min(shape) < 1:
        raise Refused(f"holds {by(shape)} values, expected slices of at least one pixel")
    if (count := product(shape[1:])) > LARGEST_SLICE:
        raise Refused(
            f"claims slices of {by(shape[1:])} = {count} values, more than the {LARGEST_SLICE} that are read; "
            "is its header damaged?"
        )


def product(shape: tuple[int, ...]) -> int:
    """Number of values, in Python's unbounded integers: headers may claim anything."""
    count = 1
    for n in shape:
        count *= int(n)
    return count


def check_numbers(dtype: np.dtype, what: str) -> None:
    """Refuse number types that are not real or complex numbers, pickled objects above all."""
    if dtype.kind not in "biufc":
        raise Refused(f"{what} holds {dtype}, expected real or complex numbers; save it as a plain array")


def choose(arrays: Mapping[str, tuple[int, ...]], key: str | None) -> str:
    """The array called ``key``, or the only one that can be an image: two axes longer than 1."""
    listing = ", ".join(f"{name} ({by(shape)})" for name, shape in list(arrays.items())[:20])
    if len(arrays) > 20:
        listing += f", and {len(arrays) - 20} more"
    if key is not None:
        name = key.strip("/")
        if name not in arrays:
            raise Refused(f"has no numeric array {key!r}; it has {listing or 'none'}")
        if len(arrays[name]) < 2:
            raise Refused(f"{name} is {by(arrays[name])}, expected two axes or more; choose another key: {listing}")
        return name
    images = [name for name, shape in arrays.items() if sum(n > 1 for n in shape) >= 2]
    if not images:
        raise Refused(f"has no numeric array with two axes or more; it has {listing or 'none'}")
    if len(images) > 1:
        raise Refused(f"has several arrays; choose one with key=: {listing}")
    return images[0]


def stack_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Slices first: a single image becomes a stack of one."""
    return (1, *shape) if len(shape) == 2 else shape


class KeptSlices:
    """Slices of an array that its format gives only whole: read once by ``load(path, name)``, kept in this process."""

    def __init__(self, load: Callable[[str, str], np.ndarray], path: str, name: str) -> None:
        self.load, self.path, self.name = load, path, name
        self._values: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": None}

    def __call__(self, index: int) -> np.ndarray:
        return self.stack()[index]

    def stack(self) -> np.ndarray:
        if self._values is None:
            self._values = self.load(self.path, self.name)
        return self._values
