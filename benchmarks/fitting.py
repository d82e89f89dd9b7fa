"""The fit of a cell: given, packaged, left by an earlier run, or made now; and training on its own."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..baselines.method import Fit, Method
from ..data.problem import Problem
from ..data.whole_file import remove_leftovers
from ..unrolled.distributed import Place, current_place
from ..unrolled.learning_curve import PICTURE, TABLE
from ..unrolled.mixture import Mixture
from ..unrolled.trained_then_tuned import TrainedThenTuned
from ..unrolled.trainer import CheckpointError
from . import packaged
from .environment import environment, machine
from .run_folder import RunFolder, alone, read_json, write_json, write_text
from .yaml_lines import SuiteError

if TYPE_CHECKING:
    from .cells import Cell
    from .schema import LoadedSuite

logger = logging.getLogger(__name__)

HASH = "sha256"
"""Key of ``fit.json``: the hash of what was fitted."""


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
        there = folder.parents[2] / "tasks" / cell.source.task.name
        cell.source.task.measure(there)
        found = fit_cell(cell.source, method, fit_folder(cell, folder), there)
        cell.source.task.close()
        return found
    folder, place = fit_folder(cell, folder), current_place()
    with alone(folder, ".fit.lock") if place.first else contextlib.nullcontext():
        fit = place.share(_kept(cell, method, folder) if place.first else None)
        return _made(cell, method, folder, measurements, place) if fit is None else fit


def fit_folder(cell: Cell, folder: Path) -> Path:
    """Where the fit of a cell is made: in the cell's folder, another cell's, or that of a fit for several tasks."""
    if cell.source is not None:
        return folder.parents[1] / cell.source.task.name / cell.source.name
    if cell.trained_on:
        return folder.parents[2] / "fits" / f"{cell.method.key}-{cell.seed}-{cell.fit_key}"
    return folder


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
    fit = read_json(folder / "fit.json")
    if fit and (folder / "fitted").is_dir():
        try:
            if fit.get(HASH, "") not in ("", packaged.digest(folder / "fitted")):
                raise ValueError("its files are not those that were written")
            method.load(folder / "fitted")
            return fit
        except ValueError as error:
            logger.warning("%s: the fit of an earlier run is damaged and made again (%s)", cell.title, error)
    return None


def _made(cell: Cell, method: Method, folder: Path, measurements: Path, place: Place) -> dict[str, Any]:
    fitted, unfinished, partial = (folder / name for name in ("fitted", "fit", "fitted.partial"))
    unfinished.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, "fit.json")
    try:
        made = _fitted(cell, method, unfinished, measurements)
    except CheckpointError as error:
        logger.warning("%s: an interrupted fit cannot go on and begins anew (%s)", cell.title, error)
        if place.first:
            shutil.rmtree(unfinished)
            unfinished.mkdir()
        place.share(None)  # the folder is empty
        made = _fitted(cell, method, unfinished, measurements)
    result = {**asdict(made), "environment": machine()}
    if not place.first:
        return result
    shutil.rmtree(fitted, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    method.save(partial)
    result[HASH] = packaged.digest(partial)
    write_json(folder / "fit.json", result, durable=True)
    for name in (TABLE, PICTURE):  # they outlive the training
        if (unfinished / name).is_file():
            (unfinished / name).replace(folder / name)
    partial.replace(fitted)
    shutil.rmtree(unfinished)
    return result


def _fitted(cell: Cell, method: Method, folder: Path, measurements: Path) -> Fit:
    """Fit a method in a folder of its cell; what it has in common with another cell is fitted there, once."""
    problems = _problems(cell, measurements)
    if cell.network_cell is None or not isinstance(method, TrainedThenTuned):
        return method.fit(*problems, folder)
    trained = fit_cell(cell.network_cell, method.trained, folder.parents[1] / cell.network_cell.name, measurements)
    return method.tune(Fit(**{field.name: trained[field.name] for field in fields(Fit)}), *problems)


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
