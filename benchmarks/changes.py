"""Where two records of plain data differ, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_ABSENT = object()


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``noise.sigma 0.1 → 0.2`` for every value that differs; a mapping of another ``kind`` is named by its kind."""
    return list(_changes("", old, new))


def _changes(path: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    same_kind = isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("kind") == new.get("kind")
    if not same_kind:
        yield f"{path} {_short(old)} → {_short(new)}"
        return
    for key in [*old, *(key for key in new if key not in old)]:
        yield from _changes(f"{path}.{key}" if path else str(key), old.get(key, _ABSENT), new.get(key, _ABSENT))


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "(absent)"
    if isinstance(value, Mapping):
        return str(value.get("kind", "…"))
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
