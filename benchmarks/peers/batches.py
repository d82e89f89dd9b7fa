"""What an image costs in a batch of sixteen, beside alone, and the memory of batches."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...baselines.admm import ADMM
from ...baselines.first_order import FISTA
from ...baselines.iteration import Solver
from ...baselines.objective import Objective
from ...baselines.terms import TotalVariationTerm
from ...baselines.wavelet_terms import WaveletTerm
from . import parallel_mri, tv_ct, tv_denoising
from .race import Problem, clear_progress, iterate, progress
from .timing import interleaved

BATCH = 16
ITERATIONS = 20
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux

Task = tuple[Callable[[int], Problem], Callable[[Objective], Solver]]


def tasks(shrink: int) -> Mapping[str, Task]:
    """Problems of a number of images, and the solver of each; sides are divided by ``shrink``."""
    ct, mri = 128 // shrink, 256 // shrink
    wavelet, variation = WaveletTerm(parallel_mri.WEIGHT), TotalVariationTerm(parallel_mri.WEIGHT)

    def denoising(side: int) -> Task:
        return lambda batch: tv_denoising.problem(side, batch=batch), ADMM

    return {
        f"TV, CT {ct}² × 30 views, ADMM": (lambda batch: tv_ct.problem(ct, batch=batch), ADMM),
        # Small images are bound by calls, large ones by memory: what an image gains in a batch ends in between.
        **{f"TV, denoising {side}², ADMM": denoising(side) for side in (mri // 4, mri // 2, mri)},
        f"TV, 8 coils {mri}², ADMM": (lambda batch: parallel_mri.problem(mri, variation, batch), ADMM),
        f"ℓ1-wavelet, 8 coils {mri}², FISTA": (lambda batch: parallel_mri.problem(mri, wavelet, batch), FISTA),
    }


def memory(run: Callable[[], object]) -> int | None:
    """Bytes by which the process grows at most while it runs; None where the system does not tell."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free already must not hide what is taken now
        RESET.write_text("5")
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except (OSError, AttributeError):
        return None


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    if not found:
        raise OSError(f"{STATUS} has no {name}")
    return 1024 * int(found[1])


@torch.no_grad()
def compare(shrink: int, repeats: int) -> None:
    """Print the table."""
    rows = []
    for name, (problem, solver) in tasks(shrink).items():
        progress(f"batches: {name}")
        one, many = problem(1), problem(BATCH)

        def solve(count: int, one: Problem = one, many: Problem = many, solver: Callable = solver) -> Tensor:
            task = one if count == 1 else many._replace(y=many.y[:count])
            return iterate(solver, task._replace(physics=one.physics), ITERATIONS)

        seconds = interleaved({"one": lambda: solve(1), "many": lambda: solve(BATCH)}, repeats)
        grown = [memory(lambda: solve(BATCH // 4)), memory(lambda: solve(BATCH))]
        rows.append((name, seconds["one"], seconds["many"] / BATCH, grown))
    clear_progress()
    print(f"\n{ITERATIONS} iterations of ours, alone and in a batch of {BATCH}")
    print(f"{'':40}{'ms alone':>12}{'ms an image':>14}{'share':>8}{f'MB of {BATCH // 4} images':>20}{f'of {BATCH}':>8}")
    for name, alone, shared, grown in rows:
        sizes = ["–" if size is None else f"{size / 1e6:.0f}" for size in grown]
        print(f"{name:40}{1e3 * alone:12.1f}{1e3 * shared:14.1f}{shared / alone:8.2f}{sizes[0]:>20}{sizes[1]:>8}")
