"""Downsampling against dense matrices, SciPy and the Fourier transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from isocenter.physics import LinearOperator, check_linear_operator
from isocenter.physics.downsample import Downsample
from isocenter.physics.fourier import centred_fft2
from isocenter.physics.psf import bicubic_psf, gaussian_psf
from scipy import ndimage

CASES = [((8, 8), 2), ((9, 12), 3), ((12, 6), 2), ((2, 12, 8), 4), ((15, 9), 3), ((10, 6), 2)]
_random = torch.Generator().manual_seed(0)
PSFS = [torch.rand(3, 4, generator=_random, dtype=torch.float64), torch.rand(2, 5, generator=_random), "kspace"]
every_case = pytest.mark.parametrize(("shape", "factor"), CASES)
every_psf = pytest.mark.parametrize("psf", PSFS, ids=["3x4", "2x5", "kspace"])


@every_case
@every_psf
def test_downsampling_keeps_the_laws(shape, factor, psf) -> None:
    check_linear_operator(Downsample(shape, factor, psf))


@every_case
@every_psf
def test_norm_and_prox_in_closed_form(shape, factor, psf) -> None:
    operator = Downsample(shape, factor, psf)
    n = int(np.prod(operator.domain))
    dense = operator.A(torch.eye(n, dtype=torch.float64).reshape(n, *operator.domain)).flatten(1)
    assert operator.norm == pytest.approx(np.linalg.svd(dense.numpy())[1][0], rel=1e-10)
    z = torch.randn(2, *operator.domain, dtype=torch.float64)
    y = torch.randn(2, *operator.range, dtype=torch.float64)
    for gamma in (3.0, torch.tensor([0.2, 50.0], dtype=torch.float64).view(2, 1, 1, 1)):
        expected = LinearOperator.prox_l2(operator, z, y, gamma, tol=1e-13, max_iter=500)
        torch.testing.assert_close(operator.prox_l2(z, y, gamma), expected, rtol=0, atol=1e-9)


@every_case
def test_blur_and_decimation_are_scipys(shape, factor) -> None:
    operator, psf = Downsample(shape, factor, PSFS[0]), PSFS[0].numpy()
    x = torch.randn(1, *operator.domain, dtype=torch.float64)
    first = (factor - 1) // 2
    expected = ndimage.convolve(x[0, -1].numpy(), psf, mode="wrap")[first::factor, first::factor]
    np.testing.assert_allclose(operator.A(x)[0, -1].numpy(), expected, atol=1e-13)


@every_case
def test_a_low_resolution_scan_has_the_central_frequencies(shape, factor) -> None:
    """|F y| is |F x| / s at all frequencies of y but, for even sizes, the outermost; constants stay as they are."""
    operator = Downsample(shape, factor, "kspace")
    x = torch.randn(1, *operator.domain, dtype=torch.float64)
    high, low = centred_fft2(x).abs()[0, 0], centred_fft2(operator.A(x)).abs()[0, 0]
    crop = tuple(slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(high.shape, low.shape, strict=True))
    inside = tuple(slice(1 - m % 2, None) for m in low.shape)
    torch.testing.assert_close(low[inside], high[crop][inside] / factor)
    flat = torch.full_like(x, 0.3)
    torch.testing.assert_close(operator.A(flat), flat[:, :, ::factor, ::factor])


@every_case
def test_a_low_resolution_scan_is_an_isometry_over_s(shape, factor) -> None:
    operator = Downsample(shape, factor, "kspace")
    y = torch.randn(1, *operator.range, dtype=torch.float64)
    torch.testing.assert_close(operator.A(operator.A_adjoint(y)), y / factor**2)
    torch.testing.assert_close(operator.A(operator.direct(y)), y)


@pytest.mark.parametrize("size", [24, 36, 60])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_low_resolution_pixels_are_centred_on_their_blocks(size, factor) -> None:
    """A sine is sampled at (s − 1)/2, (s − 1)/2 + s, … by every kind, but for its amplitude."""
    t = torch.arange(size, dtype=torch.float64)
    centres = (factor - 1) / 2 + factor * torch.arange(size // factor, dtype=torch.float64)
    wave = torch.sin(2 * torch.pi * 2 * t / size + 0.4).expand(1, 1, size, size)
    expected = torch.sin(2 * torch.pi * 2 * centres / size + 0.4)
    psfs = ["bicubic", "kspace", gaussian_psf(factor / 2, 2 * factor + factor % 2)]
    for psf in psfs:
        y = Downsample((size, size), factor, psf).A(wave)[0, 0, 0]
        torch.testing.assert_close(y / y.norm(), expected / expected.norm(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 2), (4, 3)])
def test_direct_is_aligned_and_exact_for_parabolas(factor, kernel) -> None:
    """Cubic convolution restores second-degree polynomials; a box of side k samples them at its centre, but for a
    constant k²−1 over 12."""
    psf = torch.ones(kernel, dtype=torch.float64) / (kernel[0] * kernel[1])
    operator = Downsample((48, 48), factor, psf)
    t = torch.arange(48, dtype=torch.float64) - 20
    image = (0.3 * t**2 - t)[:, None] + (2 * t - 0.1 * t**2) + 5
    constant = 0.3 * (kernel[0] ** 2 - 1) / 12 - 0.1 * (kernel[1] ** 2 - 1) / 12
    inside = slice(3 * factor, -3 * factor)
    restored = operator.direct(operator.A(image[None, None]))[0, 0]
    torch.testing.assert_close(restored[inside, inside], image[inside, inside] + constant, atol=1e-9, rtol=0)


def test_k_space_zero_filling_restores_what_is_band_limited() -> None:
    operator = Downsample((24, 30), 2, "kspace")
    x = operator.direct(torch.randn(1, *operator.range, dtype=torch.float64))
    torch.testing.assert_close(operator.direct(operator.A(x)), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((9, 8), 2), "not divisible by 2"),
        (((8, 8), 1), "at least 2"),
        (((8, 8), 2.5), "at least 2"),
        (((8, 8), 2, "lanczos"), "'bicubic' or 'kspace'"),
        (((4, 4), 2, bicubic_psf(2)), "larger than the image"),
    ],
)
def test_impossible_downsampling_is_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Downsample(*arguments)
