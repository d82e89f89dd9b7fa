"""Run a suite: expand it to cells, run those that are not done, collect the results, write the report."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .attack import COLUMNS as ATTACK_COLUMNS
from .cells import ATTACK, COLUMNS, Cell, run_cell
from .data_specs import ImagesSpec
from .environment import environment
from .run_folder import RunFolder, disk_is_full, read_json, write_csv, write_json, write_text
from .schema import LoadedSuite, Suite
from .spec import did_you_mean
from .tasks import OpenTask
from .yaml_lines import Place, SuiteError

logger = logging.getLogger(__name__)

RunCells = Callable[[RunFolder, Mapping[OpenTask, list[Cell]], Callable[[str], object]], Generator[Cell, None, None]]
"""Runs cells, each task's after its measurements, tells what it is at, and yields each cell that has ended."""

RESULTS = ("task", "method", "seed", *COLUMNS)
ATTACKS = ("task", "method", "seed", *ATTACK_COLUMNS)


@dataclass(frozen=True)
class Outcome:
    """What a run ended with.

    Attributes:
        done: cells with results, those from before included.
        failed: titles of the cells asked for that failed, now or before, and "report" where that could not be written.
        report: the page.
    """

    done: int
    failed: tuple[str, ...]
    report: Path | None


def open_tasks(loaded: LoadedSuite) -> dict[str, OpenTask]:
    """Every task, with its images found and its operator tried, so that mistakes come before any computing.

    Raises:
        SuiteError: naming the line of images that are not there, of geometry that cannot be, of methods that have
            nothing to be fitted on.
    """
    by_images: dict[str, OpenTask] = {}
    tasks = {}
    for name in loaded.suite.tasks:
        task = OpenTask(loaded, name, by_images.get(loaded.suite.tasks[name].data))
        by_images.setdefault(task.spec.data, task)
        with loaded.at("data", task.spec.data):
            if not task.dataset.splits["test"]:
                raise ValueError("there are no test images")
            for method in loaded.suite.methods_of(name):
                fitted_here = method.weights is None and not method.trained_on() and task.spec.fitted_on is None
                for split in method.needs() if fitted_here else ():
                    if not task.dataset.splits[split]:
                        raise ValueError(f"there are no {split} images, which {method.key} is fitted on")
        for i, method in enumerate(loaded.suite.methods):
            if method.weights is not None and not method.weights.is_dir():
                raise loaded.lines.error(("methods", i, "weights"), f"there is no folder {method.weights}")
        _ = task.identity, task.description
        task.close()
        tasks[name] = task
    for task in tasks.values():
        _check_apart(loaded, task, tasks)
    return tasks


def _check_apart(loaded: LoadedSuite, task: OpenTask, tasks: dict[str, OpenTask]) -> None:
    """No patient of a task's test may be among those that its methods are fitted to on other tasks.

    Where the data are the same the splits say so; other data of the same files may be split in another way.
    """
    suite, folder = loaded.suite, _folder(loaded, task)
    elsewhere: dict[str, Place] = {}
    if task.spec.fitted_on is not None:
        elsewhere[task.spec.fitted_on] = ("tasks", task.name, "fitted_on")
    for method in suite.methods_of(task.name):
        elsewhere |= {called: ("methods", suite.methods.index(method), "train_on") for called in method.trained_on()}
    for called, place in elsewhere.items():
        for other in (tasks[name] for name in suite.tasks_called(called)):
            if other.spec.data == task.spec.data or folder is None or folder != _folder(loaded, other):
                continue
            fitted = {s.patient for split in ("train", "validation") for s in other.dataset.splits[split]}
            if both := fitted & {sample.patient for sample in task.dataset.splits["test"]}:
                raise loaded.lines.error(
                    place,
                    f"patient {min(both)} is tested in {task.name} and fitted to in {other.name}; split "
                    f"{task.spec.data} and {other.spec.data} alike",
                )


def _folder(loaded: LoadedSuite, task: OpenTask) -> Path | None:
    """Where the images of a task are files."""
    data = loaded.suite.data[task.spec.data]
    return data.place() if isinstance(data, ImagesSpec) else None


def expand(loaded: LoadedSuite, tasks: dict[str, OpenTask], *, retrain: bool = False) -> dict[str, list[Cell]]:
    """Cells by task: every method of the task with every one of its seeds, in the suite's order."""
    return {
        name: [Cell(task, method, seed, retrain) for method in loaded.suite.methods_of(name) for seed in method.seeds]
        for name, task in tasks.items()
    }


def choose(what: str, wanted: Sequence[str] | None, known: Collection[str]) -> set[str]:
    """The names asked for, all where none are.

    Raises:
        SuiteError: a name that does not exist.
    """
    if wanted is not None and not wanted:
        raise SuiteError(f"--{what} names none; known: {', '.join(known)}")
    for name in wanted or ():
        if name not in known:
            raise SuiteError(f"--{what} {name}: the suite has none of this name{did_you_mean(name, known)}")
    return set(known) if wanted is None else set(wanted)


def choose_tasks(suite: Suite, wanted: Sequence[str] | None, option: str = "tasks") -> set[str]:
    """The tasks asked for; the name of a family stands for all of its tasks."""
    return {task for name in choose(option, wanted, suite.task_names) for task in suite.tasks_called(name)}


def run_suite(
    loaded: LoadedSuite,
    out: Path,
    *,
    methods: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    retrain: bool = False,
    retry_failed: bool = False,
    fail_fast: bool = False,
    command: Sequence[str] = (),
    where: RunCells | None = None,
) -> Outcome:
    """Run or resume a suite in a folder.

    Cells that are done are kept, and so are failures, which are no accidents of a run. A cell that fails is written
    down with its traceback, and the others go on. What was removed or edited since is computed again.

    Args:
        loaded: the suite.
        out: the run folder.
        methods, tasks: run these only; results of others that are done stay in the report.
        retrain: fit anew where fitted methods are packaged.
        retry_failed: run cells again that failed before.
        fail_fast: stop at the first cell that fails.
        command: for the record.
        where: runs the cells; this process when None.

    Raises:
        SuiteError: for mistakes in the suite, found before anything is computed, and for a folder in use.
        DiskFullError: when results cannot be written.
    """
    chosen_methods = choose("methods", methods, [method.key for method in loaded.suite.methods])
    chosen_tasks = choose_tasks(loaded.suite, tasks)
    opened = open_tasks(loaded)
    cells = expand(loaded, opened, retrain=retrain)
    folder = RunFolder(out)
    with folder.room(), folder.locked(), folder.logging():
        logger.info("%s", " ".join(command) or f"run {loaded.suite.name}")
        write_text(out / "suite.yaml", loaded.suite.dump())
        write_json(out / "environment.json", environment(command, loaded.plugins))
        folder.keep(
            {name: task.key for name, task in opened.items()},
            {name: {cell.name for cell in group} for name, group in cells.items()},
        )

        def is_wanted(cell: Cell) -> bool:
            where = folder.cell(cell.task.name, cell.name)
            kept = cell.is_done(where) or (cell.has_failed(where) and not retry_failed)
            return cell.method.key in chosen_methods and not kept

        to_run = {opened[name]: list(filter(is_wanted, cells[name])) for name in cells if name in chosen_tasks}
        _run_cells(folder, to_run, fail_fast, where or run_here)
        _describe(folder, opened, cells)
        asked = [c for name in chosen_tasks for c in cells[name] if c.method.key in chosen_methods]
        return _collect(folder, cells, asked)


def _run_cells(folder: RunFolder, to_run: Mapping[OpenTask, list[Cell]], fail_fast: bool, where: RunCells) -> None:
    with (
        tqdm(total=sum(map(len, to_run.values())), unit="cell", disable=None) as bar,
        contextlib.closing(where(folder, to_run, bar.set_description)) as ended,
    ):
        for cell in ended:
            _tell(cell, folder.cell(cell.task.name, cell.name))
            bar.update()
            if fail_fast and cell.has_failed(folder.cell(cell.task.name, cell.name)):
                return


def run_here(
    folder: RunFolder, to_run: Mapping[OpenTask, list[Cell]], say: Callable[[str], object]
) -> Generator[Cell, None, None]:
    """Run cells one after another in this process, each task's after its measurements; yields each that has ended."""
    for task, cells in to_run.items():
        say(f"{task.name} · simulating")
        _measure(task, folder.task(task.name))
        for cell in cells:
            say(cell.title)
            run_cell(cell, folder.cell(task.name, cell.name), folder.task(task.name))
            yield cell
        task.close()


def _measure(task: OpenTask, folder: Path) -> None:
    images = sum(len(task.dataset.splits[split]) for split in ("validation", "test"))
    with tqdm(total=images, desc="measurements", unit="image", leave=False, disable=None) as bar:
        try:
            task.measure(folder, bar.update)
        except Exception as error:  # the task's cells meet it again, and write it down; other tasks go on
            if disk_is_full(error):
                raise
            logger.exception("%s: measurements cannot be simulated", task.name)


def _tell(cell: Cell, folder: Path) -> None:
    status = read_json(folder / "status.json")
    if status.get("state") == "done":
        values = [float(row["psnr"]) for row in cell.rows(folder)]
        fit = status["seconds_fit"] or 0.0
        seconds = [float(row["seconds"]) for row in cell.rows(folder)]
        line = f"{sum(values) / len(values):6.2f} dB, {sum(seconds) / len(seconds):.3g} s an image, fit {fit:.3g} s"
    else:
        line = f"failed: {status.get('error')}"
    logger.info("%s: %s", cell.title, line)
    tqdm.write(f"{cell.title:<48} {line}", file=sys.stderr)


def _describe(folder: RunFolder, tasks: dict[str, OpenTask], cells: dict[str, list[Cell]]) -> None:
    """Write down again what the report says in words: titles, labels, the reference; no number depends on them."""
    for name, task in tasks.items():
        if described := read_json(folder.task(name) / "task.json"):
            write_json(folder.task(name) / "task.json", {**described, **task.description})
        for cell in cells[name]:
            where = folder.cell(name, cell.name) / "spec.json"
            if spec := read_json(where):
                write_json(where, {**spec, "label": cell.method.heading})


def _collect(folder: RunFolder, cells: dict[str, list[Cell]], asked: list[Cell]) -> Outcome:
    rows: list[dict[str, Any]] = []
    attacks: list[dict[str, Any]] = []
    failed: list[str] = []
    done = 0
    for name, group in cells.items():
        for cell in group:
            where = folder.cell(name, cell.name)
            if cell.is_done(where):
                rows += cell.rows(where)
                attacks += cell.rows(where, ATTACK) if ATTACK in cell.files else []
                done += 1
            elif cell in asked and cell.has_failed(where):
                failed.append(cell.title)
    write_csv(folder.path / "results.csv", RESULTS, rows)
    if any(ATTACK in cell.files for group in cells.values() for cell in group):
        write_csv(folder.path / ATTACK, ATTACKS, attacks)
    else:
        (folder.path / ATTACK).unlink(missing_ok=True)
    report: Path | None = None
    try:
        from .report import write_report

        report = write_report(folder.path)
    except Exception as error:  # the results are there; a picture that cannot be drawn must not hide them
        if disk_is_full(error):
            raise
        logger.exception("the report failed")
        tqdm.write(f"the report failed: {type(error).__name__}: {error}; see log.txt", file=sys.stderr)
        failed.append("report")
    return Outcome(done, tuple(failed), report)
