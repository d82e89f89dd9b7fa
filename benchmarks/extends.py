"""``extends:`` in a suite: begin with another one and say what is different."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .spec import InheritedText
from .yaml_lines import Lines, Place, SuiteError, load


def extend(raw: dict[str, Any], lines: Lines, find: Callable[[str], Path]) -> dict[str, Any]:
    """The suite with what it does not say taken from the suite that it names under ``extends``.

    Mappings merge, ``null`` takes away, and everything else replaces (the rules of JSON Merge Patch, RFC 7386). Beyond
    these: a mapping of another ``kind`` replaces, and a mapping in the place of a list of methods changes them by name.
    The name of the suite is not inherited, and paths remain relative to the file that they stand in.

    Args:
        raw: the suite.
        lines: of its file; mistakes in what is inherited name the file and line that it comes from.
        find: the file of a built-in suite or of a path.

    Raises:
        SuiteError: a suite that is not there, or that extends another one itself.
    """
    if "extends" not in raw:
        return raw
    own = {key: value for key, value in raw.items() if key != "extends"}
    if not isinstance(raw["extends"], str):
        raise lines.error(("extends",), f"is {raw['extends']!r}, expected a built-in name or the path of a suite")
    try:
        file = find(raw["extends"])
    except SuiteError as error:
        raise lines.error(("extends",), str(error)) from error
    base, base_lines = load(file)
    if not isinstance(base, dict):
        raise base_lines.error((), "a suite is a mapping with name, data, methods and tasks")
    if "extends" in base:
        raise lines.error(("extends",), f"{file.name} extends {base['extends']!r} itself; extend that one, or copy it")
    base.pop("name", None)
    return dict(_Merge(lines, base_lines).merge(own, _inherited(base, file.parent.resolve()), (), ()))


class _Merge:
    """Merges what a suite says with what it inherits, and writes down where everything comes from."""

    def __init__(self, lines: Lines, base_lines: Lines) -> None:
        self.lines, self.base_lines = lines, base_lines

    def merge(self, own: Any, base: Any, place: Place, base_place: Place) -> Any:
        """The value at ``place``, which is at ``base_place`` in the file that is extended."""
        if not isinstance(own, dict):
            return own
        if isinstance(base, list) and base and all(isinstance(entry, dict) for entry in base):
            return self._entries(own, base, place, base_place)
        if not isinstance(base, dict) or own.get("kind", base.get("kind")) != base.get("kind"):
            return _without_null(own)
        merged = {}
        for key in [*base, *(key for key in own if key not in base)]:
            if key not in own:
                merged[key] = self._take(base[key], (*place, key), (*base_place, key))
            elif own[key] is not None:
                merged[key] = self.merge(own[key], base.get(key), (*place, key), (*base_place, key))
        return merged

    def _entries(self, own: dict[str, Any], base: list[dict[str, Any]], place: Place, base_place: Place) -> list[Any]:
        """Entries of a list changed, taken away and added by their names."""
        names = [entry.get("name", entry.get("kind")) for entry in base]
        merged: list[Any] = []
        for key in [*names, *(key for key in own if key not in names)]:
            position, old = (*place, len(merged)), (*base_place, names.index(key) if key in names else len(names))
            if key not in own:
                merged.append(self._take(base[names.index(key)], position, old))
            elif own[key] is not None:
                self.lines.move((*place, key), position)
                entry = self.merge(own[key], base[names.index(key)] if key in names else None, position, old)
                if isinstance(entry, dict) and "name" not in entry and entry.get("kind") != key:
                    entry["name"] = key
                merged.append(entry)
        return merged

    def _take(self, value: Any, place: Place, base_place: Place) -> Any:
        self.lines.inherit(place, self.base_lines, base_place)
        return copy.deepcopy(value)


def _without_null(value: Any) -> Any:
    """A mapping that stands for itself: what is null there has its default."""
    if not isinstance(value, dict):
        return value
    return {key: _without_null(entry) for key, entry in value.items() if entry is not None}


def _inherited(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return InheritedText(value, folder)
    if isinstance(value, list):
        return [_inherited(entry, folder) for entry in value]
    return {key: _inherited(entry, folder) for key, entry in value.items()} if isinstance(value, dict) else value
