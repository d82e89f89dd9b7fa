"""A tiny training that is interrupted and resumed, for one process or several: ``python shared_batch.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from isocenter.data.problem import Problem
from isocenter.physics import Blur
from isocenter.physics.noise import seeded_generator
from isocenter.unrolled import Hybrid, LearnedMethod, Training
from isocenter.unrolled import training as training_module
from isocenter.unrolled.blocks import full_precision
from isocenter.unrolled.distributed import place
from torch import Tensor


class Squares(Problem):
    """Random pixels, blurred."""

    def __init__(self, name: str, count: int, stop_at: int | None = None) -> None:
        self.physics, self.data_range, self.name, self.stop_at = (
            Blur(torch.ones(3, 3) / 9, (12, 10)),
            2.0,
            name,
            stop_at,
        )
        self.ids = self.patients = tuple(f"{name}{i}" for i in range(count))

    def truth(self, i: int) -> Tensor:
        return torch.rand(1, 12, 10, generator=seeded_generator(self.name, i))

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        if draw == self.stop_at:
            raise KeyboardInterrupt
        y = self.physics.A(self.truth(i)[None])[0]
        return y + 0.1 * torch.randn(y.shape, generator=seeded_generator(self.name, i, draw))


def train(folder: Path) -> None:
    """Eight steps of five images, in two goes, of a network that draws; ``weights.safetensors`` in the folder."""
    torch.set_num_threads(1)
    training_module.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    with place("cpu") as here, full_precision():
        for stop_at in (4, None):
            training = Training(steps=8, batch=5, validate_every=2, warmup=2)
            method = LearnedMethod(lambda channels: Hybrid(channels, 2, (4, 6), sparse_stages=1, flips=2), training)
            try:
                method.fit(Squares("train", 7, stop_at), Squares("validation", 3), folder / "fit")
            except KeyboardInterrupt:
                continue
            if here.first:
                method.save(folder)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
