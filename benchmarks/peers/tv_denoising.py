"""Denoising by total variation: our solver beside scikit-image's, to the same objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...baselines.admm import ADMM
from ...baselines.terms import TotalVariationTerm
from ...data.head import head
from ...physics import GaussianNoise
from ...physics.noise import seeded_generator
from ...physics.pointwise import Identity
from .race import Mark, Optimum, Problem, Way, clear_progress, installed, ours, print_race, progress, race
from .timing import interleaved

CHAMBOLLE = "scikit-image, denoise_tv_chambolle"
WEIGHT, SIGMA = 0.1, 0.1
MOST = 20_000  # iterations
NEAR = 1.05  # the ratio to which the fewest iterations that suffice are known


def problem(size: int = 256, batch: int = 1) -> Problem:
    """A head with values from 0 to 1 and Gaussian noise."""
    x, noise = torch.from_numpy(head(0, 0, (size, size)))[None, None], GaussianNoise(SIGMA)
    y = torch.cat([noise(x, seeded_generator("peers", i)) for i in range(batch)])
    return Problem(Identity((1, size, size)), y, TotalVariationTerm(WEIGHT))


def chambolle(task: Problem, iterations: int) -> Tensor:
    """scikit-image's ``denoise_tv_chambolle``, which minimises the same objective."""
    from skimage.restoration import denoise_tv_chambolle

    x = denoise_tv_chambolle(task.y[0, 0].numpy(), weight=WEIGHT, eps=0, max_num_iter=iterations)
    return torch.from_numpy(x)[None, None]


def fewest(suffices: Callable[[int], bool], most: int) -> int | None:
    """The fewest iterations that suffice, within 5 %; None if even ``most`` do not."""
    low, high = 1, 16
    while not suffices(high):
        if high >= most:
            return None
        low, high = high, min(4 * high, most)
    while high > NEAR * low + 1:
        middle = math.isqrt(low * high)
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def chambolle_mark(task: Problem, gap: Callable[[Tensor], float], tol: float, repeats: int) -> Mark:
    """scikit-image's solver cannot be gone on with: its iterations are searched first, and then run at once."""
    iterations = fewest(lambda count: gap(chambolle(task, count)) <= tol, MOST)
    count = iterations or MOST
    seconds = interleaved({CHAMBOLLE: lambda: chambolle(task, count)}, repeats)[CHAMBOLLE]
    return Mark(count, seconds, gap(chambolle(task, count)), iterations is not None)


def compare(size: int, tolerances: Sequence[float], certified: float, limit: float, repeats: int) -> None:
    """Print the table."""
    task = problem(size)
    optimum = Optimum(task, certified)
    ways = {"isocenter, ADMM": ours(ADMM, task)}
    marks = race(ways, optimum.gap, tolerances, limit, repeats)
    ways[CHAMBOLLE] = Way(None)
    if installed("skimage"):
        progress(CHAMBOLLE)
        marks[CHAMBOLLE] = [chambolle_mark(task, optimum.gap, tol, repeats) for tol in sorted(tolerances, reverse=True)]
    clear_progress()
    print(f"\nTotal variation denoising, {size}², σ = {SIGMA:g}, λ = {WEIGHT:g}, one image")
    print_race(ways, marks, tolerances)
