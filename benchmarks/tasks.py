"""A task at work: its images, its operator, and the measurements that every method is given."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .. import __version__
from ..data.datasets import SPLITS, Dataset
from ..data.problem import Problem, SimulatedProblem, StoredProblem, store
from ..data.whole_file import remove_leftovers
from ..physics import LinearOperator
from .run_folder import alone, file_digest, read_json, write_json
from .schema import LoadedSuite, Task
from .spec import MethodSpec

logger = logging.getLogger(__name__)

MEASUREMENTS = "measurements.h5"


class OpenTask:
    """A task whose dataset and operator are built when they are first needed, and then kept.

    Args:
        loaded: the suite.
        name: of the task.
        other: another task of the same images, which are then not looked for again.
    """

    def __init__(self, loaded: LoadedSuite, name: str, other: OpenTask | None = None) -> None:
        self.loaded, self.name = loaded, name
        self.spec: Task = loaded.suite.tasks[name]
        if other is not None:
            self.dataset, self.fingerprint = other.dataset, other.fingerprint

    @cached_property
    def dataset(self) -> Dataset:
        with self.loaded.at("data", self.spec.data):
            return self.loaded.suite.data[self.spec.data].build(self.spec.data)

    @cached_property
    def fingerprint(self) -> str:
        """Of the files that the images come from."""
        with self.loaded.at("data", self.spec.data):
            return self.loaded.suite.data[self.spec.data].inputs()

    @cached_property
    def physics(self) -> LinearOperator:
        with self.loaded.at("tasks", self.name, "physics"):
            physics = self.spec.physics.build(self.dataset.image_shape, self.dataset.pixel_size)
            expected = (self.dataset.channels, *self.dataset.shape)
            if physics.domain != expected:
                raise ValueError(f"the operator takes images of {physics.domain}, the data are {expected}")
        with self.loaded.at("tasks", self.name, "clip"):
            if self.spec.clip is not None and self.dataset.channels == 2:
                raise ValueError("values are clipped where images are real, and these are complex; leave clip out")
        return physics

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the task's numbers depend on, as plain data."""
        suite, spec = self.loaded.suite, self.spec
        images = {"name": spec.data, **suite.data[spec.data].identity(), "files": self.fingerprint}
        with self.loaded.at("tasks", self.name, "physics"):
            files = spec.physics.inputs()
        return {
            "isocenter": __version__,
            "plugins": self.loaded.plugins.digest,
            "seed": suite.seed,
            "task": self.name,
            **({"family": spec.family} if spec.family else {}),
            "data": images,
            "physics": {**spec.physics.model_dump(mode="json"), "files": files},
            "noise": spec.noise.model_dump(mode="json"),
            **({} if spec.clip is None else {"clip": list(spec.clip)}),
            **({} if spec.attack is None else {"attack": spec.attack.model_dump(mode="json")}),
        }

    @property
    def key(self) -> str:
        return short_hash(self.identity)

    def training_identity(self, method: MethodSpec, seed: int) -> dict[str, Any]:
        """What a fit depends on: packaged weights are used where they were fitted to the same."""
        data = self.loaded.suite.data[self.spec.data]
        outside = {
            "plugins": self.identity["plugins"],
            "data_files": self.identity["data"]["files"],
            "physics_files": self.identity["physics"]["files"],
        }
        return {
            "seed": self.loaded.suite.seed,
            "task": self.name,
            **({"family": self.spec.family} if self.spec.family else {}),
            "data": {"name": self.spec.data, **data.training_identity()},
            "physics": self.spec.physics.model_dump(mode="json"),
            "noise": self.spec.noise.model_dump(mode="json"),
            "method": {**method.identity(), "seed": seed},
            **{name: fingerprint for name, fingerprint in outside.items() if fingerprint},
        }

    @cached_property
    def simulate(self) -> Any:
        with self.loaded.at("tasks", self.name, "physics"):
            dataset = self.dataset
            return self.spec.physics.simulator(dataset.image_shape, dataset.pixel_size, dataset.oversampling)

    def simulated(self, split: str, *, keep: bool = True) -> Problem:
        """A split whose measurements are simulated when they are asked for; ``keep`` them in memory or not."""
        with self.loaded.at("tasks", self.name, "noise"):
            noise = self.spec.noise.build()
        family, dataset = self.spec.family, self.dataset
        return SimulatedProblem(
            family or self.name,
            replace(dataset, name=family) if family else dataset,  # the names are part of the seed of the noise
            self.dataset.splits[split],
            self.physics,
            noise,
            self.loaded.suite.seed,
            self.simulate,
            keep,
        )

    @cached_property
    def training(self) -> Problem:
        """The training images; one object for all methods, since it keeps what it has simulated."""
        return self.simulated("train")

    def close(self) -> None:
        """Let go of what takes memory; it is built again when it is needed again."""
        for name in ("physics", "simulate", "training"):
            self.__dict__.pop(name, None)

    def stored(self, folder: Path, split: str) -> Problem:
        """A split as it was written by :meth:`measure`."""
        return StoredProblem(folder / MEASUREMENTS, split, self.physics)

    def measure(self, folder: Path, progress: Callable[[], object] = lambda: None) -> None:
        """Write ``task.json`` and the measurements of the validation and test images, unless they are there.

        ``task.json`` holds the hash of the measurements, so that damage is noticed.
        """
        path = folder / MEASUREMENTS
        with alone(folder):
            if self.is_measured(folder):
                return
            if (folder / "task.json").exists():
                logger.warning("%s: the measurements are not those that were written; simulated again", self.name)
            remove_leftovers(folder)
            store(path, {split: self.simulated(split, keep=False) for split in ("validation", "test")}, progress)
            write_json(folder / "task.json", {**self.description, "sha256": file_digest(path)})
            logger.info("%s: measurements written", self.name)

    def is_measured(self, folder: Path) -> bool:
        """Whether a folder holds the measurements, as they were written."""
        known = read_json(folder / "task.json")
        digest = file_digest(folder / MEASUREMENTS)
        return known.get("key") == self.key and digest is not None and known.get("sha256") == digest

    @cached_property
    def description(self) -> dict[str, Any]:
        """``task.json``: what a reader of results must know, and the key."""
        dataset, spec, suite = self.dataset, self.spec, self.loaded.suite
        counts = ", ".join(f"{len(dataset.splits[split])} {split}" for split in SPLITS)
        size = " × ".join(map(str, dataset.shape))
        shape = " × ".join(map(str, self.physics.range))
        clipped = () if spec.clip is None else (f"judged after clipping to {spec.clip[0]:g} … {spec.clip[1]:g}",)
        return {
            "title": spec.title or self.name,
            "family": spec.family,
            "sweep": dict(spec.sweep),
            "dataset": f"{spec.data}: {counts} images, {size} pixels of {dataset.pixel_size:.4g} mm",
            "dataset_labels": [*dataset.labels, *spec.physics.labels(dataset), *spec.labels, *clipped],
            "physics": f"{phrase(spec.physics)}; {shape} numbers are measured",
            "noise": phrase(spec.noise),
            "data_range": dataset.data_range,
            "units": dataset.units,
            "water": dataset.water,
            "display": list(dataset.display),
            "clip": None if spec.clip is None else list(spec.clip),
            "complex": self.physics.domain[0] == 2,
            "fitted_on": spec.fitted_on,
            "reference": suite.reference,
            "metric": suite.metric,
            "published": [row.model_dump(mode="json") for row in spec.published],
            "images": [sample.id for sample in dataset.splits["test"]],
            "warnings": [],
            "key": self.key,
        }


def phrase(spec: BaseModel) -> str:
    """A spec in words: its kind, and what is not at its default."""
    parts = []
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        default = type(spec).model_fields[name].default
        if name == "kind" or value is None or value == default:
            continue
        text = f"({phrase(value)})" if isinstance(value, BaseModel) else f"{value:g}" if _number(value) else str(value)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join([str(getattr(spec, "kind", "")), *parts]).strip(", ")


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def short_hash(identity: dict[str, Any]) -> str:
    """First 8 hexadecimal digits of the SHA-256 of plain data."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
