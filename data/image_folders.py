"""Datasets from folders of images: which files, whose they are, which slices."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .datasets import SPLITS, Dataset, Sample
from .image_grids import Attenuation, Grid, Image, Scaled
from .raw_kspace import RawKspace
from .read import read
from .splits import evenly
from .volume import Volume


@dataclass(frozen=True)
class Slices:
    """Which slices of a volume. Fractions of its length, so that volumes of any length give the same region.

    Args:
        start, stop: the range, from 0 to 1.
        step: every n-th, from the first of the range.
        minimum_content: least fraction of pixels above ``threshold`` times the data range.
        threshold: see above.
    """

    start: float = 0.0
    stop: float = 1.0
    step: int = 1
    minimum_content: float = 0.0
    threshold: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.start < self.stop <= 1 and self.step >= 1 and 0 <= self.minimum_content <= 1):
            raise ValueError(
                f"slices from {self.start} to {self.stop}, every {self.step}, content {self.minimum_content}; "
                "expected 0 ≤ start < stop ≤ 1, a step of at least 1 and a content from 0 to 1"
            )

    def candidates(self, count: int) -> range:
        """Slice numbers in the range; a single slice is always in it."""
        first, last = int(self.start * count), max(int(np.ceil(self.stop * count)), 1)
        return range(min(first, count - 1), last, self.step)


@dataclass(frozen=True)
class Patients:
    """Whose image a file is: the first group of ``pattern`` in its relative path, or what its header says.

    Args:
        pattern: regular expression; each file is its own patient where it is None.
        header: take the patient's identity that the reader found (DICOM, fastMRI).
    """

    pattern: str | None = None
    header: bool = False

    def __post_init__(self) -> None:
        if self.pattern is not None and re.compile(self.pattern).groups < 1:
            raise ValueError(f"the pattern {self.pattern!r} has no group; put the patient in brackets: 'patient(\\d+)'")

    def of(self, file: Path, root: Path) -> str:
        relative = file.relative_to(root).as_posix()
        if self.header:
            patient = _open(file).metadata.patient
            if not patient:
                raise ValueError(f"{relative}: its header names no patient; give a pattern on the file's name")
            return patient
        if self.pattern is None:
            return relative
        found = re.search(self.pattern, relative)
        if found is None or not found.group(1):
            raise ValueError(f"{relative} does not match the patient pattern {self.pattern!r}")
        return found.group(1)


def find_files(root: Path, patterns: Sequence[str]) -> list[Path]:
    """Files below ``root`` that match one of the patterns, in natural order (2 before 10).

    A pattern that ends in ``/`` matches folders, each of them one volume (a DICOM series).

    Raises:
        ValueError: no such folder, or a pattern without a match.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    found: dict[Path, None] = {}
    for pattern in patterns:
        folders = pattern.endswith("/")
        matches = [p for p in root.glob(pattern) if (p.is_dir() if folders else p.is_file())]
        if not matches:
            what = "is empty" if not any(root.iterdir()) else f"has nothing that matches {pattern!r}"
            raise ValueError(f"the folder {root} {what}")
        found.update(dict.fromkeys(matches))
    return sorted(found, key=lambda path: _natural(path.relative_to(root).as_posix()))


def fingerprint(root: Path, files: Sequence[Path]) -> str:
    """SHA-256 of names, sizes and contents of the files."""
    digest = hashlib.sha256()
    for path in files:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while block := stream.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def image_folder(
    name: str,
    root: Path,
    files: Mapping[str, Sequence[Path]] | Sequence[Path],
    grid: Grid,
    intensity: Attenuation | Scaled,
    *,
    patients: Patients = Patients(),
    assign: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
    slices: Slices = Slices(),
    limit: Mapping[str, int | None] | None = None,
    labels: Sequence[str] = (),
    kspace: RawKspace | None = None,
) -> Dataset:
    """A dataset of the slices of files in a folder.

    Scales and contents are found here, once, and kept with the samples; images are read when they are asked for.

    Args:
        name: of the dataset.
        root: folder that ids are relative to.
        files: below ``root``; by split, or all together with ``assign``.
        grid, intensity, patients, slices: see there.
        assign: patients → split of each; see :mod:`isocenter.data.splits`.
        limit: at most so many images of a split, evenly spread.
        labels: more of what a reader of results must know.
        kspace: files hold raw k-space, and images are complex.

    Raises:
        ValueError: a file that cannot be read, a patient in two splits, or a split without a slice.
    """
    if isinstance(files, Mapping):
        by_split = {split: list(files.get(split, ())) for split in SPLITS}
        whose = {file: patients.of(file, root) for split in SPLITS for file in by_split[split]}
    else:
        whose = {file: patients.of(file, root) for file in files}
        if assign is None:
            raise ValueError("files of all splits are given together; say how patients are split")
        split_of = assign(list(whose.values()))
        by_split = {split: [file for file in files if split_of.get(whose[file]) == split] for split in SPLITS}

    splits: dict[str, tuple[Sample, ...]] = {}
    notes: dict[str, None] = {}
    for split in SPLITS:
        samples: list[Sample] = []
        for file in by_split[split]:
            volume = _open(file, kspace)
            notes.update(dict.fromkeys(volume.metadata.labels))
            samples += _samples(file, root, volume, whose[file], grid, intensity, slices, kspace)
        if by_split[split] and not samples:
            raise ValueError(
                f"no slice of the {len(by_split[split])} files for {split} is left; relax the range or the content"
            )
        splits[split] = tuple(samples[i] for i in evenly(len(samples), (limit or {}).get(split)))
    return Dataset(
        name=name,
        shape=(grid.size, grid.size),
        oversampling=grid.oversampling,
        pixel_size=grid.pixel_size,
        data_range=intensity.data_range,
        units=intensity.units,
        display=intensity.window,
        labels=(*labels, *(kspace.labels if kspace else ()), *grid.labels, *intensity.labels, *notes),
        splits=splits,
        channels=2 if kspace else 1,
        water=intensity.water if isinstance(intensity, Attenuation) else None,
    )


def _samples(
    file: Path,
    root: Path,
    volume: Volume,
    patient: str,
    grid: Grid,
    intensity: Attenuation | Scaled,
    slices: Slices,
    kspace: RawKspace | None,
) -> list[Sample]:
    if len(volume.shape) != 3:
        raise ValueError(f"{file}: slices have {len(volume.shape) - 1} axes, expected images of two")
    scale, kept = _scale_and_slices(file, _version(file), intensity, slices, kspace)
    relative = file.relative_to(root).as_posix()
    return [
        Sample(
            relative if len(volume) == 1 else f"{relative}:{i}", patient, _Load(file, i, scale, grid, intensity, kspace)
        )
        for i in kept
    ]


@lru_cache(maxsize=4096)
def _scale_and_slices(
    file: Path, version: object, intensity: Attenuation | Scaled, slices: Slices, kspace: RawKspace | None
) -> tuple[float, tuple[int, ...]]:
    """What a file's values are divided by, and its slices with enough content.

    Kept, since this reads whole volumes, and the datasets of a sweep share them.
    """
    volume = _open(file, kspace)
    scale = intensity.scale(volume)

    def has_content(i: int) -> bool:
        content = intensity.convert(_real(volume.slice(i)) / scale) > slices.threshold * intensity.data_range
        return bool(content.mean() >= slices.minimum_content)

    candidates = slices.candidates(len(volume))
    return scale, tuple(filter(has_content, candidates) if slices.minimum_content else candidates)


@dataclass(frozen=True)
class _Load:
    """Reads one slice; a value, so that samples can be sent to another process."""

    file: Path
    index: int
    scale: float
    grid: Grid
    intensity: Attenuation | Scaled
    kspace: RawKspace | None

    def __call__(self) -> Image:
        volume = _open(self.file, self.kspace)
        image = volume.slice(self.index)
        if self.kspace is None:
            image = _real(image)
        values = self.intensity.convert(image / self.scale).astype(image.dtype)
        try:
            return self.grid.place(values, volume.metadata.spacing)
        except ValueError as error:
            raise ValueError(f"{self.file}: {error}") from error


def _open(file: Path, kspace: RawKspace | None = None) -> Volume:
    return _open_version(file, _version(file), kspace)


@lru_cache(maxsize=4)
def _open_version(file: Path, version: object, kspace: RawKspace | None) -> Volume:
    """The volume of a file; a few stay open, since neighbouring slices are asked for one after the other."""
    return read(file) if kspace is None else kspace.open(file)


def _version(file: Path) -> tuple[int, int] | None:
    """Changes when a file is written again; None where it is not there, which readers report."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _real(image: np.ndarray) -> Image:
    return np.abs(image) if np.iscomplexobj(image) else image


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Sort key in which numbers compare as numbers."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", text)]
