"""The circular convolution nearest to AᵀA, which preconditions systems that hold AᵀA."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised

PROBES = 16
FLOOR = 1e-3  # of the largest value: an estimate must not call a frequency unseen

_known: WeakKeyDictionary[LinearOperator, Tensor] = WeakKeyDictionary()


def normal_spectrum(physics: LinearOperator) -> Tensor:
    """The spectrum of (A/‖A‖)ᵀ(A/‖A‖), exact or nearly so: ``[H, W]``, real, in the order of ``torch.fft.fft2``.

    Exact where the operator states it (:attr:`LinearOperator.fourier_normal`). Elsewhere the mean of the responses to
    single pixels at random places, each moved to the origin; this estimates the diagonal of AᵀA in Fourier space, the
    optimal circulant approximation of T. Chan (1988). It is computed once for an operator.
    """
    A = Normalised(physics)
    if A.fourier_normal is not None:
        return A.fourier_normal
    if physics not in _known:
        _known[physics] = _estimate(A)
    return _known[physics]


@torch.no_grad()
def _estimate(A: Normalised) -> Tensor:
    height, width = A.domain[1:]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(height, (PROBES,), generator=generator).tolist()
    columns = torch.randint(width, (PROBES,), generator=generator).tolist()
    pixels = torch.zeros(PROBES, *A.domain, device=A.operator._device_holder.device)
    for pixel, row, column in zip(pixels, rows, columns, strict=True):
        pixel[0, row, column] = 1
    responses = A.A_adjoint(A.A(pixels))[:, 0]
    moved = [r.roll((-i, -j), (0, 1)) for r, i, j in zip(responses, rows, columns, strict=True)]
    spectrum = torch.fft.fft2(torch.stack(moved).mean(0)).real
    return spectrum.clamp_min(FLOOR * float(spectrum.max()))
