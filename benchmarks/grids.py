"""``grid:`` in a task: lists of values, every combination of which is a task of its own."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from .overrides import assign
from .spec import SINGLE, did_you_mean
from .yaml_lines import Lines, Place

ROOTS = ("physics", "noise", "data")
LARGEST = 1000  # tasks of one grid


@dataclass(frozen=True)
class _Axis:
    """One entry of a grid: a dotted path in the task, what it is called in names, and its values."""

    path: str
    word: str
    values: tuple[Any, ...]

    @property
    def steps(self) -> list[str]:
        return self.path.split(".")

    @property
    def varies_images(self) -> bool:
        """Whether it is ``data.…``, a key of the task's dataset, rather than one of the task."""
        return self.steps[0] == "data" and len(self.steps) > 1

    def label(self, i: int) -> str:
        """A value in names: itself, the kind of a mapping, or its position where these do not tell values apart."""
        labels = [_label(value, k) for k, value in enumerate(self.values)]
        return labels[i] if len(set(labels)) == len(labels) else str(i + 1)


def expand_grids(raw: dict[str, Any], lines: Lines) -> None:
    """Replace every task that has a grid by its tasks, in place.

    A grid of a task ``ct``, ``{physics.geometry.views: [20, 30], noise.sigma: [0, 1]}``, gives ``ct-views-20-sigma-0``
    and three more, of the ``family`` ct, each with its values in ``sweep``. ``data.KEY`` varies the task's dataset: for
    every value there is a variant of it, ``torso-train-10``.

    Raises:
        SuiteError: naming the line of a grid that is no mapping of paths to lists, or leads to nothing.
    """
    tasks = raw.get("tasks")
    if not isinstance(tasks, dict):
        return
    expanded: dict[str, Any] = {}
    for name, task in tasks.items():
        made = _tasks(raw, name, task, lines) if isinstance(task, dict) and "grid" in task else {name: task}
        for new in made:
            if new in expanded or (new in tasks and new != name):
                raise lines.error(("tasks", name, "grid"), f"it makes a task {new!r}, which the suite has already")
        expanded.update(made)
    raw["tasks"] = expanded


def _tasks(raw: dict[str, Any], name: str, task: dict[str, Any], lines: Lines) -> dict[str, Any]:
    base = {key: value for key, value in task.items() if key != "grid"}
    place: Place = ("tasks", name)
    axes = _axes(task["grid"], (*place, "grid"), lines)
    made: dict[str, Any] = {}
    for choice in itertools.product(*(range(len(axis.values)) for axis in axes)):
        chosen = list(zip(axes, choice, strict=True))
        new = "-".join([name, *(f"{axis.word}-{axis.label(i)}" for axis, i in chosen)])
        result = copy.deepcopy(base)
        lines.move(place, ("tasks", new))
        for axis, i in chosen:
            if not axis.varies_images:
                _assign(result, ("tasks", new), axis.steps, axis, i, name, lines)
        if images := [(axis, i) for axis, i in chosen if axis.varies_images]:
            result["data"] = _variant(raw.get("data"), result.get("data", SINGLE), images, name, lines)
        title = task.get("title") or name
        if isinstance(title, str):
            result["title"] = ", ".join([title, *(f"{axis.word} {axis.label(i)}" for axis, i in chosen)])
        result["family"] = name
        result["sweep"] = {axis.path: _plain(axis.values[i]) for axis, i in chosen}
        made[new] = result
    return made


def _axes(grid: Any, place: Place, lines: Lines) -> list[_Axis]:
    if not isinstance(grid, dict) or not grid:
        raise lines.error(place, "expected paths with lists of values, such as {physics.geometry.views: [20, 30]}")
    for path, values in grid.items():
        root, *rest = path.split(".")
        if root not in ROOTS or not all(rest):
            advice = "a grid varies what is below physics, noise or data, such as physics.geometry.views"
            raise lines.error(place, f"{advice}; got {path!r}{did_you_mean(root, ROOTS)}", path)
        if not isinstance(values, list) or not values:
            raise lines.error((*place, path), f"is {values!r}, expected a list of values")
        for i, value in enumerate(values):
            if value in values[:i]:
                raise lines.error((*place, path, i), f"{value!r} is given twice")
    if math.prod(len(values) for values in grid.values()) > LARGEST:
        raise lines.error(place, f"it makes more than {LARGEST} tasks")
    words = _words(list(grid))
    return [_Axis(path, word, tuple(grid[path])) for path, word in zip(grid, words, strict=True)]


def _words(paths: Sequence[str]) -> list[str]:
    """The last key of each path, and of two that end alike as many more as tell them apart."""
    words = []
    for path in paths:
        steps = path.split(".")
        others = [other.split(".") for other in paths if other != path]
        n = next(n for n in range(1, len(steps) + 1) if n == len(steps) or all(o[-n:] != steps[-n:] for o in others))
        words.append("-".join(steps[-n:]))
    return words


def _variant(datasets: Any, source: Any, images: Sequence[tuple[_Axis, int]], task: str, lines: Lines) -> Any:
    """Add a dataset with the values chosen and return its name."""
    if not isinstance(datasets, dict) or not isinstance(source, str) or not isinstance(datasets.get(source), dict):
        return source  # there is no such dataset, which is found out later
    new = "-".join([source, *(f"{axis.word}-{axis.label(i)}" for axis, i in images)])
    variant = copy.deepcopy(datasets[source])
    lines.move(("data", source), ("data", new))
    for axis, i in images:
        _assign(variant, ("data", new), axis.steps[1:], axis, i, task, lines)
    if datasets.setdefault(new, variant) != variant:
        raise lines.error(("tasks", task, "grid"), f"it makes data {new!r}, which the suite has already")
    return new


def _assign(container: Any, place: Place, steps: list[str], axis: _Axis, i: int, task: str, lines: Lines) -> None:
    origin = ("tasks", task, "grid", axis.path)
    try:
        for keys in assign(container, steps, copy.deepcopy(axis.values[i])):
            for n in range(1, len(keys)):
                lines.note((*place, *keys[:n]), lines.line(origin))
            lines.move((*origin, i), (*place, *keys))
    except LookupError as error:
        raise lines.error(origin, str(error.args[0])) from error


def _label(value: Any, position: int) -> str:
    if isinstance(value, (dict, list)):
        kind = value.get("kind") if isinstance(value, dict) else None
        return _label(kind, position) if isinstance(kind, str) else str(position + 1)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:g}"
        return text if float(text) == value else repr(value)
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", str(value))


def _plain(value: Any) -> Any:
    """A value as a scalar, for axes of curves: mappings and lists as YAML on one line."""
    if isinstance(value, (dict, list)):
        plain = json.loads(json.dumps(value))
        return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=math.inf).strip()
    return value
