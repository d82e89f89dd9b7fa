"""The images of a task for the report's viewer: which ones, in which units, packed so that a page stays small."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .image_grid import Panel
from .judgement import Judgement
from .metrics import MEASURES
from .plots import Look
from .record import Task
from .units import Scale
from .verdict import with_unit

PIXELS = 6_000_000
"""What the viewers of a page may hold together. A pixel takes two bytes at most, and one where much is smooth: they
take no more than 12 MB."""
LEVELS = 4095  # 12 bits: of the truth's range, and of each error's own
WINDOWS = {"lung": (-600, 1500), "soft tissue": (40, 400), "bone": (400, 1800)}  # level and width in HU


@dataclass(frozen=True)
class Picture:
    """One test image with everything that was made of it.

    Attributes:
        rank: why it is shown: ``"best"``, ``"median"`` or ``"worst"``.
        id: of the image.
        truth: ``[H, W]``.
        panels: reconstructions of the same shape, in the order of tables.
    """

    rank: str
    id: str
    truth: np.ndarray
    panels: list[Panel]


def window(info: Mapping[str, Any], truth: np.ndarray) -> tuple[float, float]:
    """What is black and what is white at first: the dataset's window, else the truth's range; as shown."""
    low, high = info.get("display") or (float(np.nanmin(truth)), float(np.nanmax(truth)))
    low, high = Scale.of_images(info)(np.array([low, high])).tolist()
    return low, high


def clipping(info: Mapping[str, Any]) -> str:
    """A sentence on the values of images that are judged after clipping, and a space; else nothing."""
    if not info.get("clip"):
        return ""
    scale = Scale.of_images(info)
    low, high = scale(np.array(info["clip"]))
    unit = f" {scale.unit}" if scale.unit else ""
    return f"Reconstructions are clipped to {low:g} … {high:g}{unit}, as they are judged. "


def choose(values: np.ndarray, error: bool) -> dict[str, int]:
    """Columns of the best, the median and the worst of ``values``, fewer where there are fewer images.

    Args:
        values: scores by image, NaN where an image cannot be shown.
        error: whether less is better.
    """
    order = np.argsort(np.where(np.isnan(values), np.inf, values if error else -values), kind="stable")
    order = order[: int((~np.isnan(values)).sum())]
    n = len(order)
    if not n:
        return {}
    found = {"best": int(order[0]), "median": int(order[(n - 1) // 2]), "worst": int(order[-1])}
    return found if n > 2 else {"median": found["median"]}


def pictures(run: Path, task: Task, result: Judgement, looks: Mapping[str, Look]) -> list[Picture]:
    """The best, the median and the worst image by the reference's scores; none where nothing is stored.

    Reconstructions are shown as they are judged, clipped where the task says so. Of several training seeds the first is
    shown. Where a score says nothing, all of them NaN, any image will do.
    """
    table, metric = result.table, result.measure.name
    if result.reference is None:
        return []
    measurements = run / "tasks" / task.name / "measurements.h5"
    if not measurements.is_file():
        return []
    stored: dict[str, tuple[Path, list[str]]] = {}
    for cell in task.cells:
        path = cell.folder / "reconstructions.h5"
        if cell.state == "done" and cell.method in table.methods and cell.method not in stored and path.is_file():
            with h5py.File(path, "r") as file:
                data = file["reconstruction"]
                ids = data.attrs.get("images", file.attrs.get("images", task.info.get("images", [])))
                stored[cell.method] = (path, [str(image) for image in ids][: len(data)])
    if not stored:
        return []
    with h5py.File(measurements, "r") as file:
        group = file["test"]
        known = [str(i) for i in (group["ids"].asstr()[:] if "ids" in group else task.info.get("images", []))]
    shown = [i in known and all(i in ids for _, ids in stored.values()) for i in table.images]
    scores = table.values[metric][table.methods.index(result.reference)]
    scores = np.where(shown, scores if np.isfinite(scores[shown]).any() else 0.0, np.nan)
    chosen = []
    for rank, column in choose(scores, MEASURES[metric].error).items():
        image = table.images[column]
        with h5py.File(measurements, "r") as file:
            truth = magnitude(file["test/truth"][known.index(image)])
        panels = []
        for method in (m for m in looks if m in stored):
            path, ids = stored[method]
            with h5py.File(path, "r") as file:
                reconstruction = magnitude(file["reconstruction"][ids.index(image)])
            if clip := task.info.get("clip"):  # such images are real
                reconstruction = np.clip(reconstruction, *clip)
            row = table.methods.index(method)
            numbers = [with_unit(m, float(table.values[m.name][row, column]), result.units) for m in result.pair]
            panels.append(Panel(looks[method], reconstruction, " · ".join(numbers)))
        chosen.append(Picture(rank, image, truth, panels))
    return chosen


def thin(tasks: Sequence[Sequence[Picture]], budget: int = PIXELS) -> tuple[list[list[Picture]], int]:
    """What of all tasks' pictures fits on one page, and the side of the blocks of pixels that are averaged.

    The median images alone where all are too many; then images of fewer pixels.
    """
    whole = [list(group) for group in tasks]
    middle = [[picture for picture in group if picture.rank == "median"] for group in whole]
    for chosen, side in ((whole, 1), *((middle, side) for side in (1, 2, 3, 4, 6, 8))):
        pixels = sum(p.truth.size * (1 + len(p.panels)) for group in chosen for p in group) / side**2
        if pixels <= budget:
            return chosen, side
    return [[] for _ in whole], 1


def pack(group: Sequence[Picture], info: Mapping[str, Any], side: int) -> dict[str, Any]:
    """Plain data for the page: every truth, and every reconstruction as its difference to the truth.

    Differences are packed with a scale of their own, so that an error a thousand times smaller than the image is shown
    as exactly as a large one.

    Args:
        group: the pictures of a task.
        info: its ``task.json``.
        side: of the blocks of pixels that are averaged.
    """
    scale = Scale.of_images(info)
    low, high = window(info, group[0].truth)
    images = []
    for picture in group:
        truth = scale(_blocks(picture.truth, side))
        panels = []
        for panel in picture.panels:
            error = scale(_blocks(panel.image, side)) - truth
            name = {"label": panel.look.label, "colour": panel.look.colour}
            panels.append({**name, "score": panel.scores, "error": _quantised(error)})
        middle = [float(np.quantile(np.abs(p.image - picture.truth), 0.995)) * scale.factor for p in picture.panels]
        positive = [m for m in middle if np.isfinite(m) and m > 0]
        top = (float(np.nanmedian(middle)) if np.isfinite(middle).any() else 0.0) or (high - low) / 100
        reach = max([100.0, *(top / m for m in positive)])  # of the slider, so that the least errors can be seen
        shape = {"height": truth.shape[0], "width": truth.shape[1], "top": top, "reach": reach}
        images.append({"rank": picture.rank, "id": picture.id, **shape, "truth": _quantised(truth), "panels": panels})
    ends = [image["truth"]["low"] for image in images], [image["truth"]["high"] for image in images]
    windows: list[tuple[str, float, float]] = [("reset", low, high)]
    if scale.unit == "HU":
        windows += [(name, level - width / 2, level + width / 2) for name, (level, width) in WINDOWS.items()]
    return {
        "images": images,
        "unit": scale.unit,
        "low": low,
        "high": high,
        "least": min(low, *ends[0]),
        "most": max(high, *ends[1]),
        "windows": windows,
    }


def magnitude(image: np.ndarray) -> np.ndarray:
    """[C, H, W] → [H, W]: the image, or the magnitude of a complex one."""
    return image[0] if image.shape[0] == 1 else np.sqrt((image**2).sum(0))


def _blocks(image: np.ndarray, side: int) -> np.ndarray:
    h, w = (max(n // side, 1) * side for n in image.shape)
    if side == 1 or h > image.shape[0] or w > image.shape[1]:
        return image
    return image[:h, :w].reshape(h // side, side, w // side, side).mean((1, 3))


def _quantised(image: np.ndarray) -> dict[str, Any]:
    """12 bits a pixel between the image's ends: all high bytes, then all low bytes, deflated, in base 64."""
    finite = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    step = (high - low) / LEVELS or 1.0
    levels = np.round((finite - low) / step).astype(np.uint16)
    planes = (levels >> 8).astype(np.uint8).tobytes() + (levels & 255).astype(np.uint8).tobytes()
    packed = base64.b64encode(zlib.compress(planes, 9)).decode()
    return {"low": low, "high": high, "step": step, "data": packed}
