"""Greyscale PNG, TIFF and JPEG, values as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import tifffile
from PIL import Image

from .volume import LARGEST_SLICE, Metadata, Refused, Volume, by, check_numbers, product

# Pillow's modes whose arrays are what the file holds.
EXACT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
# TIFF compressions that tifffile decodes by itself: none, deflate (two codes), packbits. Pillow knows the others.
TIFFFILE_CODECS = {1, 8, 32946, 32773}
TIFF_LOSSY = {6, 7, 33003, 33005, 34712, 34892}  # JPEG, old and new, JPEG 2000, lossy DNG
LOSSY = ("lossy compression",)


def read_png(path: str) -> Volume:
    """One slice, 1-, 8- or 16-bit grey; colour only where all channels are equal and nothing is transparent."""
    with open(path, "rb") as file:
        head = file.read(26)
    if len(head) < 26:
        raise Refused("is truncated; download it again")
    depth, colour = head[24], head[25]
    if depth == 16 and colour != 0:
        raise Refused("is a 16-bit PNG with colour or transparency; save it as 16-bit grey")
    with Image.open(path, formats=["PNG"]) as image:
        image.verify()  # checksums of every chunk, which decoding alone would skip
    return _single(path, "PNG", ())


def read_jpeg(path: str) -> Volume:
    """One slice, 8-bit grey, or colour with equal channels; labelled lossy."""
    return _single(path, "JPEG", LOSSY)


def _single(path: str, kind: str, labels: tuple[str, ...]) -> Volume:
    load = PictureSlices(path, kind)
    values = load(0)  # pictures are small, and whether one is grey shows only in its pixels
    return Volume((1, *values.shape), Metadata(path, labels=labels), load, values.dtype)


@dataclass(frozen=True)
class PictureSlices:
    """Loads frame i through Pillow."""

    path: str
    kind: str

    def __call__(self, index: int) -> np.ndarray:
        with Image.open(self.path, formats=[self.kind]) as image:
            image.seek(index)
            if product(image.size) > LARGEST_SLICE:
                raise Refused(f"claims {by(image.size)} pixels, more than are read; is its header damaged?")
            if image.mode not in EXACT_MODES:
                raise Refused(f"is a {image.mode} image, expected grey; convert it")
            if image.mode in ("P", "PA") or "transparency" in image.info:
                return grey(np.asarray(image.convert("RGBA")))
            return grey(np.asarray(image))


def grey(values: np.ndarray) -> np.ndarray:
    """[H, W] of a grey picture; [H, W, channels] only where every pixel is grey and opaque."""
    if values.ndim == 2:
        return values
    channels = values.shape[-1]
    if channels in (2, 4):
        opaque = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        if not np.all(values[..., -1] == opaque):
            raise Refused("has transparent pixels; save it without transparency")
        values = values[..., :-1]
    if values.shape[-1] not in (1, 3) or not np.all(values == values[..., :1]):
        raise Refused("is a colour picture, expected grey; convert it if its colours mean nothing")
    return values[..., 0]


def read_tiff(path: str) -> Volume:
    """Every page a slice, all of one size; integers and floats, MinIsWhite inverted."""
    with tifffile.TiffFile(path) as file:
        count = _count_pages(path)
        if len(file.pages) != count:
            raise Refused(f"has {count} pages of which {len(file.pages)} can be read; the file is damaged")
        if int((file.imagej_metadata or {}).get("images", count)) > count:
            raise Refused("is an ImageJ stack with one page entry for many slices; save it as an ordinary TIFF")
        first = _page(file, 0)
        shape, dtype, codec = (count, first.imagelength, first.imagewidth), np.dtype(first.dtype), first.compression
    volume = Volume(shape, Metadata(path, labels=LOSSY if codec in TIFF_LOSSY else ()), TiffSlices(path), dtype)
    volume.slice(0)  # whether one is grey shows only in its pixels
    return volume


def _count_pages(path: str) -> int:
    """Follow the chain of directories to its end; tifffile only logs where one breaks off, and leaves pages out."""
    with open(path, "rb") as file:
        head = file.read(16)
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        big = head[2:4] in (b"+\0", b"\0+")
        counter, entry, pointer = (8, 20, 8) if big else (2, 12, 4)
        start = head[8:16] if big else head[4:8]
        seen: set[int] = set()
        while offset := int.from_bytes(start, order):
            if offset in seen:
                raise Refused("its pages form a circle; the file is damaged")
            seen.add(offset)
            file.seek(offset)
            entries = int.from_bytes(file.read(counter), order)
            file.seek(offset + counter + entries * entry)
            start = file.read(pointer)
            if len(start) < pointer:
                raise Refused(f"is truncated: page {len(seen) - 1} has no end; get it again")
    return len(seen)


def _page(file: tifffile.TiffFile, index: int) -> tifffile.TiffPage:
    """Page ``index``, after arithmetic: a size that can be, and every strip or tile inside the file."""
    page = file.pages[index]
    if isinstance(page, tifffile.TiffFrame):
        page = page.aspage()
    if page.dtype is None or page.imagedepth != 1:
        raise Refused(
            f"page {index} has {page.bitspersample}-bit samples in {page.imagedepth} planes, expected one image"
        )
    check_numbers(np.dtype(page.dtype), f"page {index}")
    if product(page.shape) > LARGEST_SLICE:
        raise Refused(f"page {index} claims {by(page.shape)} values, more than are read; is its header damaged?")
    if page.photometric not in (0, 1, 2):
        raise Refused(f"page {index} has colours of kind {page.photometric!s}, expected grey; convert it")
    offsets, sizes = page.dataoffsets, page.databytecounts
    if not len(offsets) == len(sizes) == product(page.chunked) or not all(offsets) or not all(sizes):
        raise Refused(f"page {index} has {len(sizes)} of {product(page.chunked)} strips or tiles; the file is damaged")
    end = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
    if end > file.filehandle.size:
        raise Refused(f"is truncated: page {index} ends at byte {end} of {file.filehandle.size}; download it again")
    if page.compression == 1 and sum(sizes) * 8 < product(page.shape) * page.bitspersample:
        raise Refused(f"page {index} has {sum(sizes)} bytes for {by(page.shape)} values; the file is damaged")
    return page


@dataclass(frozen=True)
class TiffSlices:
    """Loads page i."""

    path: str

    def __call__(self, index: int) -> np.ndarray:
        with tifffile.TiffFile(self.path) as file:
            page = _page(file, index)
            if page.compression not in TIFFFILE_CODECS:
                return PictureSlices(self.path, "TIFF")(index)  # which also inverts MinIsWhite
            values = page.asarray()
            if page.samplesperpixel > 1 and page.planarconfig == 2:  # channels first
                values = np.moveaxis(values, 0, -1)
            values = grey(values)
            inverted = page.photometric == 0 and values.dtype.kind in "bu"
            return 2**page.bitspersample - 1 - values.astype(np.int64) if inverted else values
