"""Masked Fourier sampling, single-coil and multi-coil, against NumPy and dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from isocenter.physics import LinearOperator, check_linear_operator
from isocenter.physics.fourier import FourierSampling, fft2, ifft2, mirrored, to_channels, to_complex
from isocenter.physics.multicoil import MultiCoilSampling

SIZES = [(8, 8), (7, 9), (6, 5), (5, 12), (1, 4), (1, 1)]


def mask_of(size: tuple[int, int], share: float = 0.4) -> torch.Tensor:
    mask = torch.rand(size) < share
    mask[size[0] // 2, size[1] // 2] = True
    return mask


def dense(operator: LinearOperator) -> np.ndarray:
    n = int(np.prod(operator.domain))
    return operator.A(torch.eye(n, dtype=torch.float64).reshape(n, *operator.domain)).flatten(1).T.numpy()


@pytest.mark.parametrize("size", SIZES)
def test_the_transform_is_numpys_centred_and_orthonormal(size) -> None:
    x = torch.randn(2, 2, 3, *size, dtype=torch.float64)
    z = to_complex(x).numpy()
    axes = (-2, -1)
    expected = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(z, axes), norm="ortho"), axes)
    np.testing.assert_allclose(to_complex(fft2(x)).numpy(), expected, atol=1e-13)
    torch.testing.assert_close(ifft2(fft2(x)), x)
    torch.testing.assert_close(to_channels(to_complex(x)), x)


@pytest.mark.parametrize("size", SIZES)
def test_the_zero_frequency_of_an_image_is_in_the_middle(size) -> None:
    kspace = fft2(torch.cat((torch.ones(1, 1, *size), torch.zeros(1, 1, *size)), dim=1))
    expected = torch.zeros(1, 2, *size)
    expected[0, 0, size[0] // 2, size[1] // 2] = (size[0] * size[1]) ** 0.5
    torch.testing.assert_close(kspace, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_the_mirrored_mask_is_at_minus_k(size) -> None:
    mask = torch.rand(size) < 0.5
    for i in range(size[0]):
        for j in range(size[1]):
            opposite = [(2 * (n // 2) - k) % n for n, k in zip(size, (i, j), strict=True)]
            assert mirrored(mask)[i, j] == mask[opposite[0], opposite[1]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("complex_image", [False, True])
def test_fourier_sampling_keeps_the_laws(size, complex_image) -> None:
    check_linear_operator(FourierSampling(mask_of(size), complex_image=complex_image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("complex_image", [False, True])
def test_fourier_norm_and_prox_in_closed_form(size, complex_image) -> None:
    mask = torch.rand(size) < 0.3
    mask[0, -1] = True
    operator = FourierSampling(mask, complex_image=complex_image)
    assert operator.norm == pytest.approx(np.linalg.svd(dense(operator))[1][0], abs=1e-12)
    z = torch.randn(2, *operator.domain, dtype=torch.float64)
    y = torch.randn(2, *operator.range, dtype=torch.float64)  # not in the range of A: outside the mask too
    for gamma in (3.0, torch.tensor([0.2, 50.0], dtype=torch.float64).view(2, 1, 1, 1)):
        expected = LinearOperator.prox_l2(operator, z, y, gamma, tol=1e-14)
        torch.testing.assert_close(operator.prox_l2(z, y, gamma), expected, rtol=1e-12, atol=1e-12)


def test_one_sided_sampling_of_a_real_image_has_norm_one_over_root_two() -> None:
    mask = torch.zeros(8, 8)
    mask[2, 3] = 1
    assert FourierSampling(mask).norm == pytest.approx(0.5**0.5)
    assert FourierSampling(mask, complex_image=True).norm == 1.0
    assert FourierSampling(torch.zeros(8, 8)).norm == 0.0


def test_full_sampling_is_inverted_by_zero_filling() -> None:
    x = torch.randn(2, 2, 9, 8)
    operator = FourierSampling(torch.ones(9, 8), complex_image=True)
    torch.testing.assert_close(operator.direct(operator.A(x)), x)
    real = FourierSampling(torch.ones(9, 8))
    torch.testing.assert_close(real.direct(real.A(x[:, :1])), x[:, :1])


@pytest.mark.parametrize("mask", [torch.tensor([[0.5, 1.0]]), torch.tensor([[float("nan"), 1.0]]), torch.ones(1, 2, 2)])
def test_other_masks_are_refused(mask) -> None:
    with pytest.raises(ValueError, match="FourierSampling: the mask"):
        FourierSampling(mask)


@pytest.mark.parametrize("shape", [(2,), (2, 1, 4, 4)])
def test_a_gamma_within_an_image_is_refused(shape) -> None:
    operator = FourierSampling(torch.ones(4, 4))
    with pytest.raises(ValueError, match="one value per image"):
        operator.prox_l2(torch.zeros(2, 1, 4, 4), torch.zeros(2, 2, 4, 4), torch.ones(shape))


@pytest.mark.parametrize("size", SIZES[:4])
@pytest.mark.parametrize("coils", [1, 3])
def test_multi_coil_sampling_keeps_the_laws(size, coils) -> None:
    operator = MultiCoilSampling(mask_of(size), torch.randn(2, coils, *size, dtype=torch.float64))
    check_linear_operator(operator)
    assert operator.norm == pytest.approx(np.linalg.svd(dense(operator))[1][0], rel=1e-4)


@pytest.mark.parametrize("size", SIZES[:4])
@pytest.mark.parametrize("axis", [0, 1])
def test_multi_coil_sampling_of_whole_lines_keeps_the_laws(size, axis) -> None:
    lines = mask_of(size).any(axis, keepdim=True).expand(size)
    check_linear_operator(MultiCoilSampling(lines, torch.randn(2, 3, *size, dtype=torch.float64)))


def test_large_batches_of_coil_images_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    size = (8, 7)
    operator = MultiCoilSampling(mask_of(size), torch.randn(2, 3, *size, dtype=torch.float64))
    x = torch.randn(5, 2, *size, dtype=torch.float64)
    maps = (operator.A, lambda x: operator.A_adjoint(operator.A(x)), operator.normal)
    together = [linear(x) for linear in maps]
    monkeypatch.setattr("isocenter.physics.multicoil.TOGETHER", 2 * 3 * 8 * 7)
    for linear, whole in zip(maps, together, strict=True):
        assert torch.allclose(linear(x), whole, atol=1e-13)
    monkeypatch.setattr("isocenter.physics.multicoil.TOGETHER", 1)  # less than an image
    check_linear_operator(operator)


def test_multi_coil_sampling_is_numpys() -> None:
    mask, maps = mask_of((7, 6)), torch.randn(2, 4, 7, 6, dtype=torch.float64)
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64)
    coil_images = to_complex(x).numpy()[:, None] * (maps[0] + 1j * maps[1]).numpy()
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(coil_images, axes), norm="ortho"), axes) * mask.numpy()
    np.testing.assert_allclose(to_complex(MultiCoilSampling(mask, maps).A(x)).numpy(), kspace, atol=1e-12)


def test_one_uniform_coil_is_single_coil_sampling() -> None:
    mask, x = mask_of((7, 6)), torch.randn(2, 2, 7, 6)
    maps = torch.stack((torch.ones(1, 7, 6), torch.zeros(1, 7, 6)))
    single = FourierSampling(mask, complex_image=True)
    torch.testing.assert_close(MultiCoilSampling(mask, maps).A(x)[:, :, 0], single.A(x))


def test_direct_undoes_the_coils_and_is_zero_where_no_coil_sees() -> None:
    maps = torch.randn(2, 4, 8, 8)
    maps[..., :2] = 0
    operator = MultiCoilSampling(torch.ones(8, 8), maps)
    x = torch.randn(2, 2, 8, 8)
    image = operator.direct(operator.A(x))
    torch.testing.assert_close(image[..., 2:], x[..., 2:], rtol=1e-4, atol=1e-5)
    assert not image[..., :2].any()


def test_coil_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="coil maps"):
        MultiCoilSampling(torch.ones(8, 8), torch.ones(4, 8, 8))
