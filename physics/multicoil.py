"""Multi-coil magnetic resonance imaging."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .fourier import to_channels, to_complex
from .operator import LinearOperator
from .shapes import binary_mask

TOGETHER = 2**20  # pixels of coil images that are transformed at once


class MultiCoilSampling(LinearOperator):
    """x ↦ (M F s_1 x, …, M F s_C x).  Complex ``[B, 2, H, W]`` → k-space ``[B, 2, C, H, W]`` (SENSE).

    The centred transform F is the plain one between two planes of phases, P_k F₀ P_x, so that nothing is shifted:
    P_x is kept within the maps and P_k, which cancels in AᵀA, within the mask.

    Args:
        mask: ``[H, W]`` of 0 and 1, or booleans, the same for all coils; the zero frequency at (H // 2, W // 2).
        coil_maps: complex sensitivities ``[2, C, H, W]``, the same for all images.

    Raises:
        ValueError: if the mask is not a plane of 0 and 1, or the maps do not fit it.
    """

    mask: Tensor
    coil_maps: Tensor
    centred_maps: Tensor  # P_x s, [C, H, W, 2]: real buffers of complex numbers, which modules convert safely
    centred_mask: Tensor  # P_k M, [H, W, 2]

    def __init__(self, mask: Tensor, coil_maps: Tensor) -> None:
        mask = binary_mask(mask, "MultiCoilSampling")
        if mask.ndim != 2 or coil_maps.ndim != 4 or coil_maps.shape[0] != 2 or coil_maps.shape[2:] != mask.shape:
            raise ValueError(
                f"MultiCoilSampling: coil maps {tuple(coil_maps.shape)} with a mask {tuple(mask.shape)}, "
                "expected (2, coils, H, W) with real and imaginary parts first, and (H, W)"
            )
        super().__init__(domain=(2, *mask.shape), range=tuple(coil_maps.shape))
        mask = mask.to(coil_maps.device)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("coil_maps", coil_maps, persistent=False)
        image_phase, kspace_phase = (plane.to(mask.device) for plane in _centring(*mask.shape))
        # The phases of even sizes are ±1. Those of odd ones are rounded only to the precision of what they meet.
        dtype = torch.float64 if any(n % 2 for n in mask.shape) else coil_maps.dtype
        maps = torch.complex(coil_maps[0], coil_maps[1]) * image_phase
        self.register_buffer("centred_maps", torch.view_as_real(maps).to(dtype), persistent=False)
        masked_phase = torch.view_as_real(mask * kspace_phase).to(dtype)
        self.register_buffer("centred_mask", masked_phase, persistent=False)
        # Whole lines, as a Cartesian mask samples them, are transformed along their read-out and straight back in AᵀA.
        self.sampled_axes = (-1,) if torch.equal(mask, mask[:1].expand_as(mask)) else (-2, -1)
        self.to(coil_maps.device)

    @property
    def support(self) -> Tensor:
        return self.mask

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self._in_parts(self._sample, x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        return self._in_parts(self._combine, y)

    def normal(self, x: Tensor) -> Tensor:
        """Σ s̄ F⁻¹ M F s x; of whole lines only the transform along the axis that a Cartesian mask samples is left."""
        self.check_image(x)
        return self._in_parts(self._sample_and_combine, x)

    def _in_parts(self, transform: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """On a CPU, few images at once: large temporaries take it twice as long, for they leave its caches."""
        count = max(1, TOGETHER // self.coil_maps[0].numel())
        if batch.device.type != "cpu" or len(batch) <= count:
            return transform(batch)
        return torch.cat([transform(part) for part in batch.split(count)])

    def _sample(self, x: Tensor) -> Tensor:
        coil_images = to_complex(x)[:, None] * self._complex(self.centred_maps, x)
        return to_channels(torch.fft.fft2(coil_images, norm="ortho").mul_(self._complex(self.centred_mask, x)))

    def _combine(self, y: Tensor) -> Tensor:
        kspace = to_complex(y).mul_(self._complex(self.centred_mask, y).conj())
        coil_images = torch.fft.ifft2(kspace, norm="ortho")
        return to_channels((coil_images * self._complex(self.centred_maps, y).conj()).sum(dim=1))

    def _sample_and_combine(self, x: Tensor) -> Tensor:
        maps = self._complex(self.centred_maps, x)
        kspace = torch.fft.fftn(to_complex(x)[:, None] * maps, dim=self.sampled_axes).mul_(self.mask)
        coil_images = torch.fft.ifftn(kspace, dim=self.sampled_axes)
        return to_channels((coil_images * maps.conj()).sum(dim=1))

    def direct(self, y: Tensor) -> Tensor:
        """The zero-filled image Aᴴ y / Σ |s|²; zero where no coil sees anything."""
        seen = self.coil_maps.to(y.dtype).square().sum(dim=(0, 1))
        visible = seen > 1e-6 * seen.max()
        return torch.where(visible, self.A_adjoint(y) / torch.where(visible, seen, 1), 0)

    def _complex(self, buffer: Tensor, like: Tensor) -> Tensor:
        return torch.view_as_complex(buffer.to(like.dtype))


def _centring(height: int, width: int) -> tuple[Tensor, Tensor]:
    """P_x and P_k, complex128 ``[H, W]``: fftshift ∘ fft2 ∘ ifftshift = P_k fft2 P_x; all ±1 for even sizes."""

    def phase(turns: Tensor, size: int) -> Tensor:
        angle = 2 * torch.pi * (turns % size).double() / size  # reduced first, so that no precision is lost
        return torch.polar(torch.ones_like(angle), angle)

    rows, columns = (torch.arange(n) for n in (height, width))
    c, d = height // 2, width // 2
    image = phase(c * rows, height)[:, None] * phase(d * columns, width)
    kspace = phase(c * (rows - c), height)[:, None] * phase(d * (columns - d), width)
    return image, kspace
