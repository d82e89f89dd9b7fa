"""The batches of training, each a function of the seed and the step, made while the network is busy with others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from ..physics import LinearOperator
from .distributed import Place
from .unit_problem import UnitProblem

AHEAD = 2  # batches that are ready or being made for each worker


@dataclass(frozen=True)
class Batch:
    """This process's part of a step: truths ``[B, *domain]``, measurements ``[B, *range]`` and their operator."""

    truth: Tensor
    y: Tensor
    physics: LinearOperator


def draws(step: int, batch: int, count: int, seed: int) -> list[tuple[int, int]]:
    """The (image, noise draw) pairs of a step: a new permutation of all images, and new noise, in every epoch."""
    places = [divmod(place, count) for place in range(step * batch, (step + 1) * batch)]
    orders = {epoch: np.random.default_rng((seed, epoch)).permutation(count) for epoch, _ in places}
    return [(int(orders[epoch][place]), epoch) for epoch, place in places]


class Batches:
    """Batches by step, the next ones made by threads ahead of time.

    Simulation spends its time in NumPy and PyTorch, which let other threads run. Which batches come does not depend on
    the number of workers, and processes that train together get disjoint parts of the same batch.

    Args:
        problems: one batch is of one problem; they take turns.
        batch: images of a step, over all processes.
        steps: of the training; nothing is made beyond them.
        seed: of the order of the images.
        place: this process.
        once: every image is measured once, with the same noise in every epoch.
        workers: threads.
    """

    def __init__(
        self,
        problems: Sequence[UnitProblem],
        batch: int,
        steps: int,
        seed: int,
        place: Place,
        *,
        once: bool = False,
        workers: int = 1,
    ) -> None:
        self.problems, self.batch, self.steps, self.seed, self.place = problems, batch, steps, seed, place
        self.once, self.ahead = once, AHEAD * workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        self._pending: deque[tuple[int, Future[Batch]]] = deque()

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def make(self, step: int) -> Batch:
        """The batch of a step, here and now."""
        turn, own = divmod(step, len(self.problems))
        problem = self.problems[own]
        pairs = draws(turn, self.batch, len(problem), self.seed)[self.place.rank :: self.place.size]
        examples = [problem.pair(i, 0 if self.once else draw) for i, draw in pairs]
        truth, y = (torch.stack(tensors).to(self.place.device) for tensors in zip(*examples, strict=True))
        return Batch(truth, y, problem.physics)

    def take(self, step: int) -> Batch:
        """The batch of a step, which is ready if steps are taken in order."""
        if self._pending and self._pending[0][0] != step:  # training went back
            for _, future in self._pending:
                future.cancel()
            self._pending.clear()
        first = self._pending[-1][0] + 1 if self._pending else step
        for later in range(first, min(step + 1 + self.ahead, self.steps)):
            self._pending.append((later, self._pool.submit(self.make, later)))
        return self._pending.popleft()[1].result()
