"""Automatic differentiation through a linear map that is computed outside of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def apply_linear(tensor: Tensor, forward: Map, adjoint: Map) -> Tensor:
    """``forward(tensor)``, whose gradient is ``adjoint``, and so on for every order."""
    if not (torch.is_grad_enabled() and tensor.requires_grad):
        return forward(tensor)
    return _Linear.apply(tensor, forward, adjoint)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, forward: Map, adjoint: Map) -> Tensor:
        ctx.maps = (adjoint, forward)
        return forward(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return apply_linear(gradients[0], *ctx.maps), None, None
