"""``isocenter status``: how far a run is, from its folder alone; a run that is going on is not disturbed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .environment import differences
from .run_folder import RunFolder, is_worked_on, read_csv, read_json
from .schema import load_suite
from .verdict import duration
from .yaml_lines import SuiteError

TRAINING = "training.csv"  # what isocenter.unrolled.learning_curve writes; its import would take seconds
CELL = re.compile(r"(?P<method>.+)-(?P<seed>\d+)-[0-9a-f]+")  # the name of its folder
STATES = ("done", "failed", "running", "interrupted", "to run")


@dataclass
class _Task:
    """What has become of a task's cells."""

    states: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def status_lines(run: Path) -> Iterator[str]:
    """Lines of a table: cells of every task by state and the time that they took, then what is running or failed.

    Raises:
        SuiteError: no run folder.
    """
    if not (run / "suite.yaml").is_file():
        raise SuiteError(f"{run} is not a run folder: it has no suite.yaml; expected a folder such as runs/quickstart")
    suite = load_suite(run / "suite.yaml").suite
    folder = RunFolder(run)
    named = ((task, path, CELL.fullmatch(path.name)) for task, path in folder.cells())
    found = {(task, name["method"], int(name["seed"])): path for task, path, name in named if name}
    tasks: dict[str, _Task] = {name: _Task() for name in suite.tasks}
    environments: list[dict[str, Any]] = []
    for name, task in tasks.items():
        for method in suite.methods_of(name):
            for seed in method.seeds:
                path = found.get((name, method.key, seed))
                title = f"{method.heading}, seed {seed}" if len(method.seeds) > 1 else method.heading
                environments.append(_count(task, f"{name} · {title}", path).get("environment") or {})
    owner = folder.owner()
    yield f"{suite.name} in {run}: {f'process {owner} is running' if owner else 'nothing is running'}"
    yield ""
    shown = [state for state in STATES if any(task.states[state] for task in tasks.values())]
    width = max(len(name) for name in (*tasks, "all"))
    yield f"{'task':<{width}}  {'  '.join(f'{state:>11}' for state in shown)}  time"
    total = _Task(sum((task.states for task in tasks.values()), Counter()), sum(t.seconds for t in tasks.values()))
    for name, task in [*tasks.items(), ("all", total)]:
        counts = "  ".join(f"{task.states[state] or '–':>11}" for state in shown)
        yield f"{name:<{width}}  {counts}  {duration(task.seconds) if task.seconds else '–'}"
    notes = [note for task in tasks.values() for note in task.notes] + differences(environments)
    yield from ["", *notes] if notes else []


def _count(task: _Task, title: str, path: Path | None) -> dict[str, Any]:
    """Add a cell to its task; returns its ``status.json``."""
    status = read_json(path / "status.json") if path else {}
    state = str(status.get("state", "to run"))
    if path and not status:
        state = "running" if is_worked_on(path) else "interrupted"
        rows = read_csv(path / "fit" / TRAINING)
        at = (
            f", step {rows[-1]['step']}, {float(rows[-1]['validation_psnr']):.2f} dB on validation images"
            if rows
            else ""
        )
        task.notes.append(f"{state}: {title}{at}")
    if state == "failed":
        task.notes.append(f"failed: {title}: {' '.join(str(status.get('error')).split())}")
    task.states[state] += 1
    task.seconds += float(status.get("seconds_total") or 0.0)
    return status
