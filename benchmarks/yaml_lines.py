"""YAML as plain data, with the line that every value stands on, so that errors can name it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]  # keys and list positions, from the root

_LARGEST = 100_000  # values in a file once aliases are written out
_LONGEST = 1_000_000  # bytes of a file
_SCALARS = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))


class SuiteError(ValueError):
    """A mistake in a suite or in the arguments: one line that says where it is and what to do."""


class _Loader(yaml.SafeLoader):
    """The scalars of YAML 1.2: ``1e-3`` is a number; ``01``, ``no``, ``12:30`` and dates are text."""


_Loader.yaml_implicit_resolvers = {}  # instead of those of YAML 1.1, which the class would share with its base

for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)|[-+]?\.inf|\.nan", list("-+.0123456789")),
    ("float", r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)


class Lines:
    """The line of each value of one file, by its place."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lines: dict[Place, int] = {}
        self._origins: dict[Place, str] = {}

    def note(self, place: Place, line: int) -> None:
        """Write down a line; the first one stays."""
        self._lines.setdefault(place, line)

    def came_from(self, place: Place, origin: str) -> None:
        """A value that does not stand in the file, but came from an argument."""
        _forget(self._origins, place)
        self._origins[place] = origin

    def move(self, old: Place, new: Place) -> None:
        """The value at ``old`` is now at ``new``, and may still be at ``old``."""
        for table in (self._lines, self._origins):
            moved = {(*new, *place[len(old) :]): at for place, at in table.items() if place[: len(old)] == old}
            _forget(table, new)
            table.update(moved)  # type: ignore[arg-type]
        if origin := self._origin(old):
            self._origins[new] = origin

    def inherit(self, place: Place, other: Lines, source: Place) -> None:
        """The value at ``place`` is the one at ``source`` in another file."""
        for there, line in other._lines.items():
            if there[: len(source)] == source:
                self._origins[(*place, *there[len(source) :])] = f"{other.file.name}:{line}"

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest place around it that the file holds."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def error(self, place: Place, message: str, key: str | None = None) -> SuiteError:
        """``suite.yaml:17: methods[2]: message``, with the line of one of its keys where one is given."""
        where = f"{spell(place)}: " if place else ""
        place = place if key is None else (*place, key)
        origin = self._origin(place) or f"{self.file.name}:{self.line(place)}"
        return SuiteError(f"{origin}: {one_line(where + message)}")

    def _origin(self, place: Place) -> str | None:
        """What else than the file a place came from, or the nearest place around it that did."""
        origins = (self._origins[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self._origins)
        return next(origins, None)


def _forget(table: dict[Place, Any], place: Place) -> None:
    for inside in [p for p in table if p[: len(place)] == place]:
        del table[inside]


def spell(place: Iterable[str | int]) -> str:
    """``("methods", 2, "steps")`` → ``methods[2].steps``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def one_line(message: object) -> str:
    """The message without line breaks."""
    return " ".join(str(message).split())


def parse(text: str) -> Any:
    """The value of a piece of YAML, by the rules of :func:`load`."""
    loader = _Loader(text)
    root = loader.get_single_node()
    return None if root is None else _Builder(loader, Lines(Path("value"))).build(root, ())


def load(file: Path) -> tuple[Any, Lines]:
    """Read one YAML document with the safe loader.

    Raises:
        SuiteError: for a file that cannot be read, is not YAML, or gives a key twice.
    """
    try:
        if file.stat().st_size > _LONGEST:
            raise SuiteError(f"{file}: it holds more than {_LONGEST:,} bytes, which is no suite")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SuiteError(f"{file}: cannot read the suite: {reason}") from error
    lines = Lines(file)
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise lines.error((), "the suite is empty")
        return _Builder(loader, lines).build(root, ()), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = ", ".join(one_line(part) for part in (error.context, error.problem) if part)
        raise SuiteError(f"{file.name}:{line}: not valid YAML: {problem}") from error
    except yaml.YAMLError as error:
        raise SuiteError(f"{file.name}:1: not valid YAML: {one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, SuiteError):
            raise
        raise SuiteError(f"{file.name}:1: not valid YAML: {one_line(error) or 'nested too deeply'}") from error


class _Builder:
    """Composed nodes → plain data; writes down the lines on the way."""

    def __init__(self, loader: _Loader, lines: Lines) -> None:
        self.loader, self.lines = loader, lines
        self.count = 0
        self.open: set[int] = set()

    def build(self, node: yaml.Node, place: Place) -> Any:
        self.count += 1
        self.lines.note(place, node.start_mark.line + 1)
        if self.count > _LARGEST:
            raise self.lines.error(place, f"the file holds more than {_LARGEST} values; does an alias repeat itself?")
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in _SCALARS:
                raise self.lines.error(place, f"the tag {node.tag} has no meaning in a suite")
            try:
                return self.loader.construct_object(node)
            except (ValueError, LookupError) as error:  # of a tag such as !!int, or of an endless number
                kind = node.tag.rpartition(":")[2]
                raise self.lines.error(place, f"{node.value[:40]!r} is not of the type {kind}") from error
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise self.lines.error(place, f"the tag {node.tag} has no meaning in a suite")
        if id(node) in self.open:
            raise self.lines.error(place, "an alias refers to the value that it is part of")
        self.open.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            value: Any = [self.build(child, (*place, i)) for i, child in enumerate(node.value)]
        else:
            value = self._mapping(node, place)
        self.open.discard(id(node))
        return value

    def _mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, child in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
                continue
            key = key_node.value
            if not isinstance(key, str):
                raise self.lines.error(place, f"line {key_node.start_mark.line + 1} has a key that is not text")
            if key in result:
                line = key_node.start_mark.line + 1
                raise self.lines.error((*place, key), f"this key is given twice, again on line {line}")
            self.lines.note((*place, key), key_node.start_mark.line + 1)
            result[key] = self.build(child, (*place, key))
        for source in merged:
            if not isinstance(source, yaml.MappingNode):
                raise self.lines.error(place, "<< takes a mapping")
            for key, value in self.build(source, place).items():
                result.setdefault(key, value)
        return result
