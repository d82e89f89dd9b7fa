"""What a Dask worker does of a run: one cell, or one task's measurements, in the run folder that it shares."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from distributed import get_worker

from ..unrolled.distributed import place
from .cells import Cell, run_cell
from .run_folder import LOCK, RunFolder, file_digest
from .schema import load_suite
from .tasks import OpenTask
from .time_limit import raise_in
from .yaml_lines import SuiteError

_one_at_a_time = threading.Lock()  # a cell has all of its process: its threads, memory, warnings and standard error
_thread: int | None = None


class StoppedError(BaseException):
    """The run is interrupted; a cell leaves no status and is run again."""


@dataclass(frozen=True)
class Work:
    """A piece of a run, as it is told to a worker.

    Attributes:
        folder: of the run.
        suite: hash of its ``suite.yaml``.
        device: for networks, as for ``--device``.
        task: name of the task.
        cell: method, seed and name of the cell's folder; None for the task's measurements.
        retrain: as for :class:`Cell`.
    """

    folder: Path
    suite: str
    device: str | None
    task: str
    cell: tuple[str, int, str] | None = None
    retrain: bool = False


def do(work: Work) -> None:
    """Do it, unless it is done; a failure of a cell is written down and not raised.

    Raises:
        SuiteError: when this process would compute something else than the run asks for.
    """
    global _thread
    folder = RunFolder(work.folder)
    with (
        _one_at_a_time,
        folder.logging(),
        (work.folder / "log.txt").open("a", encoding="utf-8") as log,
        contextlib.redirect_stderr(log),  # progress bars of several processes would write over each other
        place(work.device),
    ):
        torch.set_num_threads(get_worker().state.nthreads)
        _thread = threading.get_ident()
        try:
            task = _task(work.folder, work.suite, work.task)
            if work.cell is None:
                task.measure(folder.task(work.task))
                return
            key, seed, name = work.cell
            method = next(method for method in task.loaded.suite.methods_of(work.task) if method.key == key)
            cell = Cell(task, method, seed, work.retrain)
            if cell.name != name:
                raise SuiteError(
                    f"a worker at {get_worker().address} would compute {cell.name} where the run asks for {name}; "
                    "do all machines have the same version of isocenter, the same plugins and the same data?"
                )
            run_cell(cell, folder.cell(work.task, name), folder.task(work.task))
        finally:
            _thread = None


def greet(folder: Path, owner: str, ours: bool) -> None:
    """Look whether the run is here.

    Args:
        folder: of the run.
        owner: what its lock says.
        ours: the run started this process, which Ctrl-C then reaches as well; the run will tell it.

    Raises:
        SuiteError: when this machine has no such folder, or another one of the same name.
    """
    try:
        found = (folder / LOCK).read_text(encoding="utf-8")
    except OSError as error:
        raise SuiteError(error.strerror) from error
    if found != owner:
        raise SuiteError("it is another folder of the same name")
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def stop() -> None:
    """Interrupt what :func:`do` is doing in this process."""
    if _thread is not None:
        raise_in(_thread, StoppedError)


@functools.lru_cache(maxsize=1)  # the last task only: it holds training images
def _task(folder: Path, suite: str, name: str) -> OpenTask:
    path = folder / "suite.yaml"
    if file_digest(path) != suite:
        raise SuiteError(f"{path} is not the suite that is run; is another run using the folder?")
    return OpenTask(load_suite(path), name)
