"""MATLAB's version 5 format: full numeric arrays, alone or in structs.

SciPy reads more kinds of variables, but crashes the process on some damaged files, which a reader must not.
Layout: "MAT-File Format" (MathWorks, R2023a), chapter 1. A file is a 128-byte header and elements of type, size
and body; a matrix is an element whose body holds elements.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .volume import DEFLATE_RATIO, Refused, product

HEADER = 128
LARGEST_VARIABLE = 1 << 32
PREVIEW = 1 << 12  # inflated bytes that hold a matrix's flags, dimensions and name
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, COMPRESSED = 14, 15
STRUCT, NUMERIC = 2, range(6, 16)
IS_COMPLEX = 0x0800
Order = Literal["little", "big"]


@dataclass(frozen=True)
class _Matrix:
    """The start of a matrix, and where its content goes on in ``body``."""

    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str
    body: bytes
    at: int
    order: Order


def list_arrays(path: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the numeric arrays, by name, a struct's fields as ``struct/field``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for offset, size, packed, order in _top_level(path):
        matrix = _matrix(_body(path, offset, size, packed, PREVIEW if packed else min(size, PREVIEW)), order)
        if matrix.kind == STRUCT:
            matrix = _matrix(_body(path, offset, size, packed), order)
        elif matrix.kind in NUMERIC and product(matrix.shape) > size * (DEFLATE_RATIO if packed else 1):
            raise Refused(f"{matrix.name} claims {product(matrix.shape)} values in {size} bytes; the file is damaged")
        shapes.update({name: found.shape for name, found in _numeric(matrix, matrix.name)})
    return shapes


def load_array(path: str, wanted: str) -> np.ndarray:
    """The array with this name in :func:`list_arrays`, its axes as MATLAB counts them."""
    for offset, size, packed, order in _top_level(path):
        matrix = _matrix(_body(path, offset, size, packed, PREVIEW if packed else min(size, PREVIEW)), order)
        if wanted.partition("/")[0] == matrix.name:
            matrix = _matrix(_body(path, offset, size, packed), order)
            for name, found in _numeric(matrix, matrix.name):
                if name == wanted:
                    return _values(found)
    raise Refused(f"has no array {wanted!r} any more; the file was changed")


def _top_level(path: str) -> Iterator[tuple[int, int, bool, Order]]:
    """Offset and size of every variable's body, and whether it is compressed."""
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        head = file.read(HEADER)
        if head[126:128] not in (b"IM", b"MI"):
            raise Refused("has a damaged MATLAB header; save it again")
        order: Order = "little" if head[126:128] == b"IM" else "big"
        position = HEADER
        while position < end:
            file.seek(position)
            tag = file.read(8)
            kind, size = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)
            if len(tag) < 8 or position + 8 + size > end:
                raise Refused(f"is truncated: a variable ends at byte {position + 8 + size} of {end}; get it again")
            if kind not in (MATRIX, COMPRESSED):
                raise Refused(f"has an element of unknown type {kind} at byte {position}; the file is damaged")
            yield position + 8, size, kind == COMPRESSED, order
            position += 8 + size


def _body(path: str, offset: int, size: int, packed: bool, count: int | None = None) -> bytes:
    """The body of a variable's matrix element, its first ``count`` bytes if given."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(size if count is None or packed else count)
    if not packed:
        return data
    inflater = zlib.decompressobj()
    data = inflater.decompress(data, LARGEST_VARIABLE if count is None else count)
    if count is None and not inflater.eof:
        raise Refused("has a compressed variable that ends early or is too large; get it again, or save it as 7.3")
    return data[8:]  # after the tag of the matrix


def _element(body: bytes, at: int, order: Order) -> tuple[int, bytes, int]:
    """Type, content and end of the element at ``at``."""
    tag = body[at : at + 8]
    if len(tag) < 8:
        raise Refused("has a variable that ends inside an element; the file is damaged")
    kind, size = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)
    if kind >> 16:  # a small element, up to four bytes within the tag
        kind, size, content, end = kind & 0xFFFF, kind >> 16, tag[4 : 4 + (kind >> 16)], at + 8
    else:
        content, end = body[at + 8 : at + 8 + size], at + 8 + size + -size % 8
    if len(content) != size:
        raise Refused(f"has an element of {size} bytes of which {len(content)} are there; the file is damaged")
    return kind, content, end


def _matrix(body: bytes, order: Order) -> _Matrix:
    if not body:  # an empty field
        return _Matrix(0, False, (0, 0), "", body, 0, order)
    _, flags, at = _element(body, 0, order)
    _, dimensions, at = _element(body, at, order)
    _, name, at = _element(body, at, order)
    bits = int.from_bytes(flags[:4], order)
    shape = tuple(int(n) for n in np.frombuffer(dimensions, _type(5, order)))
    if len(flags) != 8 or len(shape) < 2 or min(shape) < 0:
        raise Refused(f"has a variable with the sizes {shape}; the file is damaged")
    text = name.decode("latin-1")
    return _Matrix(bits & 0xFF, bool(bits & IS_COMPLEX), shape, text, body, at, order)


def _numeric(matrix: _Matrix, path: str, depth: int = 0) -> Iterator[tuple[str, _Matrix]]:
    """The matrix itself if it holds numbers, or those in its fields; struct arrays, cells and objects are left out."""
    if matrix.kind in NUMERIC and path:
        yield path, matrix
    elif matrix.kind == STRUCT and matrix.shape == (1, 1) and depth < 16:
        _, width, at = _element(matrix.body, matrix.at, matrix.order)
        _, names, at = _element(matrix.body, at, matrix.order)
        step = int.from_bytes(width[:4], matrix.order)
        if not 1 <= step <= 256:
            raise Refused(f"has a struct with field names of {step} characters; the file is damaged")
        for start in range(0, len(names), step):
            field = names[start : start + step].partition(b"\0")[0].decode("latin-1")
            kind, content, at = _element(matrix.body, at, matrix.order)
            if kind != MATRIX:
                raise Refused(f"has a field {field!r} that is no matrix; the file is damaged")
            yield from _numeric(_matrix(content, matrix.order), f"{path}/{field}", depth + 1)


def _values(matrix: _Matrix) -> np.ndarray:
    parts = []
    at = matrix.at
    for _ in range(2 if matrix.is_complex else 1):
        kind, content, at = _element(matrix.body, at, matrix.order)
        dtype = _type(kind, matrix.order)
        if len(content) != product(matrix.shape) * dtype.itemsize:
            raise Refused(f"has {len(content)} bytes for {matrix.shape} values of {dtype}; the file is damaged")
        parts.append(np.frombuffer(content, dtype).reshape(matrix.shape, order="F"))
    return parts[0] + 1j * parts[1] if matrix.is_complex else parts[0]


def _type(code: int, order: Order) -> np.dtype:
    if code not in TYPES:
        raise Refused(f"has values of unknown type {code}; the file is damaged")
    return np.dtype(TYPES[code]).newbyteorder("<" if order == "little" else ">")
