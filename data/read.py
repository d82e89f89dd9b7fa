"""One function for every format: ``read(path)``."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from .signatures import is_bare_dicom
from .volume import ReadError, Refused, Volume, reading

HEAD = 4096
FORMATS = "DICOM, NIfTI, NRRD, HDF5, MATLAB 5 and 7.3, NPY, NPZ, PNG, TIFF, JPEG and BART's cfl"
KEYED = {"dicom", "hdf5", "mat", "mat73", "npz"}
SIGNATURES = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"NRRD000": "nrrd",
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"MATLAB 5.0 MAT-file": "mat",
    b"\x1f\x8b": "nifti.gz",
}


def read(path: str | PathLike[str], *, key: str | None = None) -> Volume:
    """Open an image file, or a folder that holds one DICOM series, as a lazy stack of slices.

    The format is taken from the content, whatever the name. Values are those that the file means: DICOM and NIfTI
    rescaled (CT in HU), everything else as stored.

    Args:
        path: file or folder.
        key: the array in an HDF5, MAT or NPZ file, or the SeriesInstanceUID in a DICOM folder; needed where there
            are several.

    Raises:
        ReadError: one line with the file, the reason, and what to do. Damage beyond the header shows when a slice
            is read, as the same error.
    """
    name = fspath(path)
    with reading(name):
        if Path(name).is_dir():
            from .dicom import read_series

            return read_series(name, key)
        kind = _kind(name)
        if key is not None and kind not in KEYED:
            raise Refused(f"holds one image and is read without a key, given was {key!r}")
        return _open(name, kind, key)
    raise AssertionError  # for mypy, which thinks that the block may swallow errors


def _open(path: str, kind: str, key: str | None) -> Volume:
    # Imports are here so that a format's libraries load only when a file needs them.
    if kind == "dicom":
        from .dicom import read_file

        return read_file(path, key)
    if kind.startswith("nifti"):
        from .nifti import read_nifti

        return read_nifti(path, gzipped=kind == "nifti.gz")
    if kind == "nrrd":
        from .nrrd import read_nrrd

        return read_nrrd(path)
    if kind == "hdf5":
        from .hdf5 import read_hdf5

        return read_hdf5(path, key)
    if kind in ("mat", "mat73"):
        from .mat import read_mat, read_mat73

        return read_mat(path, key) if kind == "mat" else read_mat73(path, key)
    if kind in ("npy", "npz", "cfl"):
        from .arrays import read_cfl, read_npy, read_npz

        return read_npz(path, key) if kind == "npz" else read_npy(path) if kind == "npy" else read_cfl(path)
    from .pictures import read_jpeg, read_png, read_tiff

    return {"png": read_png, "jpeg": read_jpeg, "tiff": read_tiff}[kind](path)


def _kind(path: str) -> str:
    """The format, by signature; BART's pairs, which have none, by name."""
    file = Path(path)
    if not file.exists() and file.suffix == "" and Path(f"{path}.cfl").is_file():
        return "cfl"
    if not file.exists():
        raise FileNotFoundError(path)
    if not file.is_file():
        raise Refused("is neither a file nor a folder (a pipe or a device?)")
    with open(path, "rb") as opened:
        head = opened.read(HEAD)
    if not head:
        raise Refused("is empty; download it again")
    if head[128:132] == b"DICM":  # before the others: a DICOM file may begin with a TIFF header
        return "dicom"
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature):
            return _check_gzip(path) if kind == "nifti.gz" else kind
    if head.startswith(b"MATLAB 7.3 MAT-file") and head[512:520] == b"\x89HDF\r\n\x1a\n":
        return "mat73"
    if _is_nifti(head):
        return "nifti"
    if b"\x89HDF\r\n\x1a\n" in (head[512:520], head[1024:1032], head[2048:2056]):  # after a user block
        return "hdf5"
    if file.suffix in (".cfl", ".hdr"):
        return "cfl"
    if is_bare_dicom(head):
        return "dicom"
    if not head.strip(b"\0"):
        raise Refused("begins with nothing but zeros; its download or copy was interrupted")
    named = f", whatever its name ends in ({file.suffix})" if file.suffix else ""
    raise Refused(f"does not begin like any known format{named}; read are {FORMATS}")


def _check_gzip(path: str) -> str:
    from .deflate import inflate_start

    if not _is_nifti(inflate_start(path, HEAD)):
        raise Refused("is compressed, but not a NIfTI image; unpack it first")
    return "nifti.gz"


def _is_nifti(head: bytes) -> bool:
    """An image, or a header whose image is in another file, which the reader refuses with the reason."""
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


__all__ = ["ReadError", "Volume", "read"]
