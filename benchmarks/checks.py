"""``isocenter check``: a suite's schema, files and operators, in seconds and before anything is computed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator

import torch

from ..data.datasets import SPLITS
from ..physics import BrokenLawError, check_linear_operator
from .cells import peak_memory
from .runner import open_tasks
from .schema import LoadedSuite
from .tasks import OpenTask


def check_suite(loaded: LoadedSuite) -> Iterator[str]:
    """Lines of a table, as they are found out.

    Every task: files of public sets have the hashes of the catalogue, the first image of each split is read, the
    operator keeps the laws in float32, and one measurement is simulated. What tasks share is looked at once.

    Raises:
        SuiteError: naming the line of what is wrong.
    """
    suite = loaded.suite
    tasks = open_tasks(loaded)
    width = max(map(len, tasks))
    yield f"{'task':<{width}}  {'images':<12} {'operator':<40} {'worst gap':<10} {'cells':<6} seconds"
    cells, disk, memory = 0, 0, 0
    read: set[str] = set()
    gaps: dict[str, float] = {}
    for name, task in tasks.items():
        began = time.perf_counter()
        if task.spec.data not in read:
            read.add(task.spec.data)
            _read(loaded, task)
        operator = json.dumps([task.identity["physics"], task.dataset.image_shape, task.dataset.pixel_size])
        if operator not in gaps:
            gaps[operator] = _worst_gap(loaded, task)
        with loaded.at("tasks", name):
            if not torch.isfinite(task.simulated("test").measurement(0)).all():
                raise ValueError("the measurement of the first test image is not finite; check physics and noise")
        count = sum(len(method.seeds) for method in suite.methods_of(name))
        cells += count
        images = {split: len(task.dataset.splits[split]) for split in SPLITS}
        truth, pair = (4 * n for n in _numbers(task))
        disk += (images["validation"] + images["test"]) * pair + count * images["test"] * truth
        if any("train" in method.needs() for method in suite.methods_of(name)):
            memory = max(memory, images["train"] * pair)
        shape = " × ".join(map(str, task.physics.range))
        yield (
            f"{name:<{width}}  {'/'.join(map(str, images.values())):<12} "
            f"{f'{type(task.physics).__name__} → {shape}':<40} {gaps[operator]:<10.1e} {count:<6} "
            f"{time.perf_counter() - began:.1f}"
        )
        task.close()
    yield (
        f"{suite.name} is sound: {len(tasks)} tasks, {cells} cells; about {_bytes(disk)} of disk, and of memory "
        f"{_bytes(memory + peak_memory() * 2**20)} with the training images and without what networks need to train; "
        "images are train/validation/test"
    )


def _read(loaded: LoadedSuite, task: OpenTask) -> None:
    with loaded.at("data", task.spec.data):
        loaded.suite.data[task.spec.data].verify()
        for split in SPLITS:
            for sample in task.dataset.splits[split][:1]:
                task.dataset.fine(sample)


def _worst_gap(loaded: LoadedSuite, task: OpenTask) -> float:
    with loaded.at("tasks", task.name, "physics"):
        task.spec.physics.verify()
        try:
            return max(law.gap for law in check_linear_operator(task.physics, dtypes=(torch.float32,)))
        except BrokenLawError as error:
            raise ValueError(str(error)) from error


def _numbers(task: OpenTask) -> tuple[int, int]:
    """Numbers of an image, and of an image with its measurement."""
    image = math.prod(task.physics.domain)
    return image, image + math.prod(task.physics.range)


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{math.ceil(count / 1e6)} MB"
