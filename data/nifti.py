"""NIfTI-1 and NIfTI-2 in one file, plain or gzipped."""

from __future__ import annotations

import io

import nibabel
import numpy as np

from .deflate import GzipReader, inflate_start
from .raster import Raster, upright
from .volume import Metadata, Refused, Volume, product

HEADER = 540  # the longer, NIfTI-2's
MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}


def read_nifti(path: str, *, gzipped: bool) -> Volume:
    """Slices along the third axis, turned upright; further axes (time, channels) give more slices."""
    if gzipped:
        head = inflate_start(path, HEADER)
    else:
        with open(path, "rb") as file:
            head = file.read(HEADER)
    second = head[4:8] in (b"n+2\0", b"ni2\0")
    if (head[4:8] if second else head[344:348]).startswith(b"ni"):
        raise Refused("is a NIfTI header whose image is in another file; convert the pair to one .nii file")
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    header = kind.from_fileobj(io.BytesIO(head), check=False)
    if header["sizeof_hdr"] != kind.sizeof_hdr or not 1 <= header["dim"][0] <= 7:
        raise Refused("has a damaged NIfTI header")

    sizes = tuple(int(n) for n in header["dim"][1 : 1 + int(header["dim"][0])])
    sizes = (*sizes, 1, 1, 1)[: max(len(sizes), 3)]
    if min(sizes) < 1:
        raise Refused(f"its header gives the sizes {sizes}, which are no image")
    # nibabel knows codes without numpy types (RGB, 128-bit) as records or void, which Raster refuses.
    dtype = header.get_data_dtype()
    offset = float(header["vox_offset"])
    if not (np.isfinite(offset) and kind.sizeof_hdr <= offset < 2**40):
        raise Refused(f"its header places the image at byte {offset}")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not (np.isfinite(slope) and np.isfinite(intercept)):  # the standard's "not scaled"
        slope, intercept = 1.0, 0.0

    axes = np.asarray(header.get_best_affine(), float)[:3, :3] * [[-1], [-1], [1]]  # to left, posterior, superior
    if not np.isfinite(axes).all():
        axes = np.zeros((3, 3))
    # Without either transform the affine is nibabel's guess, and the plane stays as it is stored.
    known = header["qform_code"] > 0 or header["sform_code"] > 0
    turn = upright(axes[:, 0], axes[:, 1]) if known else upright(np.zeros(3), np.zeros(3))
    end = int(offset) + product(sizes) * dtype.itemsize
    raster = Raster(
        path, int(offset), sizes, dtype, turn, slope, intercept, GzipReader(path, 0, end) if gzipped else None
    )
    columns, rows, slices = _spacing(header)
    if turn.transpose:
        columns, rows = rows, columns
    return Volume(
        raster.shape,
        Metadata(path, (rows, columns) if rows and columns else None, slices if sizes[2] > 1 else None),
        raster,
        dtype,
    )


def _spacing(header: nibabel.Nifti1Header) -> list[float | None]:
    try:
        unit = MILLIMETRES.get(header.get_xyzt_units()[0])
    except KeyError:  # a code that the standard does not know
        unit = None
    zooms = [abs(float(z)) * (unit or 0.0) for z in header["pixdim"][1:4]]
    return [z if np.isfinite(z) and z > 0 else None for z in zooms]
