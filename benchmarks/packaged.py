"""Fitted methods that come with the package: trained by this code, used where the task is the one they were fitted to.

``python -m isocenter.benchmarks.packaged RUN`` copies the learned methods of a finished run into the package.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .run_folder import read_json, write_json
from .spec import MethodSpec

FOLDER = Path(__file__).parents[1] / "unrolled" / "weights"
CARD = "card.json"


def packaged(suite: str, task: str, method: str, seed: int) -> Path:
    """Where the fitted method of a suite, task and seed lies, if it is packaged: ``SUITE/TASK/METHOD-SEED``."""
    return FOLDER / suite / task / f"{method}-{seed}"


def candidates(suite: str, task: str, method: str, seed: int) -> list[Path]:
    """Packaged fits of that name: the suite's own first, then those of others, which a suite may extend."""
    own = packaged(suite, task, method, seed)
    others = sorted(folder for folder in FOLDER.glob(f"*/{task}/{method}-{seed}") if folder != own)
    return [folder for folder in (own, *others) if folder.is_dir()]


def fits(folder: Path, identity: dict[str, Any], method: MethodSpec) -> bool:
    """Whether a packaged method was fitted to the same images, operator, noise and settings.

    A setting that the method has only had since then counts as its default.
    """
    fitted_to = read_json(folder / CARD).get("fitted_to", {})
    settings = dict(fitted_to.get("method", {}))
    seed = settings.pop("seed", None)
    try:
        fitted_to["method"] = {**type(method).model_validate(settings).identity(), "seed": seed}
    except ValidationError:  # a setting that the method does not have any more
        return False
    return bool(fitted_to == identity)


def digest(folder: Path) -> str:
    """SHA-256 of the packaged files, which results depend on."""
    result = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        result.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        result.update(file.read_bytes())
    return result.hexdigest()


def listing() -> list[tuple[str, dict[str, Any]]]:
    """Name and card of everything that is packaged."""
    return [(card.parent.relative_to(FOLDER).as_posix(), read_json(card)) for card in sorted(FOLDER.rglob(CARD))]


def package(run: Path) -> list[Path]:
    """Copy the learned methods that a run trained into the package, each with a card, and return their folders.

    Cells that loaded a fit hold none: what is packaged for them stays.

    Raises:
        ValueError: when nothing there was trained.
    """
    from .schema import load_suite
    from .tasks import OpenTask

    loaded = load_suite(run / "suite.yaml")
    environment = read_json(run / "environment.json")
    written = []
    for task_name in loaded.suite.tasks:
        task = OpenTask(loaded, task_name)
        for method in loaded.suite.methods_of(task_name):
            for seed in method.seeds:
                cell = _trained(run / "cells" / task_name, method.key, seed)
                if cell is None:
                    continue
                fit = read_json(cell / "fit.json")
                made_on = fit.pop("environment", None) or environment  # fits did not always hold their own
                card = {
                    "fitted_to": task.training_identity(method, seed),
                    "fit": {key: value for key, value in fit.items() if key != "sha256"},
                    **{key: made_on.get(key) for key in ("git", "source", "versions", "cpu", "gpu", "threads")},
                }
                target = packaged(loaded.suite.name, task_name, method.key, seed)
                _replace(target, cell / "fitted", card)
                written.append(target)
    if not written:
        raise ValueError(f"{run} has no learned method that is done; run the suite with --retrain first")
    return written


def _trained(cells: Path, method: str, seed: int) -> Path | None:
    """The cell of a method and seed that is done and holds the fit of a learned method."""
    for cell in sorted(cells.iterdir()) if cells.is_dir() else ():
        spec = read_json(cell / "spec.json")
        if (spec.get("method"), spec.get("seed"), spec.get("group")) != (method, seed, "learned"):
            continue
        if read_json(cell / "status.json").get("state") == "done" and (cell / "fitted").is_dir():
            return cell
    return None


def _replace(target: Path, fitted: Path, card: dict[str, Any]) -> None:
    """Put a fit and its card in the place of what is packaged, once the copy is whole."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(fitted, partial)
    for weights in partial.glob("*.safetensors"):
        _halve(weights)
    write_json(partial / CARD, card)
    for file in partial.rglob("*"):
        if file.is_file():
            file.chmod(0o644)  # whoever installs the package reads them
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)


def _halve(weights: Path) -> None:
    """Keep kernels and tables in half precision: half the size, 1/2048 of their values. Scalars and biases stay."""
    from ..unrolled.weights_io import read_tensors, write_tensors

    tensors, metadata = read_tensors(weights)
    write_tensors(weights, {name: t.half() if t.ndim > 1 else t for name, t in tensors.items()}, metadata)


if __name__ == "__main__":
    for folder in package(Path(sys.argv[1])):
        print(folder)
