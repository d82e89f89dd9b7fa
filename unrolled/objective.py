"""What a training step minimises, from the network's images to one number for each image."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised
from ..physics.noise import seeded_generator
from ..physics.subset import Subset
from .batches import Batch
from .contract import Network
from .losses import SUPERVISED, normalised_l1_l2

SPLITTING = "measurement-splitting"
SPLITS = 16  # masks that steps take turns with, so that what an operator keeps of itself is computed once for each
CENTRE = 2  # half the width of the centre of k-space that is never withheld


class Objective:
    """loss(N(y, A), x*) for each image, plus w times the mean of the same over the images that the network shows.

    With measurement splitting (SSDU: Yaman et al., MRM 2020) no truth is needed: the network sees a random part of the
    measured entries and the operator of that part, and A x̂ is compared with what was measured elsewhere.

    Args:
        loss: a name of :data:`SUPERVISED`, or ``"measurement-splitting"``.
        deep_supervision: w.
        withheld: share of the measured entries that splitting withholds.
        seed: of the splits.
    """

    def __init__(self, loss: str, deep_supervision: float, withheld: float, seed: int) -> None:
        self.loss, self.deep_supervision, self.withheld, self.seed = loss, deep_supervision, withheld, seed
        self._splits: WeakKeyDictionary[LinearOperator, list[Normalised]] = WeakKeyDictionary()

    def __call__(self, network: Network, batch: Batch, step: int) -> Tensor:
        """``[B]``.

        Raises:
            ValueError: for deep supervision of a network that shows no intermediate images.
        """
        if self.loss == SPLITTING:
            part, physics = self._part(batch.physics, step), batch.physics
            rest = ~part.operator.keep if physics.support is None else physics.support.bool() & ~part.operator.keep
            withheld = batch.y * rest
            return self._judge(
                network, batch.y * part.operator.keep, part, lambda x: normalised_l1_l2(physics.A(x) * rest, withheld)
            )
        loss = SUPERVISED[self.loss]
        return self._judge(network, batch.y, batch.physics, lambda x: loss(x, batch.truth))

    def _judge(self, network: Network, y: Tensor, physics: LinearOperator, loss: Callable[[Tensor], Tensor]) -> Tensor:
        if not self.deep_supervision:
            return loss(network(y, physics))
        network.shown = []
        try:
            value, shown = loss(network(y, physics)), network.shown
        finally:
            network.shown = None
        if not shown:
            raise ValueError(f"{network.settings['network']} shows no intermediate images; leave deep_supervision out")
        return value + self.deep_supervision * torch.stack([loss(x) for x in shown]).mean(0)

    def _part(self, physics: LinearOperator, step: int) -> Normalised:
        if physics not in self._splits:
            operator = physics.operator if isinstance(physics, Normalised) else physics
            keeps = [split(operator, self.withheld, self.seed, k) for k in range(SPLITS)]
            self._splits[physics] = [Normalised(Subset(operator, keep)) for keep in keeps]
        return self._splits[physics][step % SPLITS]


def split(physics: LinearOperator, withheld: float, seed: int, index: int) -> Tensor:
    """Which entries the network sees: booleans over the last two dimensions of a measurement, coils alike.

    Every entry is withheld with the same probability, but the centre of k-space, which holds most of an image.
    """
    height, width = physics.range[-2:]
    keep = torch.rand(height, width, generator=seeded_generator("splitting", seed, index)) >= withheld
    if physics.range[0] == 2:
        row, column = height // 2, width // 2
        keep[max(0, row - CENTRE) : row + CENTRE, max(0, column - CENTRE) : column + CENTRE] = True
    return keep.to(physics._device_holder.device)
