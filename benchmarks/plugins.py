"""User code in a suite: files named by ``plugins``, loaded explicitly."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .spec import DatasetSpec, MethodSpec, NoiseSpec, PhysicsSpec, Spec, resolve
from .yaml_lines import Lines, one_line

FAMILIES = (DatasetSpec, PhysicsSpec, NoiseSpec, MethodSpec)


@dataclass(frozen=True)
class Plugins:
    """What the plugins of a suite bring, and the hashes of their source, which results depend on."""

    specs: tuple[type[Spec], ...] = ()
    files: Mapping[Path, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """One hash of all files; empty where there are none."""
        return hashlib.sha256("".join(self.files.values()).encode()).hexdigest() if self.files else ""


def load_plugins(raw: dict[str, Any], folder: Path, lines: Lines) -> Plugins:
    """Import the files under ``plugins`` and collect their ``SPECS``.

    Raises:
        SuiteError: naming the line of a plugin that is missing, fails, or lists something else than specs.
    """
    names = raw.get("plugins") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise lines.error(("plugins",), "expected a list of Python files, such as [my_operator.py]")
    specs: list[type[Spec]] = []
    files: dict[Path, str] = {}
    for i, name in enumerate(names):
        path = resolve(name, folder)
        place = ("plugins", i)
        if not path.is_file():
            raise lines.error(place, f"there is no file {path}")
        files[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            found = _import(path).__dict__.get("SPECS")
        except (Exception, SystemExit) as error:
            raise lines.error(place, f"{path.name} fails: {type(error).__name__}: {one_line(error)}") from error
        if not isinstance(found, (list, tuple)) or not found:
            raise lines.error(place, f"{path.name} has no list SPECS of its spec classes")
        for spec in found:
            if not (isinstance(spec, type) and issubclass(spec, FAMILIES)):
                bases = ", ".join(base.__name__ for base in FAMILIES)
                raise lines.error(place, f"{path.name}: {spec!r} in SPECS is no subclass of {bases}")
            specs.append(spec)
    return Plugins(tuple(specs), files)


def _import(path: Path) -> Any:
    # The name is a function of the path, so that objects of the plugin can be sent to other processes.
    name = f"isocenter_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    description = importlib.util.spec_from_file_location(name, path)
    if description is None or description.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module
    try:
        description.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
