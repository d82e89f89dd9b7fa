"""NRRD with its data attached, raw or gzipped."""

from __future__ import annotations

from typing import Any

import nrrd
import numpy as np

from .deflate import GzipReader
from .raster import Raster, upright
from .volume import Metadata, Refused, Volume, product

TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
MILLIMETRES = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001}
# Signs that bring a named patient space to left, posterior, superior.
SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}


def read_nrrd(path: str) -> Volume:
    """Slices along the third axis, turned upright; further axes give more slices."""
    with open(path, "rb") as file:
        header: dict[str, Any] = dict(nrrd.read_header(file))
        offset = file.tell()
    if "data file" in header or "datafile" in header:
        raise Refused("is a NRRD header whose image is in another file; convert the pair to one .nrrd file")
    for skip in ("line skip", "lineskip", "byte skip", "byteskip"):
        if int(header.get(skip, 0)) != 0:
            raise Refused(f"uses NRRD's {skip}, which is not read; save it again without")
    encoding = header.get("encoding")
    if encoding not in ("raw", "gzip", "gz"):
        raise Refused(f"is encoded as {encoding}, expected raw or gzip; save it again as one of them")
    if header.get("type") not in TYPES:
        raise Refused(f"has values of type {header.get('type')}, expected integers or floats")
    dtype = np.dtype(TYPES[header["type"]])
    if dtype.itemsize > 1:
        if (order := header.get("endian")) not in ("little", "big"):
            raise Refused(f"does not say its byte order (endian is {order!r})")
        dtype = dtype.newbyteorder("<" if order == "little" else ">")

    sizes = tuple(int(n) for n in header["sizes"])
    if len(sizes) != int(header["dimension"]) or len(sizes) < 2 or min(sizes) < 1:
        raise Refused(f"its header gives the sizes {sizes} in {header['dimension']} dimensions, which are no image")
    axes = _axes(header, len(sizes))
    kinds = [str(kind).lower() for kind in header.get("kinds", [])]
    if any(kind not in ("domain", "space", "time", "none", "???", "list", "point") for kind in kinds[:2]):
        raise Refused(f"its fastest axes are {kinds[:2]}, expected image axes; colours and vectors are not read")
    if np.isnan(axes[:2]).any() and not np.isnan(axes).all():
        raise Refused("its fastest axes are not in space; save it with the image axes first")
    sizes = sizes if len(sizes) > 2 else (*sizes, 1)

    named = SPACES.get(str(header.get("space", "")).lower())
    directions = np.nan_to_num(axes[:2]) * named if named and axes.shape[1] == 3 else np.zeros((2, 3))
    turn = upright(directions[0], directions[1])
    end = product(sizes) * dtype.itemsize
    gzip = None if encoding == "raw" else GzipReader(path, offset, end)
    raster = Raster(path, offset if gzip is None else 0, sizes, dtype, turn, gzip=gzip)
    columns, rows, slices = _spacing(header, axes)
    if turn.transpose:
        columns, rows = rows, columns
    spacing = (rows, columns) if rows and columns else None
    return Volume(raster.shape, Metadata(path, spacing, slices if sizes[2] > 1 else None), raster, dtype)


def _axes(header: dict[str, Any], dimension: int) -> np.ndarray:
    """One row per axis, its step in space; NaN for axes that are not in space."""
    directions = header.get("space directions")
    if directions is None:
        return np.full((dimension, 3), np.nan)
    rows = [np.full(3, np.nan) if row is None else np.asarray(row, float) for row in directions]
    if len(rows) != dimension or len({row.size for row in rows}) != 1:
        raise Refused(f"its header gives {len(rows)} space directions for {dimension} axes")
    return np.stack(rows)


def _spacing(header: dict[str, Any], axes: np.ndarray) -> list[float | None]:
    if not np.isnan(axes).all():
        steps = np.linalg.norm(axes, axis=1)
        units = {str(unit).strip('"').lower() for unit in header.get("space units", ["mm"])}
        unit = MILLIMETRES.get(units.pop(), 0.0) if len(units) == 1 else 0.0
    else:
        steps, unit = np.asarray(header.get("spacings", []), float), 1.0
    steps = np.append(steps, [0.0, 0.0, 0.0])[:3] * unit
    return [float(s) if np.isfinite(s) and s > 0 else None for s in np.abs(steps)]
