"""How a network is trained: Adam with warm-up and cosine decay, averaged weights, validation, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from ..baselines.method import Fit
from .augmentation import Augmentation
from .contract import Network
from .distributed import current_place
from .learning_curve import write_picture, write_table
from .objective import SPLITTING
from .trainer import Trainer
from .unit_problem import UnitProblem

CHECKPOINT = "training.safetensors"
SECONDS_BETWEEN_CHECKPOINTS = 30.0


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        steps: of the optimiser.
        batch: images a step.
        learning_rate: of Adam, after the warm-up.
        loss: ``"mse"``, ``"normalised-l2"`` (‖x − x*‖ / ‖x*‖ of each image), ``"l1-ssim"``, or
            ``"measurement-splitting"``, which looks at no truth of the training images; see :class:`Objective`.
        warmup: steps over which the learning rate rises linearly; from there it follows a cosine to zero.
        average: decay of the exponential average of the weights, which is what is validated and kept; shorter at the
            start, so that the average never looks back further than a tenth of the steps.
        clip: bound on the norm of the gradient.
        validate_every: steps between validations, which NaN or infinity sends training back to.
        patience: validations without a better PSNR after which training stops; never when None.
        deep_supervision: weight of the mean loss of the images that a network shows on its way.
        withheld: share of the measured entries that measurement splitting withholds from the network.
        augment: random changes of the training images, which are measured anew.
        checkpoint: keep what goes from stage to stage only and compute the insides of stages again on the way back.
    """

    steps: int = 2000
    batch: int = 8
    learning_rate: float = 3e-3
    loss: Literal["mse", "normalised-l2", "l1-ssim", "measurement-splitting"] = "mse"
    warmup: int = 100
    average: float = 0.995
    clip: float = 1.0
    validate_every: int = 100
    patience: int | None = None
    deep_supervision: float = 0.0
    withheld: float = 0.4
    augment: Augmentation = field(default_factory=Augmentation)
    checkpoint: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"Training: {name} is {getattr(self, name)}, expected at least 1")
        if not (self.learning_rate > 0 and self.clip > 0 and 0 <= self.average < 1 and self.warmup >= 0):
            raise ValueError(
                f"Training: expected positive learning_rate and clip, average in [0, 1), warmup ≥ 0: {self}"
            )
        if not (self.deep_supervision >= 0 and 0 < self.withheld < 1):
            raise ValueError(f"Training: expected deep_supervision ≥ 0 and withheld in (0, 1): {self}")
        if self.augment and self.loss == SPLITTING:
            raise ValueError(
                "Training: measurement-splitting learns from measurements, and there are none of augmented images; "
                "leave augment out"
            )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / (self.warmup + 1)
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def train(
    network: Network,
    training: Training,
    seed: int,
    problems: Sequence[UnitProblem],
    validations: Sequence[UnitProblem],
    folder: Path | None = None,
) -> Fit:
    """Train ``network(y, physics)`` on problems that take turns, and leave the best averaged weights in it.

    Everything random is a function of ``seed`` and the step, and ``folder`` keeps the rest, so that a training that was
    killed ends with the same weights as one that was not. Each epoch sees new noise. NaN or infinity sends training
    back to the last validation, with half the learning rate. ``folder`` also shows the curve, while it grows.

    It runs at the :func:`current_place`; processes that share a batch end with the weights of one that had it alone,
    up to rounding.

    Raises:
        TrainingDivergedError: when going back did not help.
        ValueError: when ``folder`` holds another training, and for a batch that processes cannot share.
    """
    place = current_place()
    if training.batch < place.size:
        raise ValueError(f"a batch of {training.batch} images cannot be shared by {place.size} processes")
    trainer = Trainer(network.to(place.device), training, seed, problems, validations, place)
    writes = folder if place.first else None
    trainer.resume(writes / CHECKPOINT if writes else None)
    done, total = trainer.step * training.batch, training.steps * training.batch
    saved = time.monotonic()
    with tqdm(initial=done, total=total, unit=" images", disable=None if place.first else True, leave=False) as bar:

        def progress(images: int, loss: float) -> None:
            best = f"{trainer.best_psnr:.2f} dB" if trainer.curve else "–"
            bar.set_postfix(loss=f"{loss:.3g}", validation=best, refresh=False)
            bar.update(images)

        for _ in trainer.run(progress):
            if not writes:
                continue
            writes.mkdir(parents=True, exist_ok=True)
            write_table(writes, trainer.curve)
            if trainer.finished or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                write_picture(writes, trainer.curve)
                trainer.save(writes / CHECKPOINT)
                saved = time.monotonic()
    network.load_state_dict(trainer.best, strict=False)
    return Fit(
        budget=f"{trainer.step:,} steps of {training.batch} images",
        chosen={"step": trainer.best_step},
        curve=trainer.curve,
        axis="step",
        seconds=trainer.seconds,
        warnings=trainer.warnings,
    )
