"""``--set a.b=c``: change one value of a suite before it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from .spec import did_you_mean
from .yaml_lines import Lines, Place, SuiteError, one_line, parse, spell


def override(raw: dict[str, Any], lines: Lines, text: str) -> None:
    """Apply ``a.b=c`` to the data of a YAML file; the value is YAML, and what :func:`assign` takes leads to it.

    Raises:
        SuiteError: text without ``=``, a step that leads nowhere, or a value that is not YAML.
    """
    path, separator, value_text = text.partition("=")
    steps = path.strip().split(".")
    if not separator or not all(steps):
        raise SuiteError(f"--set {text}: expected key.key=value, such as --set tasks.NAME.noise.sigma=0.02")
    try:
        value = parse(value_text)
    except (yaml.YAMLError, ValueError) as error:
        raise SuiteError(f"--set {text}: the value is not YAML: {one_line(error)}") from error
    try:
        for place in assign(raw, steps, value):
            lines.came_from(place, f"--set {text}")
    except LookupError as error:
        raise SuiteError(f"--set {text}: {error.args[0]}") from error


def assign(container: Any, steps: Sequence[str], value: Any, place: Place = ()) -> list[Place]:
    """Set a value in mappings and lists, and return the places where it stands now.

    Steps are keys; positions, names or kinds in lists; or ``*`` for every entry. Keys that hold dots, such as those of
    a grid, are found too. Mappings on the way that are not there are made, but no dataset and no task.

    Raises:
        LookupError: a step that leads nowhere.
    """
    if isinstance(container, dict) and ".".join(steps) in container:
        steps = [".".join(steps)]
    places = []
    for key in _keys(container, place, steps[0]):
        here = (*place, key)
        if len(steps) == 1:
            container[key] = value
            places.append(here)
            continue
        if isinstance(container, dict) and key not in container:
            if place in (("tasks",), ("data",)):
                raise LookupError(f"{spell(place)} has no {key!r}{did_you_mean(key, container)}")
            container[key] = {}
        places += assign(container[key], steps[1:], value, here)
    return places


def _keys(container: Any, place: Place, step: str) -> list[Any]:
    where = spell(place) or "the suite"
    if isinstance(container, dict):
        return list(container) if step == "*" else [step]
    if isinstance(container, list):
        if step == "*":
            return list(range(len(container)))
        if step.isdigit() and int(step) < len(container):
            return [int(step)]
        names = [entry.get("name", entry.get("kind")) if isinstance(entry, dict) else None for entry in container]
        if step in names:
            return [names.index(step)]
        known = [str(name) for name in names if name is not None]
        raise LookupError(f"{where} has no entry {step!r}{did_you_mean(step, known)}")
    raise LookupError(f"{where} is a single value, {container!r}, and has no {step!r}")
