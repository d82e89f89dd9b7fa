"""Blur with a known point spread function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from .operator import LinearOperator
from .periodic import gradient_power, half_spectrum, periodic_filter, spectrum_for, transfer_function
from .psf import check_psf
from .shapes import image_domain, per_image

Boundary = Literal["circular", "reflect", "valid"]


class Blur(LinearOperator):
    """x ↦ psf ∗ x, each channel by itself.  ``[B, C, H, W]`` → the same, or smaller for ``"valid"``.

    A convolution, (psf ∗ x)[i] = Σ_j psf[j] x[i + c − j] with centre c = (h // 2, w // 2). It goes through the FFT,
    which takes the same time for every psf, and less than direct convolution from about 9 × 9.

    Args:
        psf: ``[h, w]``.
        image_shape: (H, W), or (C, H, W).
        boundary: what lies outside the image. ``"circular"``: the image repeats; ``"reflect"``: it is mirrored about
            its edge, d c b a | a b c d | d c b a, SciPy's mode of this name; ``"valid"``: nothing, and only the
            H − h + 1 by W − w + 1 pixels that need nothing from outside are measured.
        noise_to_signal: regularisation of :meth:`direct`.

    Raises:
        ValueError: for an unknown boundary, or a psf that is no plane or is larger than the image.
    """

    rows: Tensor
    columns: Tensor
    transfer: Tensor
    power: Tensor  # |transfer|², which is the spectrum of AᵀA when the image is circular
    wiener: Tensor

    def __init__(
        self,
        psf: Tensor,
        image_shape: Sequence[int],
        boundary: Boundary = "circular",
        *,
        noise_to_signal: float = 3e-2,
    ) -> None:
        psf = check_psf(psf, "Blur")
        channels, *size = image_domain(image_shape)
        if boundary not in get_args(Boundary):
            raise ValueError(f"Blur: boundary {boundary!r}, expected one of {', '.join(get_args(Boundary))}")
        if psf.shape[0] > size[0] or psf.shape[1] > size[1]:
            raise ValueError(f"Blur: the psf, {tuple(psf.shape)}, is larger than the image, {tuple(size)}; crop it")
        if not noise_to_signal > 0:
            raise ValueError(f"Blur: noise_to_signal is {noise_to_signal}, expected a number above 0")
        measured = [n - k + 1 for n, k in zip(size, psf.shape, strict=True)] if boundary == "valid" else size
        super().__init__(domain=(channels, *size), range=(channels, *measured))
        self.boundary = boundary

        # Every boundary is a periodic convolution of an image that is extended first and cropped afterwards.
        before = [k - 1 - k // 2 for k in psf.shape]  # pixels that the psf reaches beyond the first one
        self.start = [0, 0] if boundary == "circular" else before
        rows, columns = (
            _mirror(n, b, next_fast_len(n + k - 1, real=True) - n - b) if boundary == "reflect" else torch.arange(n)
            for n, k, b in zip(size, psf.shape, before, strict=True)
        )
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        transfer = transfer_function(psf, (len(rows), len(columns)))
        self.register_buffer("transfer", half_spectrum(transfer), persistent=False)
        if boundary == "circular":
            self._norm = float(transfer.abs().max())
        self.register_buffer("power", transfer.abs() ** 2, persistent=False)

        # The direct inversion is periodic too; an image with another boundary is mirrored to twice its size.
        period = size if boundary == "circular" else [2 * n for n in size]
        h = transfer_function(psf, period)
        wiener = h.conj() / (h.abs() ** 2 + noise_to_signal * gradient_power(period)).clamp_min(1e-12)
        self.register_buffer("wiener", half_spectrum(wiener), persistent=False)

    @property
    def fourier_normal(self) -> Tensor | None:
        return self.power if self.boundary == "circular" else None

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        (top, left), (height, width) = self.start, self.range[1:]
        if self.boundary == "reflect":
            x = _extend(_extend(x, self.rows, -2, top), self.columns, -1, left)
        return periodic_filter(x, self.transfer)[..., top : top + height, left : left + width].contiguous()

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        (top, left), (height, width) = self.start, (len(self.rows), len(self.columns))
        y = F.pad(y, (left, width - left - y.shape[-1], top, height - top - y.shape[-2]))
        x = periodic_filter(y, self.transfer, adjoint=True)
        if self.boundary == "reflect":
            x = _fold(x, self.columns, -1, left, self.domain[2])
            x = _fold(x, self.rows, -2, top, self.domain[1])
        return x

    def normal(self, x: Tensor) -> Tensor:
        if self.boundary != "circular":
            return super().normal(x)
        self.check_image(x)
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.power[:, : x.shape[-1] // 2 + 1].to(x.dtype), s=x.shape[-2:])

    def direct(self, y: Tensor) -> Tensor:
        """Wiener filter H̄ / (|H|² + ν |D|²), with ν ``noise_to_signal`` and D the gradient, for the spectrum of images
        falls as 1 / |k|²; the mean is kept. Images that do not repeat are mirrored, and continued where not measured.
        """
        self.check_measurement(y)
        if self.boundary == "circular":
            return periodic_filter(y, self.wiener)
        (top, left), (height, width) = self.start, self.domain[1:]
        if self.boundary == "valid":
            y = F.pad(y, (left, width - left - y.shape[-1], top, height - top - y.shape[-2]), mode="replicate")
        y = torch.cat((y, y.flip(-2)), dim=-2)
        y = torch.cat((y, y.flip(-1)), dim=-1)
        return periodic_filter(y, self.wiener)[..., :height, :width]

    @property
    def has_closed_prox(self) -> bool:
        return self.boundary == "circular"

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **options: Any) -> Tensor:
        """Circular: F⁻¹ (γ H̄ F y + F z) / (1 + γ |H|²) with one γ per image; otherwise conjugate gradients."""
        if self.boundary != "circular":
            return super().prox_l2(z, y, gamma, **options)
        self.check_measurement(y)
        gamma, h = per_image(gamma), spectrum_for(z, self.transfer)
        numerator = gamma * h.conj() * torch.fft.rfft2(y) + torch.fft.rfft2(z)
        return torch.fft.irfft2(numerator / (1 + gamma * h.abs() ** 2), s=z.shape[-2:])


def _mirror(size: int, before: int, after: int) -> Tensor:
    """The pixels of 0 … size − 1 mirrored about their edges, as indices."""
    return torch.from_numpy(np.pad(np.arange(size), (before, after), mode="symmetric"))


def _extend(x: Tensor, pixels: Tensor, dim: int, before: int) -> Tensor:
    """``x`` with copies of its pixels before and after it; much faster than indexing all of it."""
    after = before + x.shape[dim]
    return torch.cat((x.index_select(dim, pixels[:before]), x, x.index_select(dim, pixels[after:])), dim=dim)


def _fold(x: Tensor, pixels: Tensor, dim: int, before: int, size: int) -> Tensor:
    """The adjoint of :func:`_extend`."""
    head, middle, tail = x.split((before, size, len(pixels) - before - size), dim=dim)
    return middle.index_add(dim, pixels[:before], head).index_add(dim, pixels[before + size :], tail)
