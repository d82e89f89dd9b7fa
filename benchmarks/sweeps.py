"""Families of tasks that differ in a swept value, as curves over that value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .charts import Drawn, Point, sweep
from .judgement import Judgement
from .plots import Look
from .record import Task


@dataclass(frozen=True)
class Family:
    """Tasks of one name whose ``sweep`` in ``task.json`` has the same paths."""

    name: str
    tasks: list[Task]
    results: list[Judgement]

    @property
    def across(self) -> str:
        """The path along the axis: that with the most numbers, the first of them."""
        paths = list(self.tasks[0].info["sweep"])
        return max(paths, key=lambda path: (all(_is_number(v) for v in self.values(path)), len(self.values(path))))

    def values(self, path: str) -> list[Any]:
        """What it is swept over, each value once; numbers in order."""
        found = list(dict.fromkeys(task.info["sweep"].get(path) for task in self.tasks))
        return sorted(found) if all(_is_number(v) for v in found) else found

    def draw(self, looks: Mapping[str, Look]) -> Drawn:
        """One panel for every combination of the other paths."""
        across = self.across
        panels: dict[str, dict[str, list[Point]]] = {}
        values = self.values(across)
        named = {} if all(_is_number(v) for v in values) else {i: str(v) for i, v in enumerate(values)}
        measure, units = self.results[0].measure, self.results[0].units
        for task, result in zip(self.tasks, self.results, strict=True):
            swept = task.info["sweep"]
            title = ", ".join(f"{phrase(p)} {v}" for p, v in swept.items() if p != across)
            panel = panels.setdefault(title, {})
            for s in result.summaries:
                mean, interval = s.mean[measure.name], s.interval[measure.name]
                if math.isfinite(mean) and (mean > 0 or not measure.error):
                    low, high = (mean, mean) if interval is None else (interval.low, interval.high)
                    x = values.index(swept[across]) if named else float(swept[across])
                    panel.setdefault(s.method, []).append((x, mean, low, high))
        ordered = {t: {m: panel[m] for m in looks if m in panel} for t, panel in panels.items()}
        return sweep(ordered, looks, phrase(across), measure, units, named)


def families(tasks: Sequence[Task], results: Sequence[Judgement]) -> list[Family]:
    """Families with results of two tasks or more, in the order of their first tasks."""
    found: dict[tuple[str, ...], Family] = {}
    for task, result in zip(tasks, results, strict=True):
        name, swept = task.info.get("family"), task.info.get("sweep")
        if name and swept and result.reference is not None:
            family = found.setdefault((name, *sorted(swept)), Family(str(name), [], []))
            family.tasks.append(task)
            family.results.append(result)
    return [family for family in found.values() if len(family.tasks) > 1]


def phrase(path: str) -> str:
    """``physics.geometry.views`` in a word: what the last step says."""
    return path.split(".")[-1].replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
