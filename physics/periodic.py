"""Convolution of periodic images through the FFT.

A filter is kept as a buffer of real numbers, ``[H, W // 2 + 1, 2]``, the half spectrum of a real filter in float64:
modules convert and move real buffers safely, and a float64 image gets a float64 result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def transfer_function(psf: Tensor, shape: Sequence[int]) -> Tensor:
    """Transform, complex ``[H, W]``, of a psf no larger than ``shape`` whose centre (h // 2, w // 2) is the origin."""
    frame = torch.zeros(*shape, dtype=torch.float64)
    frame[: psf.shape[0], : psf.shape[1]] = psf
    return torch.fft.fft2(frame.roll([-(n // 2) for n in psf.shape], (-2, -1)))


def half_spectrum(transform: Tensor) -> Tensor:
    """Complex ``[H, W]`` of a real filter ↦ the form that is kept."""
    return torch.view_as_real(transform[:, : transform.shape[1] // 2 + 1].to(torch.complex128)).contiguous()


def spectrum_for(x: Tensor, spectrum: Tensor) -> Tensor:
    """The kept form ↦ complex ``[H, W // 2 + 1]`` in the precision of ``x``."""
    return torch.view_as_complex(spectrum.to(x.dtype))


def periodic_filter(x: Tensor, spectrum: Tensor, *, adjoint: bool = False) -> Tensor:
    """Convolve the real ``[…, H, W]`` with a filter, or with its adjoint, the correlation."""
    h = spectrum_for(x, spectrum)
    return torch.fft.irfft2(torch.fft.rfft2(x) * (h.conj() if adjoint else h), s=x.shape[-2:])


def filter_image(x: Tensor, spectrum: Tensor) -> Tensor:
    """F⁻¹ (spectrum · F x) for a real, non-negative ``[H, W]`` in the order of ``fft2``, such as that of AᵀA.

    A spectrum may also be one for each image, ``[B, H, W]``. ``x`` is real, ``[B, 1, H, W]``, with an even spectrum; or
    complex in two channels, with any.
    """
    size, spectrum = x.shape[-2:], spectrum.to(x.dtype)
    if x.shape[1] == 2:
        image = torch.fft.ifft2(torch.fft.fft2(torch.complex(x[:, 0], x[:, 1])) * spectrum)
        return torch.stack((image.real, image.imag), dim=1)
    half = spectrum[..., : size[1] // 2 + 1]
    return torch.fft.irfft2(torch.fft.rfft2(x) * (half if half.ndim == 2 else half[:, None]), s=size)


def gradient_power(shape: Sequence[int]) -> Tensor:
    """|D̂(k)|² of the forward differences, ``[H, W]``: what a penalty ‖∇x‖² is in Fourier space."""
    rows, columns = (4 * torch.sin(torch.pi * torch.arange(n, dtype=torch.float64) / n) ** 2 for n in shape)
    return rows[:, None] + columns
