"""One cell of a suite: a method with one seed on one task, fitted, run on the test images and judged."""

from __future__ import annotations

import contextlib
import logging
import math
import resource
import statistics
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from ..baselines.method import Method
from ..baselines.watching import watched
from ..data.metrics import psnr
from ..data.problem import HDF5_OVERHEAD, Problem
from ..data.whole_file import remove_leftovers, whole_file
from ..physics import LinearOperator
from . import attack, packaged
from .environment import machine
from .fitting import fit_cell
from .hounsfield import RMSE_HU, field_of_view, rmse_hu
from .metrics import NAMES, metrics
from .run_folder import alone, disk_is_full, file_digest, read_csv, read_json, write_csv, write_json
from .spec import MethodSpec
from .tasks import OpenTask, short_hash
from .time_limit import TimeLimitError, time_limit

logger = logging.getLogger(__name__)

RESULT = ("metrics.csv", "reconstructions.h5", "fit.json")
"""Files of a cell whose hashes its ``status.json`` holds."""

ATTACK = "attack.csv"
"""One more of them, where the task attacks its methods."""

COLUMNS = ("image", "patient", *NAMES, RMSE_HU, "seconds")
TRACE = ("iteration", "seconds", "psnr", "gap")
REPEATS = 3  # of the timing of an image
REPEAT_BELOW = 0.1  # seconds; slower images are measured once each

# Said once by PyTorch about itself; nothing that a reader of results could act on.
_NOISE = r"Sparse CSR tensor support is in beta state|.*lazy modules are a new feature"


class NotFiniteError(ArithmeticError):
    """A reconstruction holds NaN or infinity."""


@dataclass(frozen=True)
class Cell:
    """A method with one seed on one task.

    Args:
        task: opened; cells of a task share it.
        method: the spec.
        seed: one of the method's.
        retrain: fit anew even where a fitted method is packaged.
    """

    task: OpenTask
    method: MethodSpec
    seed: int
    retrain: bool = False

    @cached_property
    def weights(self) -> Path | None:
        """The fit that the spec names, or else the packaged one that belongs to this cell."""
        if self.method.weights is not None:
            return self.method.weights
        if self.source is not None:
            return self.source.weights
        if self.retrain:
            return None
        found = packaged.candidates(self.task.loaded.suite.name, self.task.name, self.method.key, self.seed)
        for folder in found:
            if packaged.fits(folder, self.task.training_identity(self.method, self.seed), self.method):
                return folder
        if found:
            logger.info("%s: packaged weights were fitted to another task or method and are not used", self.title)
        return None

    @cached_property
    def trained_on(self) -> dict[str, OpenTask]:
        """The tasks of a fit that the method's cells share; empty where the cell has its own."""
        loaded, tasks = self.task.loaded, {}
        suite = loaded.suite
        for name in [task for called in self.method.trained_on() for task in suite.tasks_called(called)]:
            same_data = suite.tasks[name].data == self.task.spec.data
            tasks[name] = OpenTask(loaded, name, self.task if same_data else None)
        return tasks

    @cached_property
    def source(self) -> Cell | None:
        """The cell of another task whose fit this one uses."""
        other = self.task.spec.fitted_on
        if other is None or not self.method.needs() or self.trained_on or self.method.weights is not None:
            return None
        loaded = self.task.loaded
        same_data = loaded.suite.tasks[other].data == self.task.spec.data
        task = OpenTask(loaded, other, self.task if same_data else None)
        return Cell(task, self.method, self.seed, self.retrain)

    @cached_property
    def network_cell(self) -> Cell | None:
        """The task's cell of the same network without what this one tunes around it: one training serves both."""
        network = self.method.network_alone()
        if network is None:
            return None
        for other in self.task.loaded.suite.methods_of(self.task.name):
            if other.weights is None and self.seed in other.seeds and other.identity() == network.identity():
                return Cell(self.task, other, self.seed, self.retrain)
        return None

    @cached_property
    def fit_key(self) -> str:
        """Hash of what the fit depends on that cells share."""
        tasks = {name: task.identity for name, task in self.trained_on.items()}
        return short_hash({"tasks": tasks, "method": self.method.identity(), "seed": self.seed})

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the cell's numbers depend on, as plain data."""
        if self.weights:
            fitted = packaged.digest(self.weights)
        elif self.source is not None:
            fitted = self.source.key
        elif self.network_cell is not None and self.network_cell.weights:
            fitted = packaged.digest(self.network_cell.weights)
        else:
            fitted = self.fit_key if self.trained_on else ""
        return {"task": self.task.identity, "method": self.method.identity(), "seed": self.seed, "weights": fitted}

    @property
    def key(self) -> str:
        return short_hash(self.identity)

    @property
    def name(self) -> str:
        return f"{self.method.key}-{self.seed}-{self.key}"

    @property
    def title(self) -> str:
        seed = f" seed {self.seed}" if len(self.method.seeds) > 1 else ""
        return f"{self.task.name} · {self.method.heading}{seed}"

    @property
    def time_limit(self) -> float | None:
        """Seconds."""
        return self.method.time_limit or self.task.loaded.suite.time_limit

    @property
    def files(self) -> tuple[str, ...]:
        """What a whole result is made of."""
        return (*RESULT, ATTACK) if self.task.spec.attack else RESULT

    def is_done(self, folder: Path) -> bool:
        """Whether its folder holds a whole result, as it was written."""
        status = read_json(folder / "status.json")
        hashes = status.get("sha256") or {}
        return (
            status.get("state") == "done"
            and set(hashes) == set(self.files)
            and all(file_digest(folder / name) == digest for name, digest in hashes.items())
        )

    def has_failed(self, folder: Path) -> bool:
        """Whether its folder tells of a failure."""
        return bool(read_json(folder / "status.json").get("state") == "failed")

    def rows(self, folder: Path, file: str = "metrics.csv") -> list[dict[str, Any]]:
        """The cell's rows of ``results.csv``, or of another table."""
        own = {"task": self.task.name, "method": self.method.key, "seed": self.seed}
        return [{**own, **row} for row in read_csv(folder / file)]


def run_cell(cell: Cell, folder: Path, measurements: Path) -> bool:
    """Run a cell in its folder and return whether it is done; a failure of it is written down and not raised.

    Args:
        cell: what to run.
        folder: of the cell; what an interrupted fit left there is used.
        measurements: folder of the task.

    Raises:
        Exception: when the disk is full, which is no failure of the cell.
    """
    with alone(folder):
        if cell.is_done(folder):  # by a worker whose run was killed
            return True
        (folder / "status.json").unlink(missing_ok=True)
        remove_leftovers(folder)
        began = time.perf_counter()
        status: dict[str, Any] = {"state": "failed", "seconds_fit": None, "seconds_total": None, "warnings": []}
        _reset_peak()
        try:
            with _recorded() as caught, time_limit(cell.time_limit):
                _run(cell, folder, measurements, status)
            status["state"] = "done"
            status["sha256"] = {name: file_digest(folder / name) for name in cell.files}
        except (Exception, TimeLimitError) as error:
            if disk_is_full(error):
                raise
            status["error"] = f"{type(error).__name__}: {error}"
            status["traceback"] = traceback.format_exc()
            logger.error("%s failed: %s", cell.title, status["error"])
        status["warnings"] += _distinct(caught)
        status["seconds_total"] = time.perf_counter() - began
        status["peak_memory_mb"] = peak_memory()
        write_json(folder / "status.json", status)
        return bool(status["state"] == "done")


def _run(cell: Cell, folder: Path, measurements: Path, status: dict[str, Any]) -> None:
    status["environment"] = machine()
    method = cell.method.build(cell.seed)
    spec = {"task": cell.task.name, "method": cell.method.key, "label": cell.method.heading, "seed": cell.seed}
    group = "oracle" if cell.method.oracle else method.group
    write_json(folder / "spec.json", {**spec, "kind": cell.method.kind, "group": group, "identity": cell.identity})
    cell.task.measure(measurements)
    fit = fit_cell(cell, method, folder, measurements)
    write_json(folder / "fit.json", fit)
    status["seconds_fit"] = fit["seconds"]
    status["parameters"] = method.parameters
    test = cell.task.stored(measurements, "test")
    clip, water = cell.task.spec.clip, cell.task.dataset.water
    if trace := _warm_up(method, test, cell.task.physics, clip):
        write_csv(folder / "trace.csv", TRACE, trace)
    rows = _reconstruct(method, test, cell.task.physics, folder / "reconstructions.h5", clip, water)
    write_csv(folder / "metrics.csv", COLUMNS, rows)
    if cell.task.spec.attack is not None:
        how, seed = cell.task.spec.attack.build(), cell.task.loaded.suite.seed
        write_csv(
            folder / ATTACK, attack.COLUMNS, list(attack.attacked(method, test, cell.task.physics, how, seed, clip))
        )


def _warm_up(
    method: Method, test: Problem, physics: LinearOperator, clip: tuple[float, float] | None
) -> list[dict[str, Any]]:
    """Reconstruct the first image for nothing but the way there: rows of ``trace.csv``, none from a method without."""
    rows: list[dict[str, Any]] = []
    if not len(test):
        return rows
    truth, aside = test.truth(0)[None], 0.0

    def look(iteration: int, images: Tensor, gap: Tensor | None) -> None:
        nonlocal aside
        _wait(images)
        now = time.perf_counter()
        shown = images.cpu().float()
        quality = float(psnr(shown if clip is None else shown.clamp(*clip), truth, test.data_range)[0])
        own = "" if gap is None else float(gap[0])
        rows.append({"iteration": iteration, "seconds": now - began - aside, "psnr": quality, "gap": own})
        aside += time.perf_counter() - now

    began = time.perf_counter()
    with torch.no_grad(), watched(look):
        method.reconstruct(test.measurement(0)[None], physics)
    return rows


def _reconstruct(
    method: Method,
    test: Problem,
    physics: LinearOperator,
    path: Path,
    clip: tuple[float, float] | None,
    water: float | None,
) -> list[dict[str, Any]]:
    """Reconstruct the test images one by one, so that memory does not grow with their number."""
    rows = []
    seen = field_of_view(physics)
    size = 4 * len(test) * math.prod(physics.domain) + HDF5_OVERHEAD
    with whole_file(path, size=size) as partial, h5py.File(partial, "w") as file:
        stored = file.create_dataset("reconstruction", (len(test), *physics.domain), "float32")
        stored.attrs["images"] = list(test.ids)
        with torch.no_grad():
            for i in range(len(test)):
                x, seconds = timed_reconstruction(method, test.measurement(i)[None], physics)
                _check(x, physics, test.ids[i])
                stored[i] = x[0].cpu()
                x, truth = x.cpu().float(), test.truth(i)[None]
                if clip is not None:
                    x = x.clamp(*clip)
                values = metrics(x, truth, test.data_range)
                if water is not None:
                    values[RMSE_HU] = rmse_hu(x, truth, water, seen)
                numbers = {name: float(value[0]) for name, value in values.items()}
                rows.append({"image": test.ids[i], "patient": test.patients[i], **numbers, "seconds": seconds})
    return rows


def timed_reconstruction(method: Method, y: Tensor, physics: LinearOperator) -> tuple[Tensor, float]:
    """A reconstruction and its wall time: the median of a few, without reading, writing and judging."""
    seconds: list[float] = []
    while len(seconds) < REPEATS:
        measured = y.clone()
        _wait(measured)
        began = time.perf_counter()
        x = method.reconstruct(measured, physics)
        _wait(x)
        seconds.append(time.perf_counter() - began)
        if seconds[0] > REPEAT_BELOW:
            break
    return x, statistics.median(seconds)


def _check(x: Tensor, physics: LinearOperator, image: str) -> None:
    expected = (1, *physics.domain)
    if tuple(x.shape) != expected:
        raise ValueError(f"the reconstruction of {image} is {tuple(x.shape)}, expected {expected}")
    if not torch.isfinite(x).all():
        count = int((~torch.isfinite(x)).sum())
        raise NotFiniteError(f"the reconstruction of {image} holds {count} values that are NaN or infinite")


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


@contextlib.contextmanager
def _recorded() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message=_NOISE)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield caught


def _distinct(caught: list[warnings.WarningMessage]) -> list[str]:
    """One message for each place that warned: numbers differ from image to image, the first stands for all."""
    places: dict[tuple[type[Warning], str, int], dict[str, None]] = {}
    for entry in caught:
        places.setdefault((entry.category, entry.filename, entry.lineno), {})[str(entry.message)] = None
    more = [(next(iter(texts)), len(texts) - 1) for texts in places.values()]
    return [text if not count else f"{text} (and {count} more like it)" for text, count in more]


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # Linux: the high-water mark starts again from what is in use
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Peak memory of the process since :func:`_reset_peak`, MiB; since its start where the system cannot reset it."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        kilobytes = int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    if torch.cuda.is_available():
        kilobytes += torch.cuda.max_memory_allocated() // 1024
    return math.ceil(kilobytes / 1024)
