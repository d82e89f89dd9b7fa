"""ASTRA's projection matrices, built once and kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import astra
import numpy as np
import pooch
from scipy import sparse

from .geometry import FanBeam, Geometry

logger = logging.getLogger(__name__)

VIEWS_AT_ONCE = 16  # ASTRA returns float64 values; building by blocks bounds what is held of them
FORMAT = "1"  # of the cached files; part of their names


def astra_volume(image_shape: tuple[int, int], pixel_size: float) -> dict[str, Any]:
    """ASTRA's volume geometry for a grid centred on the rotation axis."""
    height, width = image_shape[0] * pixel_size, image_shape[1] * pixel_size
    return astra.create_vol_geom(*image_shape, -width / 2, width / 2, -height / 2, height / 2)


def astra_projections(geometry: Geometry, chosen: Sequence[int]) -> dict[str, Any]:
    """ASTRA's projection geometry for some of the views."""
    angles = np.asarray(geometry.angles)[list(chosen)]
    if isinstance(geometry, FanBeam):
        distances = (geometry.source_axis, geometry.source_detector - geometry.source_axis)
        scan = astra.create_proj_geom("fanflat", geometry.spacing, geometry.detectors, angles, *distances)
        centre = slice(2, 4)
    else:
        scan = astra.create_proj_geom("parallel", geometry.spacing, geometry.detectors, angles)
        centre = slice(2, 4)
    if geometry.offset:
        scan = astra.geom_2vec(scan)
        along = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        scan["Vectors"][:, centre] -= geometry.offset * along
    return scan


def astra_kernel(geometry: Geometry, kernel: str) -> str:
    """ASTRA's name of a kernel, or a ValueError where it has none for the geometry."""
    if kernel not in ("linear", "line", "strip"):
        raise ValueError(f"Radon: kernel is {kernel!r}, expected 'linear', 'line' or 'strip'")
    if not isinstance(geometry, FanBeam):
        return kernel
    if kernel == "linear":
        raise ValueError("Radon: there is no 'linear' kernel for fan beams; use 'line', or 'strip'")
    if kernel == "strip" and geometry.offset:
        raise ValueError("Radon: the 'strip' kernel for fan beams takes no offset of the rotation axis; use 'line'")
    return f"{kernel}_fanflat"


def projection_matrix(
    geometry: Geometry, image_shape: tuple[int, int], pixel_size: float, kernel: str, chosen: Sequence[int]
) -> sparse.csr_matrix:
    """The rows (view, detector) × columns (pixel, row by row) of some views, float32, from disk where it is kept.

    The file's name is a hash of everything it depends on. It is written whole or not at all, and one that does not
    read back (the archive has checksums) is built again.
    """
    shape = (len(chosen) * geometry.detectors, image_shape[0] * image_shape[1])
    path = _cache_folder() / f"{_key(geometry, image_shape, pixel_size, kernel, chosen)}.npz"
    if path.is_file():
        try:
            with np.load(path) as stored:
                parts = (stored["data"], stored["indices"], stored["indptr"])
            return sparse.csr_matrix(parts, shape=shape)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("projection matrix %s is damaged (%s) and is built again", path.name, error)
    blocks = [chosen[k : k + VIEWS_AT_ONCE] for k in range(0, len(chosen), VIEWS_AT_ONCE)]
    matrix = sparse.vstack([_build(geometry, image_shape, pixel_size, kernel, b) for b in blocks], format="csr")
    _write(path, matrix)
    return matrix


def estimate_bytes(
    geometry: Geometry, image_shape: tuple[int, int], pixel_size: float, kernel: str, chosen: Sequence[int]
) -> int:
    """Memory for the matrix of some views and its transpose, from the number of non-zeros of three of them."""
    sample = [chosen[k] for k in sorted({0, len(chosen) // 2, len(chosen) - 1})]
    nonzeros = _build(geometry, image_shape, pixel_size, kernel, sample).nnz / len(sample) * len(chosen)
    return int(nonzeros * 2 * (4 + 4))


def _build(
    geometry: Geometry, image_shape: tuple[int, int], pixel_size: float, kernel: str, chosen: Sequence[int]
) -> sparse.csr_matrix:
    volume = astra_volume(image_shape, pixel_size)
    projector = astra.create_projector(astra_kernel(geometry, kernel), astra_projections(geometry, chosen), volume)
    handle = astra.projector.matrix(projector)
    try:
        return astra.matrix.get(handle).astype(np.float32)
    finally:
        astra.matrix.delete(handle)
        astra.projector.delete(projector)


def _cache_folder() -> Path:
    return Path(os.environ.get("ISOCENTER_CACHE") or pooch.os_cache("isocenter")) / "projection-matrices"


def _key(
    geometry: Geometry, image_shape: tuple[int, int], pixel_size: float, kernel: str, chosen: Sequence[int]
) -> str:
    parts = (FORMAT, type(geometry).__name__, astuple(geometry), image_shape, pixel_size, kernel, tuple(chosen))
    return hashlib.sha256(repr((*parts, astra.__version__)).encode()).hexdigest()[:24]


def _write(path: Path, matrix: sparse.csr_matrix) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            try:
                np.savez(file, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr)
                file.close()
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:  # a full or read-only disk costs the cache, not the computation
        logger.warning("projection matrix is not kept on disk: %s", error)
