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

    Steps are keys; positions, names or kinds in lists; or ``*`` for every entry. Keys and names that hold dots are
    found. Mappings on the way that are not there are made, but no dataset and no task.

    Raises:
        LookupError: a step that leads nowhere.
    """
    known = _names(container)
    n = next((n for n in range(len(steps), 1, -1) if ".".join(steps[:n]) in known), 1)
    step, rest = ".".join(steps[:n]), steps[n:]
    places = []
    for key in _keys(container, place, step, known):
        here = (*place, key)
        if not rest:
            container[key] = value
            places.append(here)
            continue
        if isinstance(container, dict) and key not in container:
            if place in (("tasks",), ("data",)):
                raise LookupError(f"{spell(place)} has no {key!r}{did_you_mean(key, container)}")
            container[key] = {}
        places += assign(container[key], rest, value, here)
    return places


def _names(container: Any) -> list[str]:
    """What entries are called."""
    if isinstance(container, list):
        return [str(entry.get("name", entry.get("kind"))) if isinstance(entry, dict) else "" for entry in container]
    return list(container) if isinstance(container, dict) else []


def _keys(container: Any, place: Place, step: str, known: list[str]) -> list[Any]:
    where = spell(place) or "the suite"
    if isinstance(container, dict):
        return known if step == "*" else [step]
    if not isinstance(container, list):
        raise LookupError(f"{where} is a single value, {container!r}, and has no {step!r}")
    if step == "*":
        return list(range(len(container)))
    if step.isdigit() and int(step) < len(container):
        return [int(step)]
    if step in known:
        return [known.index(step)]
    raise LookupError(f"{where} has no entry {step!r}{did_you_mean(step, filter(None, known))}")
