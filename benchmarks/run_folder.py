"""A run is a folder: where everything lies, how it is written, and who may write."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import functools
import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..data.whole_file import remove_leftovers, whole_file
from .yaml_lines import SuiteError

LOCK = "run.lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(OSError):
    """There is no room for results; once there is, the same command goes on."""


class RunFolder:
    """``suite.yaml environment.json results.csv report.html figures/ log.txt tasks/TASK/ cells/TASK/METHOD-SEED-KEY/``.

    What a changed suite no longer needs is moved to ``stale/`` and comes back when it is needed again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def task(self, name: str) -> Path:
        return self.path / "tasks" / name

    def cell(self, task: str, name: str) -> Path:
        return self.path / "cells" / task / name

    def stale_cell(self, task: str, name: str) -> Path:
        return self.path / "stale" / "cells" / task / name

    def cells(self) -> list[tuple[str, Path]]:
        """The cells that are there, each with its task."""
        return _cells(self.path / "cells")

    def stale_cells(self) -> list[tuple[str, Path]]:
        """The cells of other versions of the suite."""
        return _cells(self.path / "stale" / "cells")

    def owner(self) -> str | None:
        """The process that is running here; None where there is none."""
        try:
            file = (self.path / LOCK).open("r")
        except OSError:
            return None
        with file:
            return file.read().strip() or "unknown" if _is_held(file) else None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep other processes out; the system lets go of the lock when a process dies.

        Raises:
            SuiteError: when another process is running here, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / LOCK).open("a+")
        except OSError as error:
            raise SuiteError(
                f"{self.path}: cannot write the run there: {error.strerror}; choose another --out"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise SuiteError(f"{self.path}: the file system gives no lock: {error.strerror}") from error
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise SuiteError(
                    f"{self.path}: process {owner} is running here; wait for it, or choose another --out"
                ) from error
            file.truncate(0)
            file.write(f"{os.getpid()} on {platform.node()}\n")
            file.flush()
            remove_leftovers(self.path)
            yield

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Say in one line that the disk is full.

        Raises:
            DiskFullError: for an error that comes of it.
        """
        try:
            yield
        except Exception as error:
            if not disk_is_full(error):
                raise
            raise DiskFullError(
                f"{self.path}: the disk is full or the quota used up; make room, and the same command goes on"
            ) from error

    @contextlib.contextmanager
    def logging(self) -> Iterator[logging.Logger]:
        """The package's logger, appended to ``log.txt``."""
        logger = logging.getLogger(__package__.partition(".")[0])
        handler = logging.FileHandler(self.path / "log.txt", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        handler.handleError = lambda record: None  # type: ignore[method-assign]  # a log must not end what it is about
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield logger
        finally:
            logger.setLevel(level)
            logger.removeHandler(handler)
            handler.close()

    def keep(self, tasks: Mapping[str, str], cells: Mapping[str, set[str]]) -> None:
        """Move to ``stale/`` what belongs to another version of the suite, and bring back what was moved before.

        Args:
            tasks: key by task.
            cells: names of cells by task.
        """
        for folder in _folders(self.path / "tasks"):
            key = read_json(folder / "task.json").get("key", "unknown")
            if tasks.get(folder.name) != key:
                _move(folder, self.path / "stale" / "tasks" / f"{folder.name}-{key}")
        for task_name, folder in self.cells():
            if folder.name not in cells.get(task_name, ()):
                _move(folder, self.stale_cell(task_name, folder.name))
        for task in _folders(self.path / "cells"):
            if task.name not in cells and not any(task.iterdir()):
                task.rmdir()
        for name, key in tasks.items():
            _bring_back(self.path / "stale" / "tasks" / f"{name}-{key}", self.task(name))
            for cell in cells[name]:
                _bring_back(self.stale_cell(name, cell), self.cell(name, cell))


@contextlib.contextmanager
def alone(folder: Path, lock: str = ".lock") -> Iterator[None]:
    """Make a folder and do there what no other process may do at the same time.

    One process holds the whole run, but its workers share fits, and one on another machine may go on after its run was
    killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is that of a full disk or a quota that is used up."""
    # Libraries that write by themselves (HDF5, safetensors) pass on the system's words only.
    words = tuple(os.strerror(number) for number in _FULL)
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in _FULL or any(text in str(cause) for text in words):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file, read again only when the file was written again; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return _digest(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, state: tuple[int, ...]) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a file; whole or not at all."""
    with whole_file(path, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = False) -> None:
    """Plain data; whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", durable=durable)


def read_json(path: Path) -> dict[str, Any]:
    """What :func:`write_json` wrote; empty where there is none or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A table; whole or not at all."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_worked_on(folder: Path, lock: str = ".lock") -> bool:
    """Whether a process is in :func:`alone` there."""
    try:
        file = (folder / lock).open("r")
    except OSError:
        return False
    with file:
        return _is_held(file)


def _is_held(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _cells(path: Path) -> list[tuple[str, Path]]:
    return [(task.name, cell) for task in _folders(path) for cell in _folders(task)]


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _move(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _bring_back(source: Path, target: Path) -> None:
    if source.is_dir() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
