"""DICOM: a file, or a folder that holds a series."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit

from .dicom_pixels import PixelData, read_header
from .signatures import is_bare_dicom
from .volume import Metadata, Refused, Volume, by, reading

AIR = -1000.0  # HU
ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)  # the other syntaxes have a lossless mode
SERIES_TAGS = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Rows"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: its stored values, how they become what they mean, and where it lies.

    value = table[stored] where there is a modality LUT, else slope · stored + intercept; MONOCHROME1 is inverted
    within the range that the stored bits span, unless values are HU. Padding in HU becomes air.
    """

    pixels: PixelData
    index: int
    slope: float
    intercept: float
    table: np.ndarray | None
    padding: tuple[int, int] | None
    units: str | None
    spacing: tuple[float, float] | None
    normal: tuple[float, ...] | None
    position: float | None
    number: int | None

    def values(self) -> np.ndarray:
        stored = self.pixels.frame(self.index)
        low, high = self.pixels.stored_range
        ends = np.array([low, high], float)
        if self.table is not None:
            values = self.table[stored.astype(np.int64) - low]
            ends = self.table
        elif (self.slope, self.intercept) == (1.0, 0.0):
            values = stored
        else:
            values = stored * np.float64(self.slope) + self.intercept
            ends = ends * self.slope + self.intercept
        if self.pixels.photometric == "MONOCHROME1" and self.units != "HU" and stored.dtype.kind in "iu":
            values = ends.min() + ends.max() - values
        if self.padding is not None:
            values = np.where((stored >= self.padding[0]) & (stored <= self.padding[1]), AIR, values)
        return values


@dataclass(frozen=True, eq=False)
class DicomSlices:
    """Loads slice i, from its own file where the series has many."""

    frames: Sequence[Frame]

    def __call__(self, index: int) -> np.ndarray:
        frame = self.frames[index]
        with reading(frame.pixels.path):
            return frame.values()


def read_file(path: str, key: str | None) -> Volume:
    """All frames of a file, in order of position where that is known."""
    header, frames = _frames(path)
    series = str(header.get("SeriesInstanceUID", "")) or None
    if key is not None and key != series:
        raise Refused(f"belongs to series {series}, asked was {key!r}")
    return _volume(path, header, frames)


def read_series(path: str, key: str | None) -> Volume:
    """The series in a folder (not in folders below it), ordered by position along the slice normal.

    Files that are not DICOM, and whole DICOM files without images, are passed over; a damaged file of the series
    is an error, not a gap.
    """
    series: dict[str, list[str]] = {}
    described: dict[str, str] = {}
    seen: dict[str, str] = {}
    for file in sorted(entry.path for entry in os.scandir(path) if entry.is_file()):
        with reading(file):
            if not _is_dicom(file):
                continue
            head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(SERIES_TAGS), force=True)
            kind = UID(str(head.get("SOPClassUID") or head.file_meta.get("MediaStorageSOPClassUID", "")))
            if head.get("Rows") is None and kind and "Image" not in kind.name:
                continue
            uid = str(head.get("SeriesInstanceUID", ""))
            instance = str(head.get("SOPInstanceUID", "")) or file
            if instance in seen:
                raise Refused(f"is the same image as {seen[instance]}; remove one of them")
            seen[instance] = file
            series.setdefault(uid, []).append(file)
            described.setdefault(uid, str(head.get("SeriesDescription", "")))
    if not series:
        raise Refused("is a folder without DICOM images; give a file, or a folder with a DICOM series")
    lines = [f"{uid} ({len(files)} files, {described[uid] or 'no description'})" for uid, files in series.items()]
    listing = ", ".join(lines[:10]) + (f", and {len(lines) - 10} more" if len(lines) > 10 else "")
    if key is not None and key not in series:
        raise Refused(f"has no series {key!r}; it has {listing}")
    if key is None and len(series) > 1:
        raise Refused(f"holds {len(series)} series; choose one with key=: {listing}")

    frames: list[Frame] = []
    for file in series[key if key is not None else next(iter(series))]:
        with reading(file):
            header, some = _frames(file)
            frames += some
    return _volume(path, header, frames)


def _is_dicom(path: str) -> bool:
    with open(path, "rb") as file:
        head = file.read(132)
    return head[128:] == b"DICM" or is_bare_dicom(head)


def _volume(path: str, header: pydicom.Dataset, frames: list[Frame]) -> Volume:
    first = frames[0]
    shapes = {(f.pixels.rows, f.pixels.columns) for f in frames}
    if len(shapes) > 1:
        raise Refused(f"has slices of {' and '.join(by(s) for s in sorted(shapes))} pixels; separate them")
    if len({f.units for f in frames}) > 1:
        raise Refused("has slices in HU and slices that are not; separate them")
    spacings = np.array([f.spacing or (0.0, 0.0) for f in frames])
    if not np.allclose(spacings, spacings[0], rtol=1e-3):
        raise Refused("has slices of different pixel spacing; separate them")
    frames, slice_spacing = _ordered(frames)
    if slice_spacing is None and (gap := _positive(header.get("SpacingBetweenSlices"))) and _unplaced(frames):
        slice_spacing = gap
    lossy = str(header.get("LossyImageCompression", "")) == "01" or first.pixels.syntax in ALWAYS_LOSSY
    metadata = Metadata(
        path,
        spacing=first.spacing,
        slice_spacing=slice_spacing,
        modality=str(header.get("Modality") or "") or None,
        patient=str(header.get("PatientID") or "").strip() or None,
        series=str(header.get("SeriesInstanceUID") or "") or None,
        units=first.units,
        labels=("lossy compression",) if lossy else (),
    )
    return Volume((len(frames), *shapes.pop()), metadata, DicomSlices(tuple(frames)), np.dtype(np.float32))


def _unplaced(frames: list[Frame]) -> bool:
    return any(frame.position is None for frame in frames)


def _ordered(frames: list[Frame]) -> tuple[list[Frame], float | None]:
    """By position along the normal, else by instance number; and the spacing where it is even."""
    single = len({f.pixels.path for f in frames}) == 1
    if not _unplaced(frames):
        normals = np.array([f.normal for f in frames])
        if np.abs(normals @ normals[0]).min() > 0.999:
            # Along one normal for all: rounded orientations must not reorder thin slices.
            ordered = sorted(frames, key=lambda f: (round(f.position or 0.0, 3), f.number or 0, f.index))
            steps = np.diff([f.position or 0.0 for f in ordered])
            even = steps.size > 0 and steps.min() > 1e-3 and np.ptp(steps) < max(0.02 * steps.mean(), 2e-3)
            return ordered, float(np.median(steps)) if even else None
        if not single:
            raise Refused("has slices in several orientations (a localiser among them?); separate them")
    if not single:
        numbers = {(f.number, f.index) for f in frames}
        if len(numbers) < len(frames) or any(f.number is None for f in frames):
            raise Refused("has neither positions nor distinct instance numbers, so the slices' order is unknown")
        frames = sorted(frames, key=lambda f: (f.number or 0, f.index))
    return frames, None


def _frames(path: str) -> tuple[pydicom.FileDataset, list[Frame]]:
    header, pixels = read_header(path)
    if pixels is None:
        kind = UID(str(header.get("SOPClassUID", ""))).name
        raise Refused(f"has no pixel data ({kind or 'its kind is not given'}); it is truncated or not an image")
    shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    if per_frame and len(per_frame) != pixels.frames:
        raise Refused(f"describes {len(per_frame)} frames and has {pixels.frames}; its header is damaged")
    table = _table(header, pixels)
    frames = []
    for index in range(pixels.frames):
        groups = [per_frame[index], shared] if per_frame else [shared]
        frames.append(_frame(header, groups, pixels, index, table))
    offsets = header.get("GridFrameOffsetVector")  # RT dose
    if offsets is not None and len(offsets) == pixels.frames and frames[0].normal is not None:
        frames = [replace(f, position=float(offset)) for f, offset in zip(frames, offsets, strict=True)]
    elif not per_frame and pixels.frames > 1:  # the one position given is the first frame's
        frames = [replace(f, position=None) for f in frames]
    return header, frames


def _frame(
    header: pydicom.Dataset, groups: list[Any], pixels: PixelData, index: int, table: np.ndarray | None
) -> Frame:
    def find(sequence: str, keyword: str) -> Any:
        for group in groups:
            items = group.get(sequence)
            if items and items[0].get(keyword) not in (None, ""):
                return items[0].get(keyword)
        value = header.get(keyword)
        return None if value in (None, "") else value

    slope, intercept = (find("PixelValueTransformationSequence", f"Rescale{k}") for k in ("Slope", "Intercept"))
    rescaled = slope is not None and table is None
    kind = str(find("PixelValueTransformationSequence", "RescaleType") or "").strip()
    image_type = [str(part) for part in header.get("ImageType") or []]
    is_hu = (
        rescaled and "LOCALIZER" not in image_type and (kind == "HU" or (header.get("Modality") == "CT" and not kind))
    )
    scale = float(slope) if slope is not None else 1.0
    scale *= float(header.get("DoseGridScaling") or 1.0)
    shift = float(intercept) if intercept is not None else 0.0
    if not (np.isfinite(scale) and np.isfinite(shift)) or scale == 0:
        raise Refused(f"rescales by {scale} · value + {shift}, which cannot be meant; its header is damaged")

    spacing = _numbers(find("PixelMeasuresSequence", "PixelSpacing"), 2)
    axes = _numbers(find("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    place = _numbers(find("PlanePositionSequence", "ImagePositionPatient"), 3)
    normal = np.cross(axes[:3], axes[3:]) if axes is not None else np.zeros(3)
    known = bool(np.linalg.norm(normal) > 0.5)
    normal = normal / np.linalg.norm(normal) if known else normal
    number = header.get("InstanceNumber")
    return Frame(
        pixels,
        index,
        scale,
        shift,
        table,
        _padding(header, pixels) if is_hu else None,
        "HU" if is_hu else None,
        (float(spacing[0]), float(spacing[1])) if spacing is not None and spacing.min() > 0 else None,
        tuple(normal) if known else None,
        float(normal @ place) if known and place is not None else None,
        int(number) if number not in (None, "") else None,
    )


def _table(header: pydicom.Dataset, pixels: PixelData) -> np.ndarray | None:
    """The modality LUT for every value that can be stored."""
    if not header.get("ModalityLUTSequence"):
        return None
    if pixels.bits_stored > 16 or pixels.kind[-2] == "f":
        raise Refused(f"has a modality LUT for {pixels.bits_stored}-bit values, expected 16 bits at most")
    low, high = pixels.stored_range
    return np.asarray(apply_modality_lut(np.arange(low, high + 1, dtype=np.int32), header), np.float32)


def _padding(header: pydicom.Dataset, pixels: PixelData) -> tuple[int, int] | None:
    value = header.get("PixelPaddingValue")
    if value in (None, "") or isinstance(value, bytes):
        return None
    limit = header.get("PixelPaddingRangeLimit")
    ends = [int(value), int(limit) if limit not in (None, "") else int(value)]
    low = pixels.stored_range[0]
    span = 1 << pixels.bits_allocated
    floor = -(span >> 1) if low < 0 else 0  # writers confuse signed and unsigned
    low, high = sorted((end - floor) % span + floor for end in ends)
    return low, high


def _numbers(value: Any, count: int) -> np.ndarray | None:
    """``count`` finite numbers, or None where the element is absent, short or nonsense."""
    if value is None or not isinstance(value, Sequence | pydicom.multival.MultiValue) or len(value) != count:
        return None
    numbers = np.array([float(v) for v in value])
    return numbers if np.isfinite(numbers).all() else None


def _positive(value: Any) -> float | None:
    return float(value) if value not in (None, "") and float(value) > 0 else None
