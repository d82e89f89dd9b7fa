"""A finished or unfinished run, read back from its folder for the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_GROUPS = ("direct", "classical", "learned")


@dataclass(frozen=True)
class Cell:
    """One method with one seed on one task, as its folder tells."""

    folder: Path
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    fit: Mapping[str, Any]

    @property
    def method(self) -> str:
        return str(self.spec.get("method") or self.folder.name.rsplit("-", 2)[0])  # METHOD-SEED-KEY

    @property
    def label(self) -> str:
        return str(self.spec.get("label") or self.method)

    @property
    def seed(self) -> str:
        return str(self.spec.get("seed", "?"))

    @property
    def budget(self) -> str:
        """What the fit was allowed and what it chose, in words; empty for methods without a fit."""
        budget = str(self.fit.get("budget") or "none")
        chosen = self.fit.get("chosen") or {}
        values = ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in chosen.items())
        return "" if budget == "none" else f"{budget} → {values}" if values else budget

    @property
    def trace(self) -> dict[str, np.ndarray]:
        """Columns of ``trace.csv``, NaN where there is no number; empty where the method made none."""
        path = self.folder / "trace.csv"
        if not path.is_file():
            return {}
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]} if rows else {}

    @property
    def state(self) -> str:
        return str(self.status.get("state", "unfinished"))


@dataclass(frozen=True)
class Task:
    """A task of a run folder: its description, its cells and its rows of ``results.csv`` and ``attack.csv``."""

    name: str
    info: Mapping[str, Any]
    cells: tuple[Cell, ...]
    rows: tuple[Mapping[str, str], ...]
    attacks: tuple[Mapping[str, str], ...] = ()

    @property
    def notes(self) -> list[str]:
        """Warnings of the task and of its cells, each once."""
        notes = [str(warning) for warning in self.info.get("warnings") or ()]
        for cell in self.cells:
            for warning in [*(cell.status.get("warnings") or ()), *(cell.fit.get("warnings") or ())]:
                notes.append(f"{cell.label}: {warning}")
        return list(dict.fromkeys(notes))

    def largest(self, key: str) -> dict[str, float]:
        """A number of ``status.json`` by method, the largest over training seeds."""
        found: dict[str, float] = {}
        for cell in self.cells:
            value = cell.status.get(key)
            if cell.state == "done" and isinstance(value, int | float):
                found[cell.method] = max(found.get(cell.method, 0.0), float(value))
        return found

    def mean(self, column: str) -> dict[str, float]:
        """Mean of a column of ``results.csv`` by method, over images and seeds; without methods that have no number."""
        numbers: dict[str, list[float]] = {}
        for row in self.rows:
            if row.get(column):
                numbers.setdefault(row["method"], []).append(float(row[column]))
        return {method: sum(values) / len(values) for method, values in numbers.items()}


def read_tasks(run: Path) -> list[Task]:
    """The tasks of a run folder, in the order of ``results.csv``, with those that have no results last.

    Raises:
        ValueError: if a file is broken.
    """
    rows = _rows(run / "results.csv", "task", "method", "seed", "image")
    attacks = _rows(run / "attack.csv", "task", "method", "seed", "strength", "perturbation", "image")
    folders = [p for base in ("tasks", "cells") if (run / base).is_dir() for p in (run / base).iterdir() if p.is_dir()]
    present = {folder.name for folder in folders} | {row["task"] for row in rows}
    order = {name: i for i, name in enumerate(dict.fromkeys(row["task"] for row in rows))}  # the suite's order
    names = sorted(present, key=lambda name: (order.get(name, len(order)), name))
    return [
        Task(
            name,
            read_json(run / "tasks" / name / "task.json"),
            _cells(run / "cells" / name),
            tuple(row for row in rows if row["task"] == name),
            tuple(row for row in attacks if row["task"] == name),
        )
        for name in names
    ]


def _rows(path: Path, *needed: str) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(needed) - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: no column {', '.join(sorted(missing))}; delete the file and run the suite again")
        return list(reader)


def _cells(folder: Path) -> tuple[Cell, ...]:
    if not folder.is_dir():
        return ()
    cells = [
        Cell(path, read_json(path / "spec.json"), read_json(path / "status.json"), read_json(path / "fit.json"))
        for path in sorted(folder.iterdir())
        if path.is_dir()
    ]
    return tuple(sorted(cells, key=lambda c: (_rank(c), c.method, c.seed.rjust(9))))


def _rank(cell: Cell) -> int:
    group = cell.spec.get("group")
    return _GROUPS.index(group) if group in _GROUPS else len(_GROUPS)


def method_labels(tasks: Sequence[Task]) -> dict[str, str]:
    """Labels of all methods of a run, direct ones first, then in the suite's order: that of colours and tables."""
    seen = {method: i for i, method in enumerate(dict.fromkeys(r["method"] for task in tasks for r in task.rows))}
    cells = [cell for task in tasks for cell in task.cells]
    cells.sort(key=lambda cell: (_rank(cell), seen.get(cell.method, len(seen))))
    labels: dict[str, str] = {}
    for cell in cells:  # those that are only trained so far know no label, and come last
        labels.setdefault(cell.method, cell.label)
    return labels | {method: method for method in seen if method not in labels}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error}); delete its folder and run the suite again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected an object; delete its folder")
    return content
