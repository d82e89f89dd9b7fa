"""The learned method: a network, how it was trained, and the intensities that it works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..baselines.method import Fit, Method
from ..data.problem import Problem
from ..physics import LinearOperator, Normalised
from .contract import Network
from .distributed import current_place
from .mixture import Mixture
from .training import Training
from .training import train as train_network
from .unit_problem import UnitProblem
from .weights_io import Card, commit, hardware, read_weights, write_weights

WEIGHTS = "weights.safetensors"


class LearnedMethod(Method):
    """A network x = N(y, A) behind the method contract.

    The network sees A / ‖A‖ and images whose data range is one, whatever the dataset's units: measurements are divided
    by ‖A‖ and by the data range of the training set, which is part of the weights, and the result is multiplied by it.

    Args:
        make: makes the network; its random initial weights depend on ``seed`` alone.
        training: how :meth:`fit` trains it.
        seed: of the initial weights and of the order of the images.
    """

    group = "learned"

    def __init__(self, make: Callable[[], Network], training: Training | None = None, seed: int = 0) -> None:
        self.make, self.training, self.seed = make, training or Training(), seed
        self.network = self._initial_network()
        self.card: Card | None = None

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        if self.card is None:
            raise ValueError(f"{self.network.settings['network']} is not trained; call fit or load first")
        self.network.to(y.device).eval()
        normalised = Normalised(physics)
        with torch.no_grad():
            x = self.network(y.float() / (self.card.data_range * normalised.scale), normalised)
        return x * self.card.data_range

    def fit(self, train: Problem, validation: Problem, folder: Path | None = None) -> Fit:
        """Train from the initial weights; a training that was interrupted goes on from what it left in ``folder``.

        The parts of a :class:`Mixture` take turns.

        Raises:
            TrainingDivergedError: if NaN or infinity comes up even with small steps.
            ValueError: if a split is empty, or ``folder`` holds another training.
        """
        self.network = self._initial_network()
        data_range, device = train.data_range, current_place().device
        fit = train_network(
            self.network,
            self.training,
            self.seed,
            [UnitProblem(part, data_range, device, self.training.augment) for part in _parts(train)],
            [UnitProblem(part, data_range, device) for part in _parts(validation)],
            folder,
        )
        self.card = Card(
            network=self.network.settings,
            training={**asdict(self.training), "seed": self.seed},
            data={
                "training_images": len(train),
                "training_patients": len(set(train.patients)),
                "validation_images": len(validation),
                "validation_patients": len(set(validation.patients)),
            },
            data_range=data_range,
            validation_psnr=max(row["validation_psnr"] for row in fit.curve),
            parameters=self.parameters,
            seconds=round(fit.seconds, 1),
            hardware=hardware(next(self.network.parameters()).device),
            commit=commit(),
        )
        return fit

    def save(self, folder: Path) -> None:
        if self.card is None:
            raise ValueError(f"{self.network.settings['network']} is not trained; there is nothing to save")
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder / WEIGHTS, self.network, self.card)

    def load(self, folder: Path) -> None:
        self.card = read_weights(folder / WEIGHTS, self.network)

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.network.parameters())

    def _initial_network(self) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.make()


def _parts(problem: Problem) -> tuple[Problem, ...]:
    return problem.parts if isinstance(problem, Mixture) else (problem,)
