"""The circular convolution nearest to AᵀA, which preconditions systems that hold AᵀA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .operator import LinearOperator

PROBES = 16
FLOOR = 1e-3  # of the largest value: an estimate must not call a frequency unseen


@torch.no_grad()
def nearest_circulant(operator: LinearOperator) -> Tensor:
    """Its spectrum, ``[H, W]``, real and positive for every A but zero, in the order of ``torch.fft.fft2``.

    Estimated by the mean of the responses of AᵀA to single pixels at random places, each moved to the origin: they give
    the diagonal of AᵀA in Fourier space, the optimal circulant approximation of T. Chan (1988). The channels of an
    image have one spectrum, that of the first; two channels are a complex image, whose response is complex.
    """
    height, width = operator.domain[1:]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(height, (PROBES,), generator=generator).tolist()
    columns = torch.randint(width, (PROBES,), generator=generator).tolist()
    pixels = torch.zeros(PROBES, *operator.domain, device=operator._device_holder.device)
    for pixel, row, column in zip(pixels, rows, columns, strict=True):
        pixel[0, row, column] = 1
    responses = operator.normal(pixels)
    # Without its imaginary part, the response of k-space sampled on one side would be that of both sides.
    planes = torch.complex(responses[:, 0], responses[:, 1]) if responses.shape[1] == 2 else responses[:, 0]
    moved = [plane.roll((-i, -j), (0, 1)) for plane, i, j in zip(planes, rows, columns, strict=True)]
    spectrum = torch.fft.fft2(torch.stack(moved).mean(0)).real
    return spectrum.clamp_min(FLOOR * float(spectrum.max()))
