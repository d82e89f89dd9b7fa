"""Low resolution: blur and decimation, or the centre of k-space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from .operator import LinearOperator
from .periodic import half_spectrum, periodic_filter, transfer_function
from .psf import bicubic_psf, check_psf, cubic
from .shapes import image_domain, per_image


class Downsample(LinearOperator):
    """x ↦ every s-th pixel of psf ∗ x, the image repeating.  ``[B, C, H, W]`` → ``[B, C, H / s, W / s]``.

    The kept pixel of each s × s block is number (s − 1) // 2, so that with a psf of odd sides for odd s, and of even
    sides for even s, low-resolution pixels are centred on their blocks.

    ``"kspace"`` is a scan of lower resolution: the image of the central H / s × W / s frequencies. Its pixels are
    centred on their blocks too, it keeps constants and AAᵀ = 1 / s². For even H / s the frequencies at both ends fall
    together and weigh 1/√2 each, which makes A a map of real images; a complex image is two of them.

    Args:
        image_shape: (H, W), or (C, H, W), divisible by the factor.
        factor: s, an integer of at least 2.
        psf: ``[h, w]``; or ``"kspace"``; ``"bicubic"`` is :func:`bicubic_psf`.

    Raises:
        ValueError: if the factor does not divide the image, or the psf is no plane or is larger than the image.
    """

    transfer: Tensor
    gram: Tensor  # spectrum of AAᵀ, [H / s, W / (2 s) + 1]
    interpolate_rows: Tensor
    interpolate_columns: Tensor

    def __init__(
        self, image_shape: Sequence[int], factor: int, psf: Tensor | Literal["bicubic", "kspace"] = "bicubic"
    ) -> None:
        channels, *size = image_domain(image_shape)
        if factor != int(factor) or factor < 2:
            raise ValueError(f"Downsample: factor {factor}, expected an integer of at least 2")
        factor = int(factor)
        if any(n % factor for n in size):
            raise ValueError(f"Downsample: an image of {size[0]} × {size[1]} is not divisible by {factor}; crop it")
        small = [n // factor for n in size]
        super().__init__(domain=(channels, *size), range=(channels, *small))
        self.factor = factor
        self.first = (factor - 1) // 2
        self.kspace = isinstance(psf, str) and psf == "kspace"
        if self.kspace:
            rows, columns = (_low_pass(n, factor) for n in size)
            transfer = rows[:, None] * columns
        else:
            if isinstance(psf, str):
                if psf != "bicubic":
                    raise ValueError(f"Downsample: psf {psf!r}, expected [h, w], 'bicubic' or 'kspace'")
                psf = bicubic_psf(factor)
            psf = check_psf(psf, "Downsample")
            if psf.shape[0] > size[0] or psf.shape[1] > size[1]:
                raise ValueError(
                    f"Downsample: the psf, {tuple(psf.shape)}, is larger than the image, {tuple(size)}; crop it"
                )
            transfer = transfer_function(psf, size)
            # A psf of even side is centred half a pixel beyond its pixel.
            for name, n, k in zip(("interpolate_rows", "interpolate_columns"), size, psf.shape, strict=True):
                matrix = _cubic_interpolation(n, factor, self.first + (0.5 if k % 2 == 0 else 0.0))
                self.register_buffer(name, matrix, persistent=False)
        # Decimation folds the spectrum: AAᵀ is the mean over the s² aliases of each frequency, over s² once more.
        gram = (transfer.abs() ** 2).reshape(factor, small[0], factor, small[1]).sum(dim=(0, 2)) / factor**2
        self.register_buffer("transfer", half_spectrum(transfer), persistent=False)
        self.register_buffer("gram", gram[:, : small[1] // 2 + 1].contiguous(), persistent=False)
        self._norm = float(gram.max()) ** 0.5

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        blurred = periodic_filter(x, self.transfer)
        return blurred[..., self.first :: self.factor, self.first :: self.factor].contiguous()

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        spread = y.new_zeros(y.shape[0], *self.domain)
        spread[..., self.first :: self.factor, self.first :: self.factor] = y
        return periodic_filter(spread, self.transfer, adjoint=True)

    def direct(self, y: Tensor) -> Tensor:
        """Cubic interpolation (Keys 1981), aligned with the decimation; for k-space the zero-filled image s² Aᵀ y."""
        if self.kspace:
            return self.factor**2 * self.A_adjoint(y)
        self.check_measurement(y)
        with torch.autocast(y.device.type, enabled=False):
            return self.interpolate_rows.to(y.dtype) @ y @ self.interpolate_columns.to(y.dtype).T

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        """z + γ Aᵀ (1 + γ AAᵀ)⁻¹ (y − A z), AAᵀ being a filter (Zhao et al. 2016, Theorem 2); γ one per image."""
        self.check_measurement(y)
        gamma = per_image(gamma)
        residual = torch.fft.rfft2(y - self.A(z)) / (1 + gamma * self.gram.to(z.dtype))
        return z + gamma * self.A_adjoint(torch.fft.irfft2(residual, s=y.shape[-2:]))


def _low_pass(size: int, factor: int) -> Tensor:
    """Transform of the filter that keeps the central size / factor frequencies and centres pixels on their blocks."""
    frequency = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    small = size // factor
    edge = 2 * frequency.abs() == small
    kept = torch.where(edge, 0.5**0.5, (2 * frequency.abs() < small).double())
    shift = 0.5 if factor % 2 == 0 else 0.0  # from the kept pixel to the middle of its block
    return torch.polar(kept, 2 * torch.pi * frequency * shift / size)


def _cubic_interpolation(size: int, factor: int, first: float) -> Tensor:
    """Matrix ``[size, size / factor]`` from values at first + i · factor to all pixels; edges are continued."""
    small = size // factor
    position = (torch.arange(size, dtype=torch.float64) - first) / factor
    matrix = torch.zeros(size, small, dtype=torch.float64)
    base = position.floor()
    for tap in range(-1, 3):
        column = (base + tap).clamp(0, small - 1).long()
        matrix.scatter_add_(1, column[:, None], cubic(position - base - tap)[:, None])
    return matrix
