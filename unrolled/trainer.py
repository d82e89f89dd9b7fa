"""The state of a training and its steps: Adam, averaged weights, validation, and the way back from NaN."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..data.metrics import psnr
from ..data.problem import Problem
from ..physics.noise import seeded_generator
from .batches import Batch, Batches
from .contract import Network
from .distributed import Place
from .objective import SPLITTING, Objective
from .unit_problem import UnitProblem
from .weights_io import read_tensors, write_tensors

if TYPE_CHECKING:
    from .training import Training

REWINDS = 5

State = tuple[dict[str, Tensor], dict[str, Any]]


class CheckpointError(ValueError):
    """What an interrupted training left belongs to another one, or is damaged."""


class TrainingDivergedError(RuntimeError):
    """Training met NaN or infinity again and again, with ever smaller steps."""


def validation_psnr(
    network: Network, weights: dict[str, Tensor], problem: Problem, batch: int, place: Place | None = None
) -> float:
    """Mean PSNR over the images of a problem, with the dataset's range; complex images as magnitudes.

    Processes share the images, and all get the mean.
    """
    place = place or Place(torch.device("cpu"))
    total = torch.zeros((), dtype=torch.float64, device=place.device)
    own = range(place.rank, len(problem), place.size)
    with torch.no_grad():
        for first in range(0, len(own), batch):
            truth, y = (tensor.to(place.device) for tensor in problem.batch(own[first : first + batch]))
            x = functional_call(network, weights, (y, problem.physics))
            total += psnr(x, truth, problem.data_range).sum()
    return float(place.sum(total)) / len(problem)


class Trainer:
    """The whole state of a training, which can be copied, saved and restored."""

    def __init__(
        self,
        network: Network,
        training: Training,
        seed: int,
        problems: Sequence[UnitProblem],
        validations: Sequence[UnitProblem],
        place: Place,
    ) -> None:
        self.network, self.training, self.seed, self.place = network, training, seed, place
        self.problems, self.validations = problems, validations
        self.objective = Objective(training.loss, training.deep_supervision, training.withheld, seed)
        network.checkpointing = training.checkpoint
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
            "images": [list(problem.ids) for problem in (*problems, *validations)],
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

    def run(self, progress: Callable[[int, float], object]) -> Iterator[dict[str, float]]:
        """Train to the end; yields the row of each validation, and tells ``progress`` images and loss of each step."""
        good = self.snapshot()
        losses: list[float] = []
        began = time.monotonic() - self.seconds
        training, once = self.training, self.training.loss == SPLITTING
        with Batches(self.problems, training.batch, training.steps, self.seed, self.place, once=once) as batches:
            while not self.finished:
                before, loss = self.step, self.advance(batches.take(self.step))
                losses.append(loss)
                if math.isnan(loss):
                    self.rewind(good)
                    losses.clear()
                elif self.step % training.validate_every == 0 or self.step == training.steps:
                    self.seconds = time.monotonic() - began
                    row = self.validate(sum(losses) / len(losses))
                    losses.clear()
                    if not row["validation_psnr"] > -math.inf:  # an image that is not finite
                        self.rewind(good)
                    else:
                        good = self.snapshot()
                        yield row
                progress((self.step - before) * training.batch, loss)

    def rewind(self, good: State) -> None:
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

    def advance(self, batch: Batch) -> float:
        """One step of the optimiser; its loss, NaN if the loss or the gradient is not finite, and then no step."""
        self.network.train()
        self.optimiser.zero_grad()
        loss = self.place.sum_gradients(self.weights.values(), self.differentiate(batch))
        norm = nn.utils.clip_grad_norm_(self.weights.values(), self.training.clip)
        if not torch.isfinite(loss + norm):
            return math.nan
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        self.optimiser.step()
        self.step += 1
        decay = min(self.training.average, 1 - 10 / (self.step + 10))
        with torch.no_grad():
            for name, weight in self.weights.items():
                self.average[name].lerp_(weight, 1 - decay)
        return float(loss)

    def differentiate(self, batch: Batch) -> Tensor:
        """This process's part of the loss, a mean over the images of all processes; leaves its gradients."""
        devices = [self.place.device] if self.place.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # what a network draws is a function of the step, for all ranks
            torch.manual_seed(seeded_generator("step", self.seed, self.step).initial_seed())
            loss = self.objective(self.network, batch, self.step).sum() / self.training.batch
            penalty = self.network.penalty()
            if penalty is not None:
                loss = loss + penalty * (len(batch.truth) / self.training.batch)
            loss.backward()
        return loss

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return self.training.learning_rate_at(self.step) / 2**self.halvings

    def validate(self, loss: float) -> dict[str, float]:
        self.network.eval()
        batch, place = self.training.batch, self.place
        sums = [len(v) * validation_psnr(self.network, self.average, v, batch, place) for v in self.validations]
        psnr = sum(sums) / sum(map(len, self.validations))
        row = {"x": float(self.step), "validation_psnr": psnr, "loss": loss}
        row |= {"learning_rate": self.learning_rate, "seconds": self.seconds}
        self.curve.append(row)
        if psnr > self.best_psnr:
            self.best_psnr, self.best_step = psnr, self.step
            self.best = {name: weight.clone() for name, weight in self.average.items()}
        return row

    def snapshot(self) -> State:
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

    def resume(self, path: Path | None) -> None:
        """Go on from a file of :meth:`save`, where there is one; the first process reads it for all.

        Raises:
            CheckpointError: when the file is of another training, or damaged.
        """
        state, error = None, None
        if path is not None and path.exists():
            try:
                state = self._read(path)
            except ValueError as problem:
                error = str(problem)
        state, error = self.place.share((state, error))
        if error:
            raise CheckpointError(error)
        if state:
            self.restore(*state)

    def _read(self, path: Path) -> State:
        tensors, metadata = read_tensors(path)
        numbers = json.loads(metadata["training"])
        if numbers["identity"] != json.loads(json.dumps(self.identity)):
            raise ValueError(f"{path} belongs to a training with other settings or images; delete it to train anew")
        return tensors, numbers
