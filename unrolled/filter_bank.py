"""Banks of small real filters under circular boundaries, in the image and in Fourier space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy.fft import dct
from torch import Tensor
from torch.nn.functional import conv2d, pad


def dct_basis(kernel: int) -> Tensor:
    """The orthonormal two-dimensional DCT-II basis without its constant: ``[k² − 1, k, k]``."""
    basis = torch.as_tensor(dct(torch.eye(kernel, dtype=torch.float64).numpy(), axis=0, norm="ortho"))
    products = torch.einsum("ai,bj->abij", basis, basis).reshape(kernel**2, kernel, kernel)
    return products[1:].float()


def analyse(x: Tensor, filters: Tensor) -> Tensor:
    """D: ``[B, H, W]`` → its circular correlation with each of ``[L, k, k]`` (k odd), ``[L, B, H, W]``."""
    patches = _Patches.apply(x, filters.shape[-1])
    return (filters.flatten(1) @ patches.flatten(1)).view(-1, *x.shape)


def synthesise(z: Tensor, filters: Tensor) -> Tensor:
    """Dᵀ: ``[L, B, H, W]`` → ``[B, H, W]``, the adjoint of :func:`analyse`."""
    patches = filters.flatten(1).T @ z.flatten(1)
    return _SumOfPatches.apply(patches.view(-1, *z.shape[1:]), filters.shape[-1])


def through_patches(x: Tensor, kernel: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``[B, H, W]`` → the same: a function of the k² shifted copies of x, ``[k², B·H·W]``, shifted back and summed.

    With two matrices around something pointwise it is :func:`synthesise` after :func:`analyse`.
    """
    patches = function(_Patches.apply(x, kernel).flatten(1))
    return _SumOfPatches.apply(patches.view(-1, *x.shape), kernel)


def gram(filters: Tensor, weights: Tensor) -> Tensor:
    """DᵀWD as one correlation: the weighted sum of the filters' autocorrelations, ``[2k − 1, 2k − 1]``."""
    margin = filters.shape[-1] - 1
    padded = pad(filters, (margin,) * 4)
    return conv2d(padded[None], (weights.view(-1, 1, 1) * filters)[None])[0, 0]


def real_spectrum(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """The spectrum of the circular correlation with an even kernel ``[2r + 1, 2r + 1]``, in the order of ``fft2``.

    The kernel is far smaller than the image, so that a sum of its few waves is cheaper than a transform.
    """
    radius = kernel.shape[-1] // 2
    offsets = torch.arange(-radius, radius + 1, device=kernel.device, dtype=kernel.dtype)
    rows, columns = (2 * torch.pi * torch.fft.fftfreq(n, device=kernel.device, dtype=kernel.dtype) for n in shape)
    row, column = torch.outer(rows, offsets), torch.outer(columns, offsets)
    return row.cos() @ kernel @ column.cos().T - row.sin() @ kernel @ column.sin().T


# One image becomes k² shifted copies, and the filters one small matrix times all of them, channels first. For the
# single channel of ADMM-Net this is several times faster than a convolution, forward and backward.


def _patches(x: Tensor, kernel: int) -> Tensor:
    height, width = x.shape[-2:]
    wrapped = pad(x[:, None], (kernel // 2,) * 4, mode="circular")[:, 0]
    return torch.stack([wrapped[:, i : i + height, j : j + width] for i in range(kernel) for j in range(kernel)])


def _sum_of_patches(patches: Tensor, kernel: int) -> Tensor:
    shifts = [(i - kernel // 2, j - kernel // 2) for i in range(kernel) for j in range(kernel)]
    total = torch.zeros_like(patches[0])
    for patch, shift in zip(patches, shifts, strict=True):
        total += patch.roll(shift, (-2, -1))
    return total


class _Patches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int) -> Tensor:
        ctx.kernel = kernel
        return _patches(x, kernel)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _SumOfPatches.apply(gradient, ctx.kernel), None


class _SumOfPatches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, kernel: int) -> Tensor:
        ctx.kernel = kernel
        return _sum_of_patches(patches, kernel)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Patches.apply(gradient, ctx.kernel), None
