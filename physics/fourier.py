"""Masked Fourier sampling: single-coil magnetic resonance imaging.

k-space is centred and orthonormal, fftshift ∘ fft2 ∘ ifftshift: the zero frequency lies at (H // 2, W // 2).
Complex numbers are two channels, real and imaginary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .operator import LinearOperator
from .periodic import filter_image
from .shapes import binary_mask, per_image

_IMAGE = (-2, -1)


def to_complex(x: Tensor) -> Tensor:
    """``[B, 2, …]`` ↦ complex ``[B, …]``."""
    return torch.complex(x[:, 0], x[:, 1])


def to_channels(x: Tensor) -> Tensor:
    """Complex ``[B, …]`` ↦ ``[B, 2, …]``."""
    return torch.stack((x.real, x.imag), dim=1)


def centred_fft2(x: Tensor) -> Tensor:
    """Centred orthonormal transform of the last two dimensions of a real or complex tensor."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, _IMAGE), norm="ortho"), _IMAGE)


def centred_ifft2(x: Tensor) -> Tensor:
    """Inverse, and adjoint, of :func:`centred_fft2`."""
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(x, _IMAGE), norm="ortho"), _IMAGE)


def fft2(x: Tensor) -> Tensor:
    """Image ``[B, 2, …, H, W]`` ↦ k-space of the same shape, centred and orthonormal."""
    return to_channels(centred_fft2(to_complex(x)))


def ifft2(kspace: Tensor) -> Tensor:
    """k-space ``[B, 2, …, H, W]`` ↦ image of the same shape, centred and orthonormal."""
    return to_channels(centred_ifft2(to_complex(kspace)))


def mirrored(mask: Tensor) -> Tensor:
    """k ↦ mask(−k), for a centred ``[H, W]`` mask of even or odd sizes."""
    even = [1 - n % 2 for n in mask.shape]  # the Nyquist line of an even size is its own mirror
    return mask.flip(_IMAGE).roll(even, _IMAGE)


class FourierSampling(LinearOperator):
    """x ↦ M F x.  ``[B, 1, H, W]`` real, or ``[B, 2, H, W]`` complex → k-space ``[B, 2, H, W]``.

    The adjoint of the real case is the real part of Fᴴ M y; there AᵀA is the filter (M(k) + M(−k)) / 2, since the
    spectrum of a real image is Hermitian, so that its norm is 1 or 1/√2.

    Args:
        mask: ``[H, W]`` of 0 and 1, or booleans; the zero frequency at (H // 2, W // 2).
        complex_image: images are complex.

    Raises:
        ValueError: if the mask is not a plane of 0 and 1.
    """

    mask: Tensor
    gram: Tensor  # spectrum of AᵀA

    def __init__(self, mask: Tensor, *, complex_image: bool = False) -> None:
        mask = torch.as_tensor(mask)
        if mask.ndim != 2:
            raise ValueError(f"FourierSampling: the mask is {tuple(mask.shape)}, expected (H, W)")
        mask = binary_mask(mask, "FourierSampling")
        super().__init__(domain=(2 if complex_image else 1, *mask.shape), range=(2, *mask.shape))
        gram = mask.float() if complex_image else (mask.float() + mirrored(mask).float()) / 2
        self.complex_image = complex_image
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("gram", gram, persistent=False)
        self._norm = float(gram.max()) ** 0.5
        self.to(mask.device)

    @property
    def support(self) -> Tensor:
        return self.mask

    @property
    def fourier_normal(self) -> Tensor:
        return torch.fft.ifftshift(self.gram)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self._transform(x) * self.mask

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        return self._image(y * self.mask)

    def normal(self, x: Tensor) -> Tensor:
        """F⁻¹ (spectrum · F x), without the shifts, and by the half spectrum where images are real."""
        self.check_image(x)
        return filter_image(x, self.fourier_normal)

    def direct(self, y: Tensor) -> Tensor:
        """The zero-filled image; for real images the real part."""
        return self.A_adjoint(y)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        """F⁻¹ (γ M y + F z) / (1 + γ (M(k) + M(−k)) / 2), the fraction taken per frequency; γ one per image."""
        self.check_measurement(y)
        gamma, gram = per_image(gamma), self.gram.to(z.dtype)
        return self._image((gamma * (self.mask * y) + self._transform(z)) / (1 + gamma * gram))

    def _transform(self, x: Tensor) -> Tensor:
        return fft2(x) if self.complex_image else to_channels(centred_fft2(x[:, 0]))

    def _image(self, kspace: Tensor) -> Tensor:
        image = centred_ifft2(to_complex(kspace))
        return to_channels(image) if self.complex_image else image.real[:, None]
