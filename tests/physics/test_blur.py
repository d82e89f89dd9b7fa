"""Blur and point spread functions against SciPy and closed forms."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest
import torch
from isocenter.physics import LinearOperator, check_linear_operator
from isocenter.physics.blur import Blur
from isocenter.physics.psf import bicubic_psf, defocus_psf, gaussian_psf, measured_psf, motion_psf
from PIL import Image
from scipy import ndimage, signal

BOUNDARIES = ["circular", "reflect", "valid"]
SIZES = [(8, 8), (7, 9), (11, 6), (2, 6, 7)]
KERNELS = [(3, 3), (4, 4), (2, 5), (5, 2), (1, 1), (6, 6)]


def random_psf(shape: tuple[int, int]) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64) - 0.2  # nothing is symmetric, some is negative


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_blur_is_scipys_convolution(boundary, kernel) -> None:
    psf = random_psf(kernel)
    for size in SIZES:
        operator = Blur(psf, size, boundary)
        x = torch.randn(2, *operator.domain, dtype=torch.float64)
        image = x[1, -1].numpy()
        if boundary == "valid":
            expected = signal.convolve2d(image, psf.numpy(), mode="valid")
        else:
            mode = {"circular": "wrap", "reflect": "reflect"}[boundary]
            expected = ndimage.convolve(image, psf.numpy(), mode=mode)
        np.testing.assert_allclose(operator.A(x)[1, -1].numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(("size", "kernel"), list(zip(SIZES, [(3, 4), (1, 1), (5, 2), (6, 6)], strict=True)))
def test_blur_keeps_the_laws(boundary, size, kernel) -> None:
    check_linear_operator(Blur(random_psf(kernel), size, boundary))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_norm_is_the_largest_singular_value(boundary) -> None:
    operator = Blur(random_psf((3, 4)), (5, 6), boundary)
    dense = operator.A(torch.eye(30, dtype=torch.float64).reshape(30, 1, 5, 6)).flatten(1)
    assert operator.norm == pytest.approx(
        np.linalg.svd(dense.numpy())[1][0], rel=1e-12 if boundary == "circular" else 1e-4
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_circular_prox_is_that_of_conjugate_gradients(size) -> None:
    operator = Blur(random_psf((3, 4)), size)
    z, y = (torch.randn(2, *operator.domain, dtype=torch.float64) for _ in range(2))
    for gamma in (3.0, torch.tensor([0.2, 50.0], dtype=torch.float64).view(2, 1, 1, 1)):
        expected = LinearOperator.prox_l2(operator, z, y, gamma, tol=1e-13, max_iter=500)
        torch.testing.assert_close(operator.prox_l2(z, y, gamma), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_direct_deblurs(boundary) -> None:
    """The Wiener image is at least 3 dB nearer than the blurred one on a smooth scene, and keeps its mean."""
    x = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((64, 60)), 2.0) * 10)[
        None, None
    ]
    operator = Blur(gaussian_psf(1.5), (64, 60), boundary, noise_to_signal=1e-3)
    image = operator.direct(operator.A(x))
    crop = (slice(None), slice(None), slice(8, -8), slice(8, -8))  # what "valid" can know
    blurred = torch.from_numpy(ndimage.gaussian_filter(x[0, 0].numpy(), 1.5))[None, None]
    gain = 10 * torch.log10((blurred - x)[crop].square().mean() / (image - x)[crop].square().mean())
    assert gain > 3
    flat = torch.full((1, 1, 64, 60), 0.7)
    torch.testing.assert_close(operator.direct(operator.A(flat)), flat, rtol=1e-5, atol=0)


def test_a_narrow_function_of_even_side_is_four_pixels() -> None:
    expected = torch.nn.functional.pad(torch.full((2, 2), 0.25, dtype=torch.float64), (1, 1, 1, 1))
    torch.testing.assert_close(gaussian_psf(0.01, 4), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gaussian_psf(1.0, 0),
        lambda: gaussian_psf(math.inf),
        lambda: motion_psf(math.inf, 0.0),
        lambda: defocus_psf(math.inf),
        lambda: bicubic_psf(0),
    ],
)
def test_impossible_functions_are_refused(make) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boundary": "mirror"}, "expected one of circular, reflect, valid"),
        ({"psf": torch.ones(9, 3)}, "larger than the image"),
        ({"psf": torch.ones(1, 1, 3, 3)}, "expected finite real numbers"),
        ({"psf": torch.full((3, 3), torch.nan)}, "expected finite real numbers"),
        ({"noise_to_signal": 0}, "noise_to_signal is 0"),
        ({"image_shape": (8,)}, "expected \\(H, W\\)"),
    ],
)
def test_impossible_blurs_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Blur(**{"psf": torch.ones(3, 3), "image_shape": (8, 8), **arguments})


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.3])
def test_gaussian_blur_is_scipys_gaussian_filter(sigma) -> None:
    x = torch.randn(1, 1, 32, 29, dtype=torch.float64)
    blurred = Blur(gaussian_psf(sigma), (32, 29), "reflect").A(x)
    np.testing.assert_allclose(blurred[0, 0], ndimage.gaussian_filter(x[0, 0].numpy(), sigma), atol=1e-12)


def moments(psf: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centroid about (h // 2, w // 2) and covariance, (row, column)."""
    offsets = torch.stack(torch.meshgrid(*(torch.arange(n) - n // 2 for n in psf.shape), indexing="ij")).double()
    mean = (offsets * psf).sum(dim=(1, 2))
    centred = offsets - mean[:, None, None]
    return mean, torch.einsum("ihw,jhw,hw->ij", centred, centred, psf)


@pytest.mark.parametrize("angle", [0.0, 0.5, math.pi / 2, 2.5])
@pytest.mark.parametrize("length", [0.5, 4.0, 9.3])
def test_motion_is_a_segment(length, angle) -> None:
    """Its covariance is L²/12 along the segment, plus that of sharing between pixels, at most 1/4 on each axis."""
    psf = motion_psf(length, angle)
    mean, covariance = moments(psf)
    assert float(psf.sum()) == pytest.approx(1)
    torch.testing.assert_close(mean, torch.zeros(2, dtype=mean.dtype), atol=1e-12, rtol=0)
    along = torch.tensor([-math.sin(angle), math.cos(angle)], dtype=mean.dtype)  # rows go down
    across = torch.tensor([math.cos(angle), math.sin(angle)], dtype=mean.dtype)
    assert -0.01 <= float(along @ covariance @ along) - length**2 / 12 <= 0.26
    assert -0.01 <= float(across @ covariance @ across) <= 0.26


def test_motion_along_a_row_is_a_box() -> None:
    psf = motion_psf(4.0, 0.0)
    assert psf.shape == (1, 5)
    torch.testing.assert_close(psf[0], torch.tensor([1, 2, 2, 2, 1], dtype=psf.dtype) / 8, atol=1e-3, rtol=0)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 4.7])
def test_defocus_is_a_disc(radius) -> None:
    """Pixels weigh the area that is covered: column j holds ∫ 2 √(r² − x²) dx over its width, of π r²."""
    psf = defocus_psf(radius)
    edges = torch.arange(psf.shape[1] + 1, dtype=torch.float64) - psf.shape[1] / 2
    x = edges.clamp(-radius, radius)
    area = x * (radius**2 - x**2).sqrt() + radius**2 * torch.asin(x / radius)
    torch.testing.assert_close(psf.sum(dim=0), area.diff() / (math.pi * radius**2), atol=2e-3, rtol=0)
    torch.testing.assert_close(psf, psf.T)
    torch.testing.assert_close(psf, psf.flip(0))
    assert bool((psf[0] > 0).any())  # no empty margin


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_downsampling_is_pillows(factor) -> None:
    """Pillow's bicubic reduction, which is anti-aliased and has a = −1/2, away from the edges."""
    from isocenter.physics.downsample import Downsample

    image = np.random.default_rng(0).random((48, 36), dtype=np.float32)
    expected = np.asarray(Image.fromarray(image).resize((36 // factor, 48 // factor), Image.Resampling.BICUBIC))
    y = Downsample((48, 36), factor, bicubic_psf(factor)).A(torch.from_numpy(image)[None, None])[0, 0]
    np.testing.assert_allclose(y[2:-2, 2:-2], expected[2:-2, 2:-2], atol=2e-6)


def test_measured_psfs_come_from_arrays_and_files(tmp_path) -> None:
    psf = np.random.default_rng(0).random((4, 7))
    np.save(tmp_path / "psf.npy", psf)
    with h5py.File(tmp_path / "psf.mat", "w", userblock_size=512) as file:
        file["psf"] = psf.T  # MATLAB stores by columns
    for source in (psf, torch.from_numpy(psf), tmp_path / "psf.npy", tmp_path / "psf.mat"):
        np.testing.assert_allclose(measured_psf(source), psf / psf.sum())
    Image.fromarray((255 * psf).astype(np.uint8)).save(tmp_path / "psf.png")
    np.testing.assert_allclose(measured_psf(tmp_path / "psf.png"), psf / psf.sum(), atol=1e-3)
    with pytest.raises(ValueError, match="sum above 0"):
        measured_psf(-psf)
