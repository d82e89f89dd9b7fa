"""The contract of every network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..baselines.method import Fit
from ..data.problem import Problem
from ..physics import LinearOperator

State = TypeVar("State")


class Network(nn.Module, ABC):
    """x = network(y, A) for operators of norm one and images whose data range is one.

    No image may depend on the others of its batch: no batch normalisation. All in float32 but what
    :func:`reduced_precision` holds (to which a CUDA device adds what PyTorch allows cuDNN, TF32 in other convolutions).

    Attributes:
        settings: what was given to make the network, plain data; weights fit networks of the same settings only.
        checkpointing: whether training keeps only what goes from stage to stage and computes the insides of a stage
            again on the way back: memory for one stage instead of all, for a third more time.
        shown: where :meth:`show` puts images while training judges them too (deep supervision), None otherwise.
    """

    settings: dict[str, Any]
    checkpointing: bool = False
    shown: list[Tensor] | None = None

    @abstractmethod
    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""

    def prepare(self, validations: Sequence[Problem]) -> Fit:
        """Choose, before training, numbers that are not learned by gradient; nothing to choose here.

        Args:
            validations: problems in the network's units, on the CPU.
        """
        return Fit()

    def penalty(self) -> Tensor | None:
        """What training adds to the loss of the last :meth:`forward`, a mean over its images; None for nothing."""
        return None

    def show(self, x: Tensor) -> None:
        """Let training see the image ``[B, *domain]`` that a stage ended with; to be called outside of :meth:`run`."""
        if self.shown is not None:
            self.shown.append(x)

    def run(self, stage: Callable[..., State], *arguments: Any) -> State:
        """``stage(*arguments)``, one iteration of the loop over stages."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, *arguments, use_reentrant=False)
        return stage(*arguments)
