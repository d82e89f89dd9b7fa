"""Losses against their definitions and an independent SSIM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isocenter.unrolled.losses import SUPERVISED, l1_ssim, mse, normalised_l1_l2, normalised_l2, ssim
from skimage.metrics import structural_similarity

numbers = st.integers(0, 10**6)


def pair(seed: int, channels: int = 1, size: tuple[int, int] = (20, 24)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(3, channels, *size, generator=generator, dtype=torch.float64)
    return truth + 0.1 * torch.randn(truth.shape, generator=generator, dtype=torch.float64), truth


@pytest.mark.parametrize("size", [(20, 24), (11, 40)])
def test_ssim_is_that_of_scikit_image(size: tuple[int, int]) -> None:
    x, truth = pair(0, size=size)
    expected = [
        structural_similarity(
            a[0].numpy(), b[0].numpy(), data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(x, truth, strict=True)
    ]
    np.testing.assert_allclose(ssim(x, truth).numpy(), expected, atol=1e-9)


def test_ssim_of_complex_images_is_that_of_magnitudes() -> None:
    x, truth = pair(1, channels=2)
    magnitudes = (v.norm(dim=1, keepdim=True) for v in (x, truth))
    torch.testing.assert_close(ssim(x, truth), ssim(*magnitudes), atol=1e-6, rtol=0)


def test_values_are_those_of_the_formulas() -> None:
    x, truth = (torch.tensor(v, dtype=torch.float64).view(1, 1, 1, 2) for v in ([3.0, 0.0], [0.0, 4.0]))
    assert mse(x, truth).item() == pytest.approx(25 / 2)
    assert normalised_l2(x, truth).item() == pytest.approx(5 / 4)
    assert normalised_l1_l2(x, truth).item() == pytest.approx(5 / 4 + 7 / 4)
    x, truth = pair(2)
    expected = 0.16 * (x - truth).abs().mean((1, 2, 3)) + 0.84 * (1 - ssim(x, truth))
    torch.testing.assert_close(l1_ssim(x, truth), expected)


@pytest.mark.parametrize("loss", [*SUPERVISED.values(), normalised_l1_l2])
@given(seed=numbers)
def test_losses_are_zero_at_the_truth_alone_and_blind_to_the_rest_of_the_batch(loss, seed: int) -> None:
    x, truth = pair(seed, channels=1 + seed % 2)
    values = loss(x, truth)
    assert values.shape == (3,)
    assert (values > 0).all()
    torch.testing.assert_close(loss(truth, truth), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(loss(x[1:2], truth[1:2]), values[1:2])


@pytest.mark.parametrize("loss", [*SUPERVISED.values(), normalised_l1_l2])
def test_gradients_are_finite_where_images_are_zero(loss) -> None:
    x = torch.full((1, 2, 16, 16), 0.1, requires_grad=True)
    loss(x * 1, torch.zeros(1, 2, 16, 16)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
