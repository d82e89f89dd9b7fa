"""Where training runs: the device, and the processes that share a batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")

PATIENCE = timedelta(hours=12)  # of processes that wait for the first one, which simulates all measurements alone


@dataclass(frozen=True)
class Place:
    """This process among those that train together.

    Attributes:
        device: that the network and its operator are on.
        rank: from 0.
        size: number of processes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    def share(self, value: T) -> T:
        """The first process's value, in all processes; anything that pickles."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes, the same bits in each."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, weights: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Add up the gradients of all processes, in one message with the loss, whose sum is returned.

        A weight that no process used has the gradient zero.
        """
        weights = list(weights)
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        if self.size == 1:
            return loss.detach()
        gradients = [cast(Tensor, weight.grad) for weight in weights]
        flat = self.sum(torch.cat([*(g.flatten() for g in gradients), loss.detach().flatten()]))
        sizes = [g.numel() for g in gradients]
        for gradient, total in zip(gradients, flat[:-1].split(sizes), strict=True):
            gradient.copy_(total.view_as(gradient))
        return flat[-1]


_current: ContextVar[Place | None] = ContextVar("place", default=None)


def current_place() -> Place:
    """Where :func:`place` put training; a CUDA device where there is one, and else the CPU."""
    return _current.get() or Place(default_device())


def default_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


@contextmanager
def place(device: str | None = None) -> Iterator[Place]:
    """Put training on a device, and under ``torchrun`` into the group of its processes.

    Args:
        device: such as ``cpu`` or ``cuda:1``; CUDA where there is one when None. Processes take one CUDA device each.

    Raises:
        ValueError: for a device that is not there.
    """
    try:
        chosen = torch.device(device) if device else default_device()
        chosen = torch.empty(0, device=chosen).device  # with the number of a CUDA device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: {str(error).splitlines()[0]}") from error
    size = int(os.environ.get("WORLD_SIZE", "1"))  # torchrun tells each process of the others
    if size > 1 and chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    here = Place(chosen, int(os.environ.get("RANK", "0")), size)
    if size > 1:
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    token = _current.set(here)
    try:
        yield here
    finally:
        _current.reset(token)
        if size > 1:
            distributed.destroy_process_group()
