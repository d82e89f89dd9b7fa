"""``isocenter run --dry-run``: what a run would do with every cell, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .cells import Cell
from .changes import changes
from .run_folder import RunFolder, read_json

State = Literal["cached", "failed", "to run", "stale"]


@dataclass(frozen=True)
class Plan:
    """What happens to a cell.

    ``cached`` is kept, ``failed`` as well (it is not run again unasked), ``to run`` is computed, and ``stale`` is moved
    away because the suite does not have it any more.
    """

    state: State
    cell: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.state:<7} {self.cell}{f'  ({self.why})' if self.why else ''}"


def plan(
    folder: RunFolder,
    cells: Mapping[str, Sequence[Cell]],
    methods: Collection[str],
    tasks: Collection[str],
    *,
    retry_failed: bool = False,
) -> list[Plan]:
    """The plan of a run that is asked for these methods and tasks, in the suite's order, stale cells last."""
    chosen = [c for task in cells if task in tasks for c in cells[task] if c.method.key in methods]
    names = {(task, cell.name) for task, group in cells.items() for cell in group}
    stale = [Plan("stale", f"{task}/{path.name}") for task, path in folder.cells() if (task, path.name) not in names]
    return [*(_plan(folder, cell, retry_failed) for cell in chosen), *stale]


def summary(plans: Sequence[Plan]) -> str:
    """How many cells of each state."""
    counts = Counter(entry.state for entry in plans)
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "no cells"


def _plan(folder: RunFolder, cell: Cell, retry_failed: bool) -> Plan:
    name = f"{cell.task.name}/{cell.name}"
    here = folder.cell(cell.task.name, cell.name)
    where = here if here.exists() else folder.stale_cell(cell.task.name, cell.name)
    moved = " in stale/, and comes back" if where != here else ""
    if cell.is_done(where):
        return Plan("cached", name, f"it is{moved}" if moved else "")
    if cell.has_failed(where):
        error = " ".join(str(read_json(where / "status.json").get("error")).split())
        return Plan("to run" if retry_failed else "failed", name, f"{error}{moved}")
    return Plan("to run", name, "; ".join(_reasons(folder, cell, where)))


def _reasons(folder: RunFolder, cell: Cell, where: Path) -> Iterator[str]:
    if read_json(where / "status.json").get("state") == "done":
        yield f"{' or '.join(cell.files)} was removed or changed"
    elif where.exists():
        yield "it was interrupted"
    else:
        yield _difference(cell, folder)
    if cell.weights is not None:
        yield "with packaged weights" if cell.method.weights is None else f"with the weights in {cell.method.weights}"
    elif (where / "fitted").is_dir():
        yield "its fit is there"
    elif (where / "fit").is_dir() and any((where / "fit").iterdir()):
        yield "its fit goes on"


def _difference(cell: Cell, folder: RunFolder) -> str:
    """What differs from the version of the cell that the folder holds."""
    others = [
        path
        for task, path in [*folder.cells(), *folder.stale_cells()]
        if task == cell.task.name and path.name.rsplit("-", 1)[0] == cell.name.rsplit("-", 1)[0]
    ]
    if not others:
        return "new"
    latest = max(others, key=lambda path: path.stat().st_mtime)
    before = read_json(latest / "spec.json").get("identity") or {}
    found = changes(before, cell.identity) if before else []
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"changed: {', '.join(found[:3])}{more}" if found else f"changed since {latest.name}"
