"""Coil maps: estimated ones against known maps and a raw scan, simulated ones against the field of a loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from isocenter.physics import MultiCoilSampling
from isocenter.physics.coil_maps import estimate_coil_maps, loop_field, simulated_coil_maps
from isocenter.physics.conjugate_gradient import conjugate_gradient
from isocenter.physics.fourier import centred_ifft2
from isocenter.physics.masks import cartesian_uniform
from scipy.ndimage import binary_fill_holes
from scipy.special import ellipe, ellipk
from torch import Tensor


def as_complex(maps: Tensor) -> Tensor:
    """``[2, …]`` ↦ complex ``[…]``."""
    return torch.complex(maps[0], maps[1])


def object_of(size: int) -> Tensor:
    """A disc with a gradient of phase, complex ``[2, N, N]``; zero near the edge."""
    axis = torch.linspace(-1, 1, size)
    y, x = axis[:, None], axis
    magnitude = (y**2 + x**2 < 0.6) * (1 + 0.5 * torch.cos(7 * x + 4 * y))
    return torch.stack((magnitude * torch.cos(2 * x), magnitude * torch.sin(2 * x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_maps_are_found_up_to_the_phase_that_all_coils_share(dtype) -> None:
    truth = simulated_coil_maps((40, 40), 4, seed=1).to(dtype)
    image = object_of(40).to(dtype)
    physics = MultiCoilSampling(torch.ones(40, 40), truth)
    estimated = estimate_coil_maps(physics.A(image[None])[0], 20)
    assert estimated.dtype == dtype
    seen = as_complex(image).abs() > 0
    overlap = (as_complex(truth).conj() * as_complex(estimated)).sum(dim=0).abs()[seen]
    assert overlap.min() > 0.99  # the cosine between both vectors of sensitivities; 1 where they are proportional
    assert overlap.mean() > 0.9995


def test_estimated_maps_are_of_unit_length_or_zero_and_in_the_phase_of_the_strongest_combination() -> None:
    maps = simulated_coil_maps((32, 30), 3, seed=2)
    image = object_of(32)[:, :, 1:31]
    kspace = MultiCoilSampling(torch.ones(32, 30), maps).A(image[None])[0]
    estimated = as_complex(estimate_coil_maps(kspace, 16))
    power = estimated.abs().square().sum(dim=0)
    assert ((power - 1).abs() < 1e-5).logical_or(power == 0).all()
    assert (power[as_complex(image).abs() > 0] > 0).all()
    assert (power == 0).any()
    square = as_complex(kspace)[:, 8:24, 7:23].flatten(1)
    strongest = torch.linalg.svd(square, full_matrices=False).U[:, 0]
    combined = torch.einsum("c,chw->hw", strongest.conj(), estimated)
    assert combined.real.min() > -1e-5
    assert combined.imag.abs().max() < 1e-5


def test_maps_scale_with_nothing_and_do_not_see_what_lies_outside_the_centre() -> None:
    kspace = MultiCoilSampling(torch.ones(32, 32), simulated_coil_maps((32, 32), 3, seed=2)).A(object_of(32)[None])[0]
    expected = estimate_coil_maps(kspace, 16)
    accelerated = kspace * cartesian_uniform((32, 32), 1.5, 16)
    torch.testing.assert_close(estimate_coil_maps(accelerated, 16), expected)
    torch.testing.assert_close(estimate_coil_maps(1e-6 * kspace, 16), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("kspace", "lines", "message"),
    [
        (torch.ones(3, 32, 32), 24, "expected"),
        (torch.ones(2, 3, 32, 32), 6, "calibration lines"),
        (torch.ones(2, 3, 32, 20), 24, "at most the 20"),
        (torch.zeros(2, 3, 32, 32), 24, "576 points without data"),
        (torch.ones(2, 3, 32, 32) * cartesian_uniform((32, 32), 2, 12), 16, "fully sampled"),
        (torch.full((2, 3, 32, 32), float("nan")), 24, "NaN"),
    ],
)
def test_k_space_without_a_whole_centre_is_refused(kspace, lines, message) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_coil_maps(kspace, lines)


@pytest.mark.parametrize("angle", [0.0, 2.1])
def test_the_field_of_a_loop_is_that_of_elliptic_integrals(angle) -> None:
    """Off the axis, by the closed form (Smythe 1968, §7.10): ρ from the axis, z along it."""
    a, distance = 0.7, 1.6
    generator = np.random.default_rng(0)
    x, y = generator.uniform(-0.9, 0.9, (2, 50))
    z = x * np.cos(angle) + y * np.sin(angle) - distance
    rho = -x * np.sin(angle) + y * np.cos(angle)
    m = 4 * a * abs(rho) / ((a + abs(rho)) ** 2 + z**2)
    root, near = np.sqrt((a + abs(rho)) ** 2 + z**2), (a - abs(rho)) ** 2 + z**2
    along = (ellipk(m) + (a**2 - rho**2 - z**2) / near * ellipe(m)) / (2 * np.pi * root)
    outward = z / rho * (-ellipk(m) + (a**2 + rho**2 + z**2) / near * ellipe(m)) / (2 * np.pi * root)
    expected = np.stack(
        (along * np.cos(angle) - outward * np.sin(angle), -(along * np.sin(angle) + outward * np.cos(angle)))
    )
    found = loop_field(torch.tensor(x), torch.tensor(y), angle, distance, a).numpy()
    np.testing.assert_allclose(np.stack((found.real, found.imag)), expected, rtol=1e-6)


@pytest.mark.parametrize("coils", [1, 5, 8])
def test_simulated_maps_have_unit_length_and_are_the_same_on_a_finer_grid(coils) -> None:
    fine, coarse = (simulated_coil_maps((n, n), coils, seed=3) for n in (96, 32))
    torch.testing.assert_close(fine.square().sum(dim=(0, 1)), torch.ones(96, 96))
    torch.testing.assert_close(fine[:, :, 1::3, 1::3], coarse, atol=1e-6, rtol=0)  # pixel centres in common
    assert not torch.equal(coarse, simulated_coil_maps((32, 32), coils, seed=4))


def test_every_simulated_coil_sees_its_side_best() -> None:
    strength = as_complex(simulated_coil_maps((33, 33), 6, seed=0)).abs()
    axis = torch.linspace(-1, 1, 33)
    centre = (strength**4).flatten(1) @ torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    angles = torch.atan2(centre[:, 0], centre[:, 1])
    gaps = torch.diff(angles, append=angles[:1]) % (2 * torch.pi)
    assert gaps.min() > 0.7  # 60° apart, ± 12°
    assert gaps.max() < 1.4


def test_the_maps_of_a_raw_scan_combine_it_and_unfold_it(shared_data: Path) -> None:
    """Sixteen coils around a head, beside the same scan by the body coil, which is noisier and has no shading.

    The combined image equals the body coil's but for a smooth shading, as well as the root sum of squares does; every
    second line then suffices for all but some per cent of the combination of all lines.
    """
    scan = np.load(shared_data / "kspace" / "mr_physics_invivo_brain_kspace.npz")
    raw, body = (torch.from_numpy(scan[name]) for name in ("kspace_16ch", "kspace_bodycoil_2ch"))
    kspace = torch.stack((raw.real, raw.imag))
    maps = estimate_coil_maps(kspace)
    squares = centred_ifft2(raw).abs().square().sum(dim=0).sqrt()
    head = torch.from_numpy(binary_fill_holes(squares.numpy() > 0.15 * squares.max().item()))
    assert (maps.square().sum(dim=(0, 1))[head] > 0.5).all()

    full = MultiCoilSampling(torch.ones(128, 128), maps)
    combined = as_complex(full.direct(kspace[None])[0])
    reference = centred_ifft2(body).abs().square().sum(dim=0).sqrt()
    correlation, residual = shading_fit(combined.abs(), reference, head)
    best, least = shading_fit(squares, reference, head)
    assert correlation > max(0.93, best - 0.005)
    assert residual < min(0.12, least + 0.005)
    assert np.corrcoef(combined.abs()[head], squares[head])[0, 1] > 0.999

    mask = cartesian_uniform((128, 128), 2, 24)
    half = MultiCoilSampling(mask, maps)
    y = kspace[None] * mask
    start = torch.zeros(1, 2, 128, 128)
    sense = conjugate_gradient(
        lambda v: half.normal(v) + 1e-3 * v, half.A_adjoint(y), start=start, tol=1e-5, max_iter=30
    )
    assert nrmse(as_complex(sense[0]), combined, head) < 0.04
    assert nrmse(as_complex(half.direct(y)[0]), combined, head) > 0.12


def shading_fit(image: Tensor, reference: Tensor, where: Tensor) -> tuple[float, float]:
    """Correlation and NRMSE of the reference with the image times the best cubic polynomial of position."""
    axis = torch.linspace(-1, 1, len(image), dtype=torch.float64)
    powers = [axis[:, None] ** i * axis**j for i in range(4) for j in range(4 - i)]
    basis = torch.stack([image.double() * p for p in powers], dim=-1)[where]
    wanted = reference.double()[where]
    fitted = basis @ torch.linalg.lstsq(basis, wanted[:, None]).solution[:, 0]
    correlation = float(np.corrcoef(fitted, wanted)[0, 1])
    return correlation, float((fitted - wanted).norm() / wanted.norm())


def nrmse(image: Tensor, reference: Tensor, where: Tensor) -> float:
    return float((image - reference)[where].norm() / reference[where].norm())
