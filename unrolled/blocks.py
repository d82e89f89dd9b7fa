"""How stacks of convolutions run: bf16 and channels last where the processor is faster that way, float32 elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor, nn

_full_precision: ContextVar[bool] = ContextVar("full_precision", default=False)


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, :func:`reduced_precision` reduces none: all convolutions keep the dtype of their input."""
    token = _full_precision.set(True)
    try:
        yield
    finally:
        _full_precision.reset(token)


@cache
def bf16_is_fast(device_type: str) -> bool:
    """Whether the device multiplies bf16 in hardware.

    Measured on two cores with AVX-512 bf16, forward and backward of a U-Net: three times float32, and 1.8 times
    float32 in channels last. Without these instructions bf16 is emulated, and slower than float32.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        # torch has no public question for it; older versions have none at all and stay in float32
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return False


@contextmanager
def reduced_precision(x: Tensor) -> Iterator[None]:
    """Inside, convolutions of float32 tensors on the device of ``x`` run in bf16 where that is fast."""
    if x.dtype != torch.float32 or _full_precision.get() or not bf16_is_fast(x.device.type):
        yield
        return
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        yield


class ConvolutionBlock(nn.Module):
    """A stack of convolutions, float32 in and float32 out, bf16 inside where that is fast.

    Only learned convolutions belong in it; physics, sums with images and losses stay outside, in float32. Any other
    dtype than float32 passes unchanged.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        with reduced_precision(x):
            made = self.body(x)
        return made.to(x.dtype).contiguous()
