"""Coil sensitivities: estimated from the centre of k-space, and simulated for a ring of loops.

Maps are ``[2, coils, H, W]``, real and imaginary parts first, with Σ_c |s_c|² = 1 wherever there is signal. What
multiplies all coils alike, such as the shading of their root sum of squares, belongs to the image then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .noise import seeded_generator

KERNEL = 6  # side of the patches of k-space whose points predict one another, as in Uecker et al.
NOISE = 0.02  # singular vectors of the calibration data below this share of the largest are noise
EIGENVALUE = 0.8  # below it a pixel holds no signal

RING = 1.6  # distance of simulated loops from the centre, in halves of the longer side; its corners are at 1.41
SEGMENTS = 64  # of a loop


def estimate_coil_maps(kspace: Tensor, calibration_lines: int = 24) -> Tensor:
    """ESPIRiT with one set of maps (Uecker et al. 2014): s(r) is the eigenvector of G(r) to the eigenvalue 1.

    Patches of 6 × 6 points of all coils, taken from the calibration square, span a small space, and projecting every
    patch of k-space on it changes nothing. Averaged over the patches that share a point the projection is a
    convolution, which multiplies the coil images at r by a matrix G(r), ``[C, C]``. Maps are zero where no eigenvalue
    of G(r) exceeds 0.8. Eigenvectors leave the phase free: in these maps the combination of coils with the most energy
    in the calibration square (their first principal component) has the phase zero everywhere.

    Args:
        kspace: ``[2, C, H, W]``, one image; the zero frequency at (H // 2, W // 2). Only its centre is used.
        calibration_lines: side of the fully sampled square in the centre.

    Raises:
        ValueError: for another shape, and for a square that is too small, larger than k-space, not fully sampled or
            without signal.
    """
    if kspace.ndim != 4 or kspace.shape[0] != 2:
        raise ValueError(
            f"estimate_coil_maps: k-space is {tuple(kspace.shape)}, expected (2, coils, H, W), a single image"
        )
    square = _calibration_square(torch.complex(kspace[0], kspace[1]), calibration_lines).to(torch.complex128)
    filters = _filters(square).to(torch.complex64 if kspace.dtype == torch.float32 else torch.complex128)
    (height, width), (rows, columns) = kspace.shape[-2:], (_waves(n, filters) for n in kspace.shape[-2:])
    coils = kspace.shape[1]
    principal = torch.linalg.eigh(torch.einsum("cij,dij->cd", square, square.conj()))[1][:, -1].to(filters)
    maps = torch.zeros(height, width, coils, dtype=filters.dtype, device=filters.device)
    for r in range(height):  # row by row: all matrices at once would take C times the memory of the coil images
        kernel = torch.einsum("cdij,i->cdj", filters, rows[r])
        values, vectors = torch.linalg.eigh(torch.einsum("cdj,wj->wcd", kernel, columns))
        s = vectors[..., -1]
        s = s * torch.exp(-1j * torch.angle(s @ principal.conj()))[:, None]
        maps[r] = torch.where(values[:, -1:] > EIGENVALUE, s, 0)
    return torch.view_as_real(maps).permute(3, 2, 0, 1).contiguous()


def simulated_coil_maps(shape: Sequence[int], coils: int, seed: int) -> Tensor:
    """Maps of loops in a ring around the image, each facing its centre: B_x − i B_y after Biot and Savart.

    Neighbouring loops about touch. Their places along the ring, their distances and the phases of their receivers are
    drawn from ``seed``. Maps are functions of position, so that a finer grid has the same; Σ_c |s_c|² = 1 everywhere,
    and the phase is that of the field.

    Args:
        shape: (H, W).
        coils: C.
        seed: another seed gives another ring.

    Returns:
        ``[2, C, H, W]`` float32.

    Raises:
        ValueError: for a shape that is no plane, or no coils.
    """
    if len(shape) != 2 or min(shape) < 1 or coils < 1:
        raise ValueError(f"simulated_coil_maps: shape {tuple(shape)} and {coils} coils, expected (H, W) and 1 or more")
    y, x = (((2 * torch.arange(n, dtype=torch.float64) + 1 - n) / max(shape)) for n in shape)
    draws = torch.rand(coils, 3, generator=seeded_generator("coil maps", seed), dtype=torch.float64)
    turn = float(draws[0, 0])
    maps = []
    for c, (place, distance, phase) in enumerate((draws * 2 - 1).tolist()):
        angle = 2 * math.pi * (c + turn + 0.1 * place) / coils
        field = loop_field(x, y[:, None], angle, RING * (1 + 0.05 * distance), RING * math.sin(math.pi / max(coils, 4)))
        maps.append(field * complex(math.cos(math.pi * phase), math.sin(math.pi * phase)))
    stacked = torch.stack(maps)
    stacked /= stacked.abs().square().sum(dim=0).sqrt()
    return torch.view_as_real(stacked).permute(3, 0, 1, 2).float().contiguous()


def loop_field(x: Tensor, y: Tensor, angle: float, distance: float, radius: float) -> Tensor:
    """B_x − i B_y at (x, y, 0), in units of μ₀ I, of a circular loop centred at ``distance`` in the direction ``angle``
    whose axis is that direction.
    """
    across, forward = (-math.sin(angle), math.cos(angle)), (math.cos(angle), math.sin(angle))
    field: Tensor = torch.zeros(())
    for segment in range(SEGMENTS):
        turn = 2 * math.pi * (segment + 0.5) / SEGMENTS
        side, up = radius * math.cos(turn), radius * math.sin(turn)
        rx, ry, rz = (x - distance * forward[0] - side * across[0], y - distance * forward[1] - side * across[1], -up)
        # dl × r / (4π |r|³) with dl = (−up across, side z) dθ
        scale = (2 * math.pi / SEGMENTS / (4 * math.pi)) * (rx**2 + ry**2 + rz**2) ** -1.5
        bx = (-up * across[1] * rz - side * ry) * scale
        by = (side * rx + up * across[0] * rz) * scale
        field = field + torch.complex(bx, -by)
    return field


def _calibration_square(kspace: Tensor, lines: int) -> Tensor:
    """The centre of complex ``[C, H, W]``, checked."""
    height, width = kspace.shape[-2:]
    if not KERNEL < lines <= min(height, width):
        raise ValueError(
            f"estimate_coil_maps: {lines} calibration lines; expected more than {KERNEL}, the side of a patch, and at "
            f"most the {min(height, width)} of k-space"
        )
    top, left = height // 2 - lines // 2, width // 2 - lines // 2
    square = kspace[:, top : top + lines, left : left + lines]
    missing = int((square == 0).all(0).sum())
    if missing or not torch.isfinite(torch.view_as_real(square)).all():
        what = f"{missing} points without data" if missing else "NaN or infinity"
        raise ValueError(
            f"estimate_coil_maps: the central {lines} × {lines} of k-space holds {what}; it must be fully sampled, "
            "so give as many calibration lines as the mask has"
        )
    return square


def _filters(square: Tensor) -> Tensor:
    """The projection on the signal space as a convolution: ``[C, C, 2k − 1, 2k − 1]``, lag 0 in the middle."""
    coils, k = len(square), KERNEL
    patches = square.unfold(1, k, 1).unfold(2, k, 1).permute(1, 2, 0, 3, 4).reshape(-1, coils * k * k)
    values, vectors = torch.linalg.eigh(patches.T @ patches.conj())
    signal = vectors[:, values > NOISE**2 * values[-1]].T.reshape(-1, coils, k, k)
    spectrum = torch.fft.fft2(signal, s=(2 * k - 1, 2 * k - 1))  # large enough that lags do not wrap
    lags = torch.fft.ifft2(torch.einsum("ncij,ndij->cdij", spectrum, spectrum.conj()))
    return torch.fft.fftshift(lags, (-2, -1)) / k**2


def _waves(size: int, like: Tensor) -> Tensor:
    """exp(2πi lag · (r − size // 2) / size), ``[size, 2k − 1]``: from lags in k-space to pixels."""
    lags = torch.arange(1 - KERNEL, KERNEL, dtype=torch.float64)
    angle = 2 * torch.pi / size * (torch.arange(size) - size // 2)[:, None] * lags
    return torch.polar(torch.ones_like(angle), angle).to(like)
