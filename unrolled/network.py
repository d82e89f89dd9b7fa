"""The learned method: a network, how it was trained, and the intensities that it works on."""

from __future__ import annotations

import copy
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
        make: makes the network for images of so many channels, 1 or 2; its random initial weights depend on ``seed``
            alone.
        training: how :meth:`fit` trains it.
        seed: of the initial weights and of the order of the images.

    Attributes:
        network: None until :meth:`fit` or :meth:`load` knows the images.
    """

    group = "learned"

    def __init__(self, make: Callable[[int], Network], training: Training | None = None, seed: int = 0) -> None:
        self.make, self.training, self.seed = make, training or Training(), seed
        self.network: Network | None = None
        self.card: Card | None = None

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """Measurements ``[B, *range]`` → images ``[B, *domain]``; differentiable where measurements carry gradients.

        Raises:
            ValueError: before :meth:`fit` or :meth:`load`, and for images of another number of channels.
        """
        network, card = self._trained()
        if card.channels not in (None, physics.domain[0]):
            raise ValueError(
                f"{card.network['network']} was trained on images of {card.channels} channel(s), the operator's have "
                f"{physics.domain[0]}; train it on such images"
            )
        network.to(y.device).eval()
        normalised = Normalised(physics)
        with torch.set_grad_enabled(torch.is_grad_enabled() and y.requires_grad):
            x = network(y.float() / (card.data_range * normalised.scale), normalised)
        return x * card.data_range

    def fit(self, train: Problem, validation: Problem, folder: Path | None = None) -> Fit:
        """Train from the initial weights; a training that was interrupted goes on from what it left in ``folder``.

        The parts of a :class:`Mixture` take turns.

        Raises:
            TrainingDivergedError: if NaN or infinity comes up even with small steps.
            ValueError: if a split is empty, or ``folder`` holds another training.
        """
        for name, problem in (("training", train), ("validation", validation)):
            if not all(map(len, _parts(problem))):
                raise ValueError(f"no {name} images; the dataset must put at least one into that split")
        network = self.initial_network(train.physics.domain[0])
        data_range, device = train.data_range, current_place().device
        prepared = network.prepare([UnitProblem(part, data_range) for part in _parts(validation)])
        moved: dict[LinearOperator, LinearOperator] = {}  # training and validation share an operator

        def there(physics: LinearOperator) -> LinearOperator:
            if physics._device_holder.device == device:
                return physics
            if physics not in moved:
                moved[physics] = copy.deepcopy(physics).to(device)  # the original goes on simulating where it is
            return moved[physics]

        fit = train_network(
            network,
            self.training,
            self.seed,
            [UnitProblem(p, data_range, there(p.physics), self.training.augment) for p in _parts(train)],
            [UnitProblem(p, data_range, there(p.physics)) for p in _parts(validation)],
            folder,
        )
        self.network = network
        self.card = Card(
            network=network.settings,
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
            seconds=round(prepared.seconds + fit.seconds, 1),
            hardware=hardware(next(network.parameters()).device),
            commit=commit(),
        )
        return fit.joined(prepared, " after ")

    def save(self, folder: Path) -> None:
        network, card = self._trained()
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder / WEIGHTS, network, card)

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote; the method is unchanged if it cannot.

        Raises:
            ValueError: when there are no weights that fit this network.
        """
        self.network, self.card = read_weights(folder / WEIGHTS, self.initial_network)

    @property
    def parameters(self) -> int:
        """Of the network; 0 while there is none."""
        return sum(weight.numel() for weight in self.network.parameters()) if self.network else 0

    def initial_network(self, channels: int) -> Network:
        """The network before training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.make(channels)

    def _trained(self) -> tuple[Network, Card]:
        if self.network is None or self.card is None:
            raise ValueError("the network is not trained; call fit or load first")
        return self.network, self.card


def _parts(problem: Problem) -> tuple[Problem, ...]:
    return problem.parts if isinstance(problem, Mixture) else (problem,)
