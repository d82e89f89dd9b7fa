"""The fit of a cell: given, packaged, left by an earlier run, or made now; and training on its own."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..baselines.method import Fit, Method
from ..data.problem import Problem
from ..unrolled.distributed import Place, current_place
from ..unrolled.learning_curve import PICTURE, TABLE
from ..unrolled.mixture import Mixture
from . import packaged
from .environment import environment, machine
from .run_folder import RunFolder, read_json, write_json, write_text
from .yaml_lines import SuiteError

if TYPE_CHECKING:
    from .cells import Cell
    from .schema import LoadedSuite

logger = logging.getLogger(__name__)


def fit_cell(cell: Cell, method: Method, folder: Path, measurements: Path) -> dict[str, Any]:
    """Fit a method, or load the fit that is given or packaged, or the one that an earlier run left; its ``fit.json``.

    Where processes train together, the first reads and writes, and all of them fit.

    Args:
        cell: whose method it is.
        method: not fitted yet.
        folder: of the cell; what an interrupted fit left there is used.
        measurements: folder of the task.
    """
    if cell.source is not None:  # what that cell would do, and find done
        name, run = cell.source.task.name, folder.parents[2]
        cell.source.task.measure(run / "tasks" / name)
        return fit_cell(cell.source, method, run / "cells" / name / cell.source.name, run / "tasks" / name)
    place = current_place()
    if cell.trained_on:  # one fit for all cells: beside them, in fits/METHOD-SEED-KEY
        folder = folder.parents[2] / "fits" / f"{cell.method.key}-{cell.seed}-{cell.fit_key}"
    fit = place.share(_kept(cell, method, folder) if place.first else None)
    return _made(cell, method, folder, measurements, place) if fit is None else fit


def _problems(cell: Cell, measurements: Path) -> tuple[Problem, Problem]:
    """What a method is fitted on: training and validation images."""
    if cell.trained_on:
        tasks = cell.trained_on.values()
        return Mixture([task.training for task in tasks]), Mixture([task.simulated("validation") for task in tasks])
    return cell.task.training, cell.task.stored(measurements, "test" if cell.method.oracle else "validation")


def _kept(cell: Cell, method: Method, folder: Path) -> dict[str, Any] | None:
    if cell.weights is not None:
        method.load(cell.weights)
        fit = dict(read_json(cell.weights / packaged.CARD).get("fit", {}))
        fit["budget"] = f"fitted before: {fit.get('budget', 'unknown')}"
        return {**asdict(Fit()), **fit}
    if (folder / "fitted").is_dir() and (folder / "fit.json").is_file():
        try:
            method.load(folder / "fitted")
            return read_json(folder / "fit.json")
        except ValueError as error:
            logger.warning("%s: the fit of an interrupted run is damaged and made again (%s)", cell.title, error)
    return None


def _made(cell: Cell, method: Method, folder: Path, measurements: Path, place: Place) -> dict[str, Any]:
    fitted, unfinished, partial = (folder / name for name in ("fitted", "fit", "fitted.partial"))
    unfinished.mkdir(parents=True, exist_ok=True)
    result = {**asdict(method.fit(*_problems(cell, measurements), unfinished)), "environment": machine()}
    if not place.first:
        return result
    shutil.rmtree(fitted, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    method.save(partial)
    write_json(folder / "fit.json", result)
    for name in (TABLE, PICTURE):  # they outlive the training
        if (unfinished / name).is_file():
            (unfinished / name).replace(folder / name)
    partial.replace(fitted)
    shutil.rmtree(unfinished)
    return result


def train_cells(
    loaded: LoadedSuite,
    out: Path,
    method: str,
    *,
    task: str | None = None,
    seed: int | None = None,
    retrain: bool = False,
    command: Sequence[str] = (),
    tell: Callable[[str], object] = lambda line: None,
) -> None:
    """Train a network into a run folder, where ``run`` finds it and goes on.

    Args:
        loaded: the suite.
        out: the run folder.
        method: its name.
        task, seed: these only; all that the suite names when None.
        retrain: train anew where weights are packaged.
        command: for the record.
        tell: is given a line for each cell.

    Raises:
        SuiteError: for names that the suite does not hold, and for methods that nothing is trained of.
    """
    from .runner import choose, choose_tasks, expand, open_tasks

    choose("method", [method], [m.key for m in loaded.suite.methods])
    tasks = choose_tasks(loaded.suite, None if task is None else [task], "task")
    opened = open_tasks(loaded)
    cells = expand(loaded, opened, retrain=retrain)
    chosen = [c for t in cells if t in tasks for c in cells[t] if c.method.key == method and seed in (None, c.seed)]
    if not chosen:
        known = next(m for m in loaded.suite.methods if m.key == method).seeds
        raise SuiteError(f"no cell to train: {method} has the seeds {', '.join(map(str, known))} and is on some tasks")
    if "train" not in chosen[0].method.needs():
        raise SuiteError(f"--method {method}: it is not trained; `isocenter run` tunes it")
    folder, place = RunFolder(out), current_place()
    if not place.first:
        place.share(None)
        for _ in _train(folder, chosen):
            pass
        return
    with folder.locked(), folder.logging():
        logger.info("%s", " ".join(command) or f"train {method}")
        write_text(out / "suite.yaml", loaded.suite.dump())
        write_json(out / "environment.json", environment(command, loaded.plugins))
        folder.keep(
            {name: t.key for name, t in opened.items()}, {name: {c.name for c in cells[name]} for name in cells}
        )
        for name in {cell.task.name: None for cell in chosen}:
            opened[name].measure(folder.task(name))
        place.share(None)  # the measurements are there
        for line in _train(folder, chosen):
            logger.info("%s", line)
            tell(line)


def _train(folder: RunFolder, cells: Sequence[Cell]) -> Iterator[str]:
    for cell in cells:
        where = folder.cell(cell.task.name, cell.name)
        if cell.weights is not None:
            yield f"{cell.title}: its weights are given or packaged; --retrain trains anew where they are packaged"
            continue
        where.mkdir(parents=True, exist_ok=True)
        fit = fit_cell(cell, cell.method.build(cell.seed), where, folder.task(cell.task.name))
        best = max((row["validation_psnr"] for row in fit["curve"]), default=float("nan"))
        yield f"{cell.title}: {best:.2f} dB on validation images, {fit['budget']}, {fit['seconds']:.0f} s; {where}"
        cell.task.close()
