"""Multi-coil magnetic resonance imaging."""

from __future__ import annotations

import torch
from torch import Tensor

from .fourier import centred_fft2, centred_ifft2, to_channels, to_complex
from .operator import LinearOperator
from .shapes import binary_mask


class MultiCoilSampling(LinearOperator):
    """x ↦ (M F s_1 x, …, M F s_C x).  Complex ``[B, 2, H, W]`` → k-space ``[B, 2, C, H, W]`` (SENSE).

    Args:
        mask: ``[H, W]`` of 0 and 1, or booleans, the same for all coils; the zero frequency at (H // 2, W // 2).
        coil_maps: complex sensitivities ``[2, C, H, W]``, the same for all images.

    Raises:
        ValueError: if the mask is not a plane of 0 and 1, or the maps do not fit it.
    """

    mask: Tensor
    coil_maps: Tensor

    def __init__(self, mask: Tensor, coil_maps: Tensor) -> None:
        mask = binary_mask(mask, "MultiCoilSampling")
        if mask.ndim != 2 or coil_maps.ndim != 4 or coil_maps.shape[0] != 2 or coil_maps.shape[2:] != mask.shape:
            raise ValueError(
                f"MultiCoilSampling: coil maps {tuple(coil_maps.shape)} with a mask {tuple(mask.shape)}, "
                "expected (2, coils, H, W) with real and imaginary parts first, and (H, W)"
            )
        super().__init__(domain=(2, *mask.shape), range=tuple(coil_maps.shape))
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("coil_maps", coil_maps, persistent=False)
        self.to(coil_maps.device)

    @property
    def support(self) -> Tensor:
        return self.mask

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return to_channels(centred_fft2(to_complex(x)[:, None] * self._maps(x))) * self.mask

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        coil_images = centred_ifft2(to_complex(y * self.mask))
        return to_channels((coil_images * self._maps(y).conj()).sum(dim=1))

    def direct(self, y: Tensor) -> Tensor:
        """The zero-filled image Aᴴ y / Σ |s|²; zero where no coil sees anything."""
        seen = self.coil_maps.to(y.dtype).square().sum(dim=(0, 1))
        visible = seen > 1e-6 * seen.max()
        return torch.where(visible, self.A_adjoint(y) / torch.where(visible, seen, 1), 0)

    def _maps(self, like: Tensor) -> Tensor:
        maps = self.coil_maps.to(like.dtype)
        return torch.complex(maps[0], maps[1])
