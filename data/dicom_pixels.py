"""The pixel data of one DICOM file, frame by frame: where they are, whether they are whole, what they decode to."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from .volume import LARGEST_SLICE, Refused

LARGEST_INFLATED = 1 << 30
LARGEST_PADDING = 1 << 16
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
DEFLATED = DeflatedExplicitVRLittleEndian.encode()
FLOATS = {0x7FE00008: "f4", 0x7FE00009: "f8"}
PIXEL_TAGS = (0x7FE00010, *FLOATS)
UNDEFINED = 0xFFFFFFFF
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


@dataclass(frozen=True)
class PixelData:
    """Stored values of a file's frames, before any rescaling.

    Attributes:
        deflated: whether the file is; it is then inflated for every frame.
        offset: where the value of the pixel element begins, in the file or in what it inflates to.
        syntax: transfer syntax, of the inflated data if deflated.
        kind: NumPy type of the stored values with byte order; "bits" where they are packed.
        swapped: 8-bit values stored as big-endian words.
    """

    path: str
    deflated: bool
    offset: int
    syntax: str
    frames: int
    rows: int
    columns: int
    kind: str
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    swapped: bool
    extended_offsets: tuple[bytes, bytes] | None

    @property
    def stored_range(self) -> tuple[int, int]:
        """Least and largest value that the stored bits can hold."""
        if self.signed:
            return -(1 << self.bits_stored - 1), (1 << self.bits_stored - 1) - 1
        return 0, (1 << self.bits_stored) - 1

    def frame(self, index: int) -> np.ndarray:
        """Frame ``index``, ``[rows, columns]``."""
        with _stream(self.path, self.deflated) as stream:
            values = self._native(stream, index) if self.syntax in NATIVE else self._decoded(stream, index)
        return values.reshape(self.rows, self.columns)

    def _native(self, stream: BinaryIO, index: int) -> np.ndarray:
        count = self.rows * self.columns
        first, last = (index * count * self.bits_allocated, (index + 1) * count * self.bits_allocated)
        start, end = first // 8, -(-last // 8)
        if self.swapped:
            start, end = start - start % 2, end + end % 2
        stream.seek(self.offset + start)
        data = stream.read(end - start)
        if len(data) != end - start:
            raise Refused(f"frame {index} ends early; the file was changed")
        if self.kind == "bits":
            return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first % 8 : first % 8 + count]
        if self.swapped:
            data = np.frombuffer(data, "u2").byteswap().tobytes()[first // 8 - start :][:count]
        values = np.frombuffer(data, self.kind)
        values = values.astype(values.dtype.newbyteorder("="))
        unused = self.bits_allocated - self.bits_stored
        return values << unused >> unused if unused else values  # overlays and rubbish may be in the unused bits

    def _decoded(self, stream: BinaryIO, index: int) -> np.ndarray:
        stream.seek(self.offset)
        frame = get_frame(stream, index, extended_offsets=self.extended_offsets, number_of_frames=self.frames)
        if self.syntax != RLELossless:
            check_codestream(frame, index, self.rows, self.columns, self.bits_allocated)
        # Only the library that was tested: another one may make something of what this one refuses.
        plugin = "pydicom" if self.syntax == RLELossless else "pylibjpeg"
        options: dict[str, Any] = {
            "rows": self.rows,
            "columns": self.columns,
            "number_of_frames": 1,
            "samples_per_pixel": 1,
            "bits_allocated": self.bits_allocated,
            "bits_stored": self.bits_stored,
            "pixel_representation": int(self.signed),
            "photometric_interpretation": self.photometric,
            "pixel_keyword": "PixelData",
        }
        decoder = get_decoder(UID(self.syntax))
        values, _ = decoder.as_array(encapsulate([frame]), index=0, decoding_plugin=plugin, **options)
        return values


def read_header(path: str) -> tuple[pydicom.FileDataset, PixelData | None]:
    """Everything before the pixel data, and the pixel data; None in files that have none.

    Raises:
        Refused: the pixel data cannot be what the header says, or are no greyscale images.
    """
    with open(path, "rb") as file:
        deflated = (
            DEFLATED in file.read(4096) and read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED.decode()
        )
    with _stream(path, deflated) as stream:
        header = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
        position = stream.tell()
        implicit, little = header.original_encoding
        stream.seek(position)
        prefix = stream.read(12)
        order = "little" if little else "big"
        tag = int.from_bytes(prefix[:2], order) << 16 | int.from_bytes(prefix[2:4], order)  # type: ignore[arg-type]
        if tag not in PIXEL_TAGS:
            return header, None
        field = prefix[4:8] if implicit else prefix[8:12]
        offset, length = position + (8 if implicit else 12), int.from_bytes(field, order)  # type: ignore[arg-type]
        pixels = _describe(path, deflated, header, tag, offset, b"" if implicit else prefix[4:6], bool(little))
        if pixels.syntax in NATIVE:
            _check_native(stream, pixels, length)
        else:
            _check_fragments(stream, pixels, length)
    return header, pixels


def _describe(
    path: str, deflated: bool, header: pydicom.FileDataset, tag: int, offset: int, representation: bytes, little: bool
) -> PixelData:
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    if not syntax:
        implicit = header.original_encoding[0]
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    if syntax not in NATIVE:
        try:
            get_decoder(UID(syntax))
        except NotImplementedError:
            raise Refused(
                f"is compressed as {UID(syntax).name}, for which there is no decoder; decompress it with DCMTK or GDCM"
            ) from None
    if int(header.get("SamplesPerPixel") or 1) != 1 or header.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise Refused(f"is a colour image ({header.get('PhotometricInterpretation')}), expected greyscale; convert it")
    missing = [k for k in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation") if not header.get(k)]
    if tag not in FLOATS:
        missing += [k for k in ("BitsStored", "PixelRepresentation") if header.get(k) is None]
    if missing:
        raise Refused(f"has pixel data but no {', '.join(missing)}; its header is damaged")
    photometric = str(header.PhotometricInterpretation)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Refused(f"is of kind {photometric}, expected MONOCHROME1 or MONOCHROME2; convert it to greyscale")

    rows, columns, frames = int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1)
    allocated = int(header.BitsAllocated)
    stored = allocated if tag in FLOATS else int(header.BitsStored)
    high = stored - 1 if header.get("HighBit") is None or tag in FLOATS else int(header.HighBit)
    if min(rows, columns, frames) < 1 or rows * columns > LARGEST_SLICE:
        raise Refused(f"claims {frames} frames of {rows} × {columns} pixels; its header is damaged")
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= allocated or high != stored - 1:
        raise Refused(f"stores {stored} of {allocated} bits up to bit {high}, which no scanner does and is not read")
    signed = tag not in FLOATS and bool(int(header.PixelRepresentation))
    if allocated == 1:
        kind = "bits"
    elif tag in FLOATS:
        kind = FLOATS[tag]
        if allocated != 8 * int(kind[1]):
            raise Refused(f"says that its {8 * int(kind[1])}-bit floats have {allocated} bits; its header is damaged")
    else:
        kind = f"{'i' if signed else 'u'}{allocated // 8}"
    table = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    return PixelData(
        path=path,
        deflated=deflated,
        offset=offset,
        syntax=syntax,
        frames=frames,
        rows=rows,
        columns=columns,
        kind=kind if kind == "bits" else ("<" if little else ">") + kind,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=signed,
        photometric=photometric,
        swapped=not little and allocated <= 8 and representation == b"OW",
        extended_offsets=(table[0], table[1]) if table[0] and table[1] else None,
    )


def _check_native(stream: BinaryIO, pixels: PixelData, length: int) -> None:
    expected = -(-pixels.frames * pixels.rows * pixels.columns * pixels.bits_allocated // 8)
    present = stream.seek(0, 2) - pixels.offset
    what = f"{pixels.frames} × {pixels.rows} × {pixels.columns} pixels of {pixels.bits_allocated} bits"
    if min(length, present) < expected or length == UNDEFINED:
        raise Refused(f"is truncated: {min(length, present)} of the {expected} bytes of {what}; get it again")
    stream.seek(pixels.offset + expected)
    excess = min(length, present) - expected
    # One byte makes the length even, some writers pad to whole blocks; anything else is image.
    if excess > 1 and (excess > LARGEST_PADDING or stream.read(excess).strip(b"\0")):
        raise Refused(f"has {length} bytes where {what} take {expected}; its header is damaged")


def _check_fragments(stream: BinaryIO, pixels: PixelData, length: int) -> None:
    """Walk the items of encapsulated pixel data by their lengths, to the delimiter that must end them."""
    if length != UNDEFINED:
        raise Refused("says that it is compressed, but its pixel data are not; its header is damaged")
    end = stream.seek(0, 2)
    position, items = pixels.offset, 0
    while True:
        stream.seek(position)
        head = stream.read(8)
        if head[:4] == DELIMITER and len(head) == 8:
            break
        if len(head) < 8 or position + 8 > end:
            raise Refused(f"is truncated after {max(items - 1, 0)} compressed fragments; get it again")
        if head[:4] != ITEM:
            raise Refused(f"has no fragment at byte {position}, where its pixel data go on; it is damaged")
        position += 8 + int.from_bytes(head[4:], "little")
        items += 1
    if items - 1 < pixels.frames:  # the first item is the table of offsets
        raise Refused(f"has {max(items - 1, 0)} compressed fragments for {pixels.frames} frames; it is damaged")


def check_codestream(frame: bytes, index: int, rows: int, columns: int, bits: int) -> None:
    """Refuse a JPEG, JPEG-LS or JPEG 2000 frame of another size than the header's, or without its end.

    Decoders would allocate whatever it claims, and make up what is missing.
    """
    start = frame.find(b"\xff\x4f\xff\x51") if not frame.startswith(b"\xff\xd8") else -1
    if start >= 0:  # JPEG 2000, SIZ segment (ISO 15444-1, A.5.1)
        width, height, left, top = (int.from_bytes(frame[start + i : start + i + 4], "big") for i in (8, 12, 16, 20))
        size, precision = (height - top, width - left), (frame[start + 42] & 0x7F) + 1 if len(frame) > start + 42 else 0
    else:
        size, precision = _jpeg_size(frame)
    if size != (rows, columns):
        raise Refused(f"frame {index} is compressed as {size[0]} × {size[1]}, the header says {rows} × {columns}")
    if not 1 <= precision <= bits:
        raise Refused(f"frame {index} is compressed with {precision} bits, the header says {bits}; it is damaged")
    if not frame.rstrip(b"\0\xff").endswith(b"\xff\xd9"):  # an even length is made with either
        raise Refused(f"frame {index} has no end; the file is truncated or damaged")


def _jpeg_size(frame: bytes) -> tuple[tuple[int, int], int]:
    position = 2
    while frame.startswith(b"\xff\xd8") and position + 9 < len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill
            position += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):  # a start of frame
            height, width = (int.from_bytes(frame[position + i : position + i + 2], "big") for i in (5, 7))
            return (height, width), frame[position + 4]
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    raise Refused("its compressed frames are neither JPEG nor JPEG 2000; the file is damaged")


def _stream(path: str, deflated: bool) -> Any:
    """The file, or for a deflated one its header and the inflated rest under an uncompressed syntax."""
    if not deflated:
        return open(path, "rb")
    with open(path, "rb") as file:
        data = file.read()
    meta = read_file_meta_info(path)
    start = 144 + int(meta.FileMetaInformationGroupLength)
    inflater = zlib.decompressobj(-15)
    inflated = inflater.decompress(data[start:], LARGEST_INFLATED)
    if not inflater.eof:
        raise Refused(f"its deflated data end early or exceed {LARGEST_INFLATED} bytes; get it again")
    # The same length of text, so that nothing moves: the syntax of the inflated data, padded.
    plain = ExplicitVRLittleEndian.encode().ljust(len(DEFLATED), b"\0")
    return BytesIO(data[:start].replace(DEFLATED, plain, 1) + inflated)
