"""Masks and point spread functions from files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import loadmat

_HDF5 = b"\x89HDF\r\n\x1a\n"


def load_plane(path: str | Path, key: str | None = None) -> np.ndarray:
    """The one 2-D array of an NPY, MAT (v5, v7.3) or PNG file, as float64 ``[H, W]``.

    Args:
        path: the file; its suffix says the format.
        key: name of the variable in a MAT file, needed only where it holds several planes.

    Raises:
        ValueError: if the file cannot be read, or does not hold one plane.
    """
    path = Path(path)
    try:
        arrays = _read(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # each reader has exceptions of its own
        raise ValueError(f"{path}: cannot be read as {path.suffix or 'a file without suffix'}: {error}") from error
    planes = {name: a for name, a in arrays.items() if a.ndim == 2 and min(a.shape) > 1 and a.dtype.kind in "buif"}
    if key is not None:
        planes = {name: a for name, a in planes.items() if name == key}
    if len(planes) != 1:
        found = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in arrays.items()) or "nothing"
        wanted = "one real 2-D array" if key is None else f"a real 2-D array {key!r}"
        raise ValueError(f"{path}: holds {found}; expected {wanted}, name the right one by key=")
    return np.asarray(next(iter(planes.values())), dtype=np.float64)


def _read(path: Path) -> dict[str, np.ndarray]:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return {"array": np.load(path, allow_pickle=False)}
    if suffix == ".png":
        with Image.open(path) as file:
            image = np.asarray(file.convert("RGB") if file.mode == "P" else file)
        grey = image.ndim == 3 and all(np.array_equal(image[..., 0], image[..., i]) for i in (1, 2))
        return {"image": image[..., 0] if grey else image}
    if suffix == ".mat":
        with path.open("rb") as file:
            head = file.read(520)
        if _HDF5 in (head[:8], head[512:]):  # v7.3 is HDF5 behind a 512-byte header, and its axes are reversed
            with h5py.File(path) as file:
                return {name: item[()].T for name, item in file.items() if isinstance(item, h5py.Dataset)}
        return {name: np.asarray(a) for name, a in loadmat(path).items() if not name.startswith("__")}
    raise ValueError("the suffix is none of .npy, .mat, .png")
