"""Fair timing of several ways to do one thing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each way, after one warm-up; their runs take turns, so that a busy moment hits them all."""
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}
