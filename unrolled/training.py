"""The training loop: Adam with warm-up and cosine decay, averaged weights, validation, exact resume."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm

from ..baselines.method import Fit
from ..data.metrics import psnr
from ..data.problem import Problem
from .contract import Network
from .weights_io import read_tensors, write_tensors

CHECKPOINT = "training.safetensors"
CURVE = "curve.csv"
SECONDS_BETWEEN_CHECKPOINTS = 30.0
REWINDS = 5


class TrainingDivergedError(RuntimeError):
    """Training met NaN or infinity again and again, with ever smaller steps."""


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        steps: of the optimiser.
        batch: images a step.
        learning_rate: of Adam, after the warm-up.
        loss: ``"mse"``, or ``"normalised-l2"``, the mean over images of ‖x − x*‖ / ‖x*‖.
        warmup: steps over which the learning rate rises linearly; from there it follows a cosine to zero.
        average: decay of the exponential average of the weights, which is what is validated and kept; shorter at the
            start, so that the average never looks back further than a tenth of the steps.
        clip: bound on the norm of the gradient.
        validate_every: steps between validations, each a point from which an interrupted training can go on.
        patience: validations without a better PSNR after which training stops; never when None.
    """

    steps: int = 2000
    batch: int = 8
    learning_rate: float = 3e-3
    loss: Literal["mse", "normalised-l2"] = "mse"
    warmup: int = 100
    average: float = 0.995
    clip: float = 1.0
    validate_every: int = 100
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"Training: {name} is {getattr(self, name)}, expected at least 1")
        if not (self.learning_rate > 0 and self.clip > 0 and 0 <= self.average < 1 and self.warmup >= 0):
            raise ValueError(
                f"Training: expected positive learning_rate and clip, average in [0, 1), warmup ≥ 0: {self}"
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
    problem: Problem,
    validation: Problem,
    folder: Path | None = None,
) -> Fit:
    """Train ``network(y, physics)`` on a problem and leave the best averaged weights in it.

    Everything random is a function of ``seed`` and the step, and ``folder`` keeps the rest, so that a training that was
    killed ends with the same weights as one that was not. Each epoch sees new noise. NaN or infinity sends training
    back to the last validation, with half the learning rate.

    Raises:
        TrainingDivergedError: when this did not help.
        ValueError: when there are no images, or ``folder`` holds another training.
    """
    for name, images in (("training", problem), ("validation", validation)):
        if len(images) == 0:
            raise ValueError(f"no {name} images; the dataset must put at least one into that split")
    trainer = _Trainer(network.to(problem.truth(0).device), training, seed, problem, validation)
    checkpoint = folder / CHECKPOINT if folder else None
    if checkpoint and checkpoint.exists():
        trainer.resume(checkpoint)
    done, total = trainer.step * training.batch, training.steps * training.batch
    saved = time.monotonic()
    with tqdm(initial=done, total=total, unit="image", disable=None, leave=False) as bar:
        for row in trainer.run(bar.update):
            bar.set_postfix(loss=f"{row['loss']:.3g}", psnr=f"{row['validation_psnr']:.2f} dB")
            if checkpoint and (trainer.finished or time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS):
                checkpoint.parent.mkdir(parents=True, exist_ok=True)
                _write_curve(checkpoint.parent / CURVE, trainer.curve)
                trainer.save(checkpoint)
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


def validation_psnr(network: Network, weights: dict[str, Tensor], problem: Problem, batch: int) -> float:
    """Mean PSNR over the images of a problem, with the dataset's range; complex images as magnitudes."""
    values: list[Tensor] = []
    with torch.no_grad():
        for first in range(0, len(problem), batch):
            truth, y = problem.batch(range(first, min(first + batch, len(problem))))
            x = functional_call(network, weights, (y, problem.physics))
            values.append(psnr(x, truth, problem.data_range))
    return float(torch.cat(values).mean())


def draws(step: int, batch: int, count: int, seed: int) -> list[tuple[int, int]]:
    """The (image, noise draw) pairs of a step: a new permutation of all images, and new noise, in every epoch."""
    places = [divmod(place, count) for place in range(step * batch, (step + 1) * batch)]
    orders = {epoch: np.random.default_rng((seed, epoch)).permutation(count) for epoch, _ in places}
    return [(int(orders[epoch][place]), epoch) for epoch, place in places]


def _mse(x: Tensor, truth: Tensor) -> Tensor:
    return (x - truth).square().mean()


def _normalised_l2(x: Tensor, truth: Tensor) -> Tensor:
    size = truth.flatten(1).norm(dim=1).clamp_min(torch.finfo(truth.dtype).eps)
    return ((x - truth).flatten(1).norm(dim=1) / size).mean()


_LOSSES = {"mse": _mse, "normalised-l2": _normalised_l2}


class _Trainer:
    """The whole state of a training, which can be copied, saved and restored."""

    def __init__(self, network: Network, training: Training, seed: int, problem: Problem, validation: Problem) -> None:
        self.network, self.training, self.seed = network, training, seed
        self.problem, self.validation = problem, validation
        self.weights = dict(network.named_parameters())
        self.optimiser = torch.optim.Adam(self.weights.values(), lr=training.learning_rate, betas=(0.9, 0.99))
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.best = {name: weight.clone() for name, weight in self.average.items()}
        self.step, self.best_step, self.best_psnr, self.halvings = 0, 0, -math.inf, 0
        self.curve: list[dict[str, float]] = []
        self.seconds = 0.0
        self.identity = {
            "network": network.settings,
            "training": asdict(training),
            "seed": seed,
            "images": [list(problem.ids), list(validation.ids)],
        }

    @property
    def finished(self) -> bool:
        patience = self.training.patience
        waited = len(self.curve) - 1 - next((i for i, r in enumerate(self.curve) if r["x"] == self.best_step), 0)
        return self.step >= self.training.steps or (patience is not None and waited >= patience)

    @property
    def warnings(self) -> list[str]:
        if not self.halvings:
            return []
        return [f"training met NaN or infinity and went back {self.halvings} time(s), each with half the learning rate"]

    def run(self, progress: Callable[[int], object]) -> Iterator[dict[str, float]]:
        """Train to the end; yields the row of each validation, and tells ``progress`` how many images were seen."""
        good = self.snapshot()
        losses: list[float] = []
        began = time.monotonic() - self.seconds
        while not self.finished:
            before, loss = self.step, self.advance()
            losses.append(loss)
            if math.isnan(loss):
                self.rewind(good)
                losses.clear()
            elif self.step % self.training.validate_every == 0 or self.step == self.training.steps:
                self.seconds = time.monotonic() - began
                row = self.validate(sum(losses) / len(losses))
                losses.clear()
                if math.isnan(row["validation_psnr"]):
                    self.rewind(good)
                else:
                    good = self.snapshot()
                    yield row
            progress((self.step - before) * self.training.batch)

    def rewind(self, good: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
        """Back to the last good state, with half the learning rate."""
        if self.halvings == REWINDS:
            raise TrainingDivergedError(
                f"training met NaN or infinity {REWINDS + 1} times, at last at step {self.step} with the learning rate "
                f"{self.training.learning_rate / 2**REWINDS:.1e}; lower learning_rate, or look for measurements that "
                "are not finite"
            )
        halvings = self.halvings + 1
        self.restore(*good)
        self.halvings = halvings

    def advance(self) -> float:
        """One step of the optimiser; its loss, NaN if the loss or the gradient is not finite, and then no step."""
        self.network.train()
        pairs = draws(self.step, self.training.batch, len(self.problem), self.seed)
        truth = torch.stack([self.problem.truth(i) for i, _ in pairs])
        y = torch.stack([self.problem.measurement(i, draw) for i, draw in pairs])
        loss = _LOSSES[self.training.loss](self.network(y, self.problem.physics), truth)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.weights.values(), self.training.clip)
        if not torch.isfinite(loss + norm):
            return math.nan
        for group in self.optimiser.param_groups:
            group["lr"] = self.training.learning_rate_at(self.step) / 2**self.halvings
        self.optimiser.step()
        self.step += 1
        decay = min(self.training.average, 1 - 10 / (self.step + 10))
        with torch.no_grad():
            for name, weight in self.weights.items():
                self.average[name].lerp_(weight, 1 - decay)
        return float(loss.detach())

    def validate(self, loss: float) -> dict[str, float]:
        self.network.eval()
        psnr = validation_psnr(self.network, self.average, self.validation, self.training.batch)
        row = {"x": float(self.step), "validation_psnr": psnr, "loss": loss, "seconds": self.seconds}
        self.curve.append(row)
        if psnr > self.best_psnr:
            self.best_psnr, self.best_step = psnr, self.step
            self.best = {name: weight.clone() for name, weight in self.average.items()}
        return row

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Copies of all tensors, and all numbers."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "weights": self.weights,
            "average": self.average,
            "best": self.best,
        }
        if self.step:
            for moment in ("exp_avg", "exp_avg_sq"):
                groups[moment] = {n: self.optimiser.state[w][moment] for n, w in self.weights.items()}
        tensors = {f"{group}/{n}": t.detach().clone() for group, named in groups.items() for n, t in named.items()}
        names = ("step", "best_step", "best_psnr", "halvings", "seconds", "identity")
        return tensors, {name: getattr(self, name) for name in names} | {"curve": list(self.curve)}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        for name, value in numbers.items():
            setattr(self, name, list(value) if name == "curve" else value)
        self.optimiser.state.clear()
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(tensors[f"weights/{name}"])
                self.average[name].copy_(tensors[f"average/{name}"])
                self.best[name] = torch.empty_like(weight).copy_(tensors[f"best/{name}"])
                if self.step:
                    self.optimiser.state[weight] = {
                        "step": torch.tensor(float(self.step)),
                        "exp_avg": torch.empty_like(weight).copy_(tensors[f"exp_avg/{name}"]),
                        "exp_avg_sq": torch.empty_like(weight).copy_(tensors[f"exp_avg_sq/{name}"]),
                    }

    def save(self, path: Path) -> None:
        tensors, numbers = self.snapshot()
        write_tensors(path, tensors, {"training": json.dumps(numbers)})

    def resume(self, path: Path) -> None:
        tensors, metadata = read_tensors(path)
        numbers = json.loads(metadata["training"])
        if numbers["identity"] != json.loads(json.dumps(self.identity)):
            raise ValueError(f"{path} belongs to a training with other settings or images; delete it to train anew")
        self.restore(tensors, numbers)


def _write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "loss", "validation_psnr", "seconds"))
        writer.writerows((int(r["x"]), r["loss"], r["validation_psnr"], round(r["seconds"], 1)) for r in curve)
    partial.replace(path)
