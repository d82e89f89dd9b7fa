"""``--set a.b=c``: change one value of a suite before it is checked."""

from __future__ import annotations

from typing import Any

import yaml

from .spec import did_you_mean
from .yaml_lines import Lines, Place, SuiteError, one_line, parse


def override(raw: dict[str, Any], lines: Lines, text: str) -> None:
    """Apply ``a.b=c`` to the data of a YAML file.

    Steps are keys; positions, names or kinds in lists; or ``*`` for every entry. The value is YAML.

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
    _set(raw, lines, (), steps, value, text)


def _set(container: Any, lines: Lines, place: Place, steps: list[str], value: Any, text: str) -> None:
    for key in _keys(container, place, steps[0], text):
        here = (*place, key)
        if len(steps) == 1:
            container[key] = value
            lines.came_from(here, f"--set {text}")
        else:
            if isinstance(container, dict):
                container.setdefault(key, {})
            _set(container[key], lines, here, steps[1:], value, text)


def _keys(container: Any, place: Place, step: str, text: str) -> list[Any]:
    where = f"--set {text}: {'.'.join(map(str, place)) or 'the suite'}"
    if isinstance(container, dict):
        if step == "*":
            return list(container)
        return [step]
    if isinstance(container, list):
        if step == "*":
            return list(range(len(container)))
        if step.isdigit() and int(step) < len(container):
            return [int(step)]
        names = [entry.get("name", entry.get("kind")) if isinstance(entry, dict) else None for entry in container]
        if step in names:
            return [names.index(step)]
        known = [str(name) for name in names if name is not None]
        raise SuiteError(f"{where} has no entry {step!r}{did_you_mean(step, known)}")
    raise SuiteError(f"{where} is a single value, {container!r}, and has no {step!r}")
