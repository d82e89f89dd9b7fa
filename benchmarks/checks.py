"""``isocenter check``: a suite's schema, files and operators, in seconds and before anything is computed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from ..data.datasets import SPLITS
from ..physics import BrokenLawError, check_linear_operator
from .runner import open_tasks
from .schema import LoadedSuite


def check_suite(loaded: LoadedSuite) -> Iterator[str]:
    """Lines of a table, as they are found out.

    Every task: its images are there and the first of each split is read, its operator keeps the laws in float32, and
    one measurement is simulated.

    Raises:
        SuiteError: naming the line of what is wrong.
    """
    suite = loaded.suite
    tasks = open_tasks(loaded)
    yield f"{'task':<22} {'images':<12} {'operator':<36} {'worst gap':<10} cells"
    cells = 0
    for name, task in tasks.items():
        began = time.perf_counter()
        with loaded.at("data", task.spec.data):
            for split in SPLITS:
                for sample in task.dataset.splits[split][:1]:
                    task.dataset.fine(sample)
        with loaded.at("tasks", name, "physics"):
            try:
                laws = check_linear_operator(task.physics, dtypes=(torch.float32,))
            except BrokenLawError as error:
                raise ValueError(str(error)) from error
        with loaded.at("tasks", name):
            if not torch.isfinite(task.simulated("test").measurement(0)).all():
                raise ValueError("the measurement of the first test image is not finite; check physics and noise")
        count = sum(len(method.seeds) for method in suite.methods_of(name))
        cells += count
        counts = "/".join(str(len(task.dataset.splits[split])) for split in SPLITS)
        worst = max(law.gap for law in laws)
        shape = " × ".join(map(str, task.physics.range))
        operator = f"{type(task.physics).__name__} → {shape}"
        seconds = time.perf_counter() - began
        yield f"{name:<22} {counts:<12} {operator:<36} {worst:<10.1e} {count}  ({seconds:.1f} s)"
        task.close()
    yield f"{suite.name} is sound: {len(tasks)} tasks, {cells} cells; images are train/validation/test"
