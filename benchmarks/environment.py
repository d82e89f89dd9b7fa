"""What numbers were computed on: code, versions, machine; and where cells of one run differ in it."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from .plugins import Plugins

ROOT = Path(__file__).parents[1]

PACKAGES = (
    "torch", "torchvision", "deepinv", "astra-toolbox", "numpy", "scipy", "scikit-image", "PyWavelets", "h5py",
    "pydantic", "safetensors", "torchmetrics",
)  # fmt: skip


def environment(command: Sequence[str], plugins: Plugins) -> dict[str, Any]:
    """``environment.json``: the command that a run was last gone on with, its plugins, and what it ran on."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(command),
        "plugins": {str(file): f"sha256 {digest}" for file, digest in plugins.files.items()} or None,
        **machine(),
    }


def machine() -> dict[str, Any]:
    """Code, versions, processor and threads of this process, as plain data; every cell holds its own."""
    import torch

    from ..unrolled.distributed import current_place

    return {
        "versions": _versions(),
        "git": _git(),
        "source": _source(),
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "device": str(current_place().device),
        "platform": platform.platform(),
    }


def differences(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """In words, where the environments of cells differ: their numbers or times then do not compare as they seem to."""
    known = [found for found in environments if found]
    lines = []
    for what, text in (
        ("code", _code(known)),
        ("versions", _differing_versions(known)),
        ("processor", lambda found: str(found.get("cpu"))),
        ("GPU", lambda found: str(found.get("gpu") or "none")),
        ("threads", lambda found: str(found.get("threads"))),
    ):
        counts = Counter(map(text, known))
        if len(counts) > 1:
            each = "; ".join(f"{value} ({n} cell{'' if n == 1 else 's'})" for value, n in counts.most_common())
            lines.append(f"cells differ in {what}: {each}")
    return lines


def _code(environments: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    """Code by the hash of its source, named by the first commit that had it."""
    names: dict[Any, str] = {}
    for found in environments:
        git, source = found.get("git") or {}, found.get("source")
        commit = f"commit {str(git['commit'])[:12]}" if git.get("commit") else f"source {source}"
        names.setdefault(source, f"{commit} with changes ({source})" if git.get("dirty") else commit)
    return lambda found: names[found.get("source")]


def _differing_versions(environments: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    tables = [found.get("versions") or {} for found in environments]
    names = sorted({name for table in tables for name in table if len({str(t.get(name)) for t in tables}) > 1})
    return lambda found: ", ".join(f"{name} {(found.get('versions') or {}).get(name)}" for name in names)


@functools.cache
def _versions() -> dict[str, str]:
    return {
        "isocenter": __version__,
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@functools.cache
def _git() -> dict[str, Any]:
    """Commit and state of the checkout that this code runs from; no commit where it is installed."""
    if not (ROOT / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        commit, status = (
            subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit.strip(), "dirty": bool(status.strip())}


@functools.cache
def _source() -> str:
    """Hash of the package's own code: it tells changes that are in no commit, and is there without a checkout."""
    found = hashlib.sha256()
    for folder in ("physics", "data", "baselines", "unrolled", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            found.update(f"{file.relative_to(ROOT).as_posix()}\0".encode())
            found.update(file.read_bytes())
    return found.hexdigest()[:12]


@functools.cache
def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
