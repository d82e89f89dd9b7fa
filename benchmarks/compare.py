"""``isocenter compare``: two runs image by image, and what they did differently."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .changes import changes
from .environment import differences
from .record import Cell, read_tasks
from .run_folder import write_csv
from .statistics import intervals
from .tasks import MEASUREMENTS
from .yaml_lines import SuiteError

PAIRS = ("task", "method", "seed", "image", "patient", "psnr_first", "psnr_second", "ssim_first", "ssim_second")

Key = tuple[str, str, str]  # task, method, seed


@dataclass(frozen=True)
class Pair:
    """The same method with the same seed on the same task in two runs, and the images that both have."""

    key: Key
    first: Cell
    second: Cell
    rows: tuple[tuple[Mapping[str, str], Mapping[str, str]], ...]

    def differences(self, metric: str) -> np.ndarray:
        """Second minus first by image; two perfect images do not differ."""
        pairs = [(float(a[metric] or math.nan), float(b[metric] or math.nan)) for a, b in self.rows]
        return np.array([0.0 if a == b else b - a for a, b in pairs])

    def mean(self, run: int, metric: str) -> float:
        """Of the first (0) or the second (1) run."""
        return float(np.mean([float(row[run][metric] or math.nan) for row in self.rows]))


@dataclass(frozen=True)
class RunComparison:
    """Two runs: what both have, and what only one has."""

    first: Path
    second: Path
    pairs: tuple[Pair, ...]
    only_first: tuple[Key, ...]
    only_second: tuple[Key, ...]
    others: Mapping[str, int]  # by task: test images that have the same name in both and are not the same

    def lines(self) -> Iterator[str]:
        """The comparison in words and tables."""
        yield f"first  {self.first}"
        yield f"second {self.second}"
        yield ""
        names = [_name(pair.key) for pair in self.pairs]
        width = max(map(len, names))
        columns = "images    first   second   second − first [95 %]          largest            SSIM"
        yield f"{'mean PSNR, dB':<{width}}  {columns}"
        for name, pair in zip(names, self.pairs, strict=True):
            yield f"{name:<{width}}  {_numbers(pair)}"
        for which, keys in (("first", self.only_first), ("second", self.only_second)):
            if keys:
                yield f"only in the {which}: {', '.join(map(_name, keys))}"
        for task, count in self.others.items():
            yield f"{task}: left out {count} of the images, which have the same name in both and are not the same"
        yield ""
        yield from self._changed()
        yield from self._environments()

    def write(self, path: Path) -> None:
        """Every image of both runs as CSV."""
        rows = []
        for pair in self.pairs:
            task, method, seed = pair.key
            for a, b in pair.rows:
                own = {"task": task, "method": method, "seed": seed, "image": a["image"], "patient": a["patient"]}
                for metric in ("psnr", "ssim"):
                    own |= {f"{metric}_first": a[metric], f"{metric}_second": b[metric]}
                rows.append(own)
        write_csv(path, PAIRS, rows)

    def _changed(self) -> Iterator[str]:
        """Settings that differ, each with the cells that it differs for."""
        found: dict[str, list[str]] = {}
        unknown = 0
        for pair in self.pairs:
            one, two = pair.first.spec.get("identity"), pair.second.spec.get("identity")
            unknown += not (one and two)
            for change in changes(one, two) if one and two else ():
                found.setdefault(change, []).append(_name(pair.key))
        for change, names in found.items():
            yield f"changed: {change}  ({'everywhere' if len(names) == len(self.pairs) else ', '.join(names)})"
        if unknown:
            yield f"the settings of {unknown} cells are not recorded; compare the two suite.yaml"
        elif not found:
            yield "the cells that both have are set alike"

    def _environments(self) -> Iterator[str]:
        one = [found for pair in self.pairs if (found := pair.first.status.get("environment"))]
        two = [found for pair in self.pairs if (found := pair.second.status.get("environment"))]
        if not one or not two:
            yield "what the cells were computed on is not recorded"
            return
        before, after = _most_common(one), _most_common(two)
        for change in changes(before, after):
            yield f"computed on other: {change}"
        if before == after:
            yield "both were computed on the same code, versions and machine"
        for which, found in (("first", one), ("second", two)):
            for line in differences(found):
                yield f"within the {which}, {line}"


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Pair the cells that both runs have finished.

    Raises:
        SuiteError: a folder that is no run, or runs that share no image.
    """
    one, two = _cells_of(first), _cells_of(second)
    same = {task: _same_images(first, second, task) for task in {key[0]: None for key in one if key in two}}
    pairs = []
    for key in one:
        if key in two:
            (a, rows_a), (b, rows_b) = one[key], two[key]
            shared = tuple((rows_a[i], rows_b[i]) for i in rows_a if i in rows_b and same[key[0]].get(i, True))
            if shared:
                pairs.append(Pair(key, a, b, shared))
    paired = {pair.key for pair in pairs}
    only_first, only_second = (tuple(key for key in cells if key not in paired) for cells in (one, two))
    if not pairs:
        raise SuiteError(
            f"{first} and {second} share no test image of the same task, method and seed; "
            f"the first has {_some(only_first)}, the second {_some(only_second)}"
        )
    others = {task: count for task in same if (count := list(same[task].values()).count(False))}
    return RunComparison(first, second, tuple(pairs), only_first, only_second, others)


def _cells_of(run: Path) -> dict[Key, tuple[Cell, dict[str, Mapping[str, str]]]]:
    """The finished cells of a run, each with its rows by image."""
    if not (run / "suite.yaml").is_file():
        raise SuiteError(f"{run} is not a run folder: it has no suite.yaml; expected a folder such as runs/quickstart")
    try:
        tasks = read_tasks(run)
    except ValueError as error:
        raise SuiteError(str(error)) from error
    found: dict[Key, tuple[Cell, dict[str, Mapping[str, str]]]] = {}
    for task in tasks:
        for cell in task.cells:
            rows = {r["image"]: r for r in task.rows if (r["method"], r["seed"]) == (cell.method, cell.seed)}
            if cell.state == "done" and rows:
                found[(task.name, cell.method, cell.seed)] = (cell, rows)
    return found


def _same_images(first: Path, second: Path, task: str) -> dict[str, bool]:
    """Whether the test images that have the same name are the same up to rounding; nothing where they are not kept."""
    with contextlib.suppress(OSError, KeyError), contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(h5py.File(run / "tasks" / task / MEASUREMENTS))["test"] for run in (first, second)
        )
        places = {image: i for i, image in enumerate(two["ids"].asstr()[:])}
        return {
            image: _alike(one["truth"][i], two["truth"][places[image]])
            for i, image in enumerate(one["ids"].asstr()[:])
            if image in places
        }
    return {}


def _alike(one: np.ndarray, two: np.ndarray) -> bool:
    return one.shape == two.shape and bool(np.allclose(one, two, rtol=0, atol=1e-4 * np.abs(one).max()))


def _numbers(pair: Pair) -> str:
    psnr, ssim = pair.differences("psnr"), pair.differences("ssim")
    means = f"{len(pair.rows):>6}  {pair.mean(0, 'psnr'):>7.2f}  {pair.mean(1, 'psnr'):>7.2f}"
    if not psnr.any() and not ssim.any():
        return f"{means}   the same"
    (interval,) = intervals(psnr[None], [a.get("patient") or a["image"] for a, _ in pair.rows])
    bounds = f"[{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
    largest = int(np.nanargmax(np.abs(psnr))) if not np.isnan(psnr).all() else 0
    at = f"{psnr[largest]:+.3f} {pair.rows[largest][0]['image']}"
    return f"{means}   {np.mean(psnr):+8.3f} {bounds:<20}  {at:<24} {np.mean(ssim):+.4f}"


def _name(key: Key) -> str:
    return f"{key[0]} · {key[1]} · {key[2]}"


def _some(keys: tuple[Key, ...]) -> str:
    return ", ".join(map(_name, keys[:3])) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") or "none"


def _most_common(environments: list[dict[str, Any]]) -> dict[str, Any]:
    ((text, _),) = Counter(json.dumps(found, sort_keys=True) for found in environments).most_common(1)
    return dict(json.loads(text))
