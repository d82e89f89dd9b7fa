"""Metrics against independent implementations and against what their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.benchmarks.metrics import MEASURES, NAMES, metrics
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d
from skimage.metrics import mean_squared_error, normalized_root_mse, peak_signal_noise_ratio, structural_similarity


def draw(shape: tuple[int, ...], seed: int = 0, low: float = 0.0, high: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Smooth truths and noisy reconstructions ``[B, C, H, W]``."""
    rng = np.random.default_rng(seed)
    truth = gaussian_filter(rng.uniform(size=shape), (0, 0, 2, 2))
    truth = low + (high - low) * (truth - truth.min()) / max(np.ptp(truth), 1e-9)
    noisy = truth + 0.08 * (high - low) * rng.standard_normal(shape)
    return torch.tensor(noisy, dtype=torch.float32), torch.tensor(truth, dtype=torch.float32)


@pytest.mark.parametrize("data_range", [0.03, 1.0, 2000.0])
def test_agree_with_scikit_image(data_range: float) -> None:
    x, t = draw((3, 1, 41, 56), high=data_range)
    result = metrics(x, t, data_range)
    for i in range(3):
        a, b = x[i, 0].double().numpy(), t[i, 0].double().numpy()
        assert float(result["psnr"][i]) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=data_range))
        assert float(result["rmse"][i]) == pytest.approx(np.sqrt(mean_squared_error(b, a)))
        assert float(result["nrmse"][i]) == pytest.approx(normalized_root_mse(b, a))
        assert float(result["ssim"][i]) == pytest.approx(plain_ssim(a, b, data_range), rel=1e-9)


def plain_ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """Wang et al. (2004), equation 13, with their 11 × 11 Gaussian window written out, over whole windows."""
    g = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(g, g) / g.sum() ** 2

    def mean(z: np.ndarray) -> np.ndarray:
        return convolve2d(z, window, mode="valid")

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return float((((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def plain_haarpsi(a: np.ndarray, b: np.ndarray, c: float = 5.0, alpha: float = 4.9) -> float:
    """Reisenhofer et al. (2018), equations 10 to 13, for grey images in [0, 1], from the text of the paper."""

    def same(z: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """Of the size of ``z``, aligned as in the authors' MATLAB code: pixels 0 and 1 make the first pair."""
        k = len(kernel) // 2
        return convolve2d(z, kernel)[k : k + z.shape[0], k : k + z.shape[1]]

    def shrink(z: np.ndarray) -> np.ndarray:
        return same(255 * z, np.full((2, 2), 0.25))[::2, ::2]

    def haar(z: np.ndarray, scale: int) -> np.ndarray:
        kernel = np.full((2**scale, 2**scale), 2.0**-scale)
        kernel[: 2 ** (scale - 1)] *= -1
        return np.abs([same(z, k) for k in (kernel, kernel.T)])

    a, b = shrink(a), shrink(b)
    local = np.mean([(2 * haar(a, j) * haar(b, j) + c) / (haar(a, j) ** 2 + haar(b, j) ** 2 + c) for j in (1, 2)], 0)
    weight = np.maximum(haar(a, 3), haar(b, 3))
    pooled = (weight / (1 + np.exp(-alpha * local))).sum() / weight.sum()
    return float((math.log(pooled / (1 - pooled)) / alpha) ** 2)


def test_haarpsi_follows_the_paper() -> None:
    x, t = draw((2, 1, 64, 48))
    x[0] = t[0] * 0.9 + 0.05
    result = metrics(x.clamp(0, 1), t, 1.0)["haarpsi"]
    for i in range(2):
        expected = plain_haarpsi(x[i, 0].clamp(0, 1).double().numpy(), t[i, 0].double().numpy())
        assert float(result[i]) == pytest.approx(expected, abs=2e-4)


def test_a_shift_by_a_tenth_of_the_range_is_twenty_decibel() -> None:
    _, t = draw((1, 1, 32, 32), high=7.0)
    assert float(metrics(t + 0.7, t, 7.0)["psnr"]) == pytest.approx(20.0, abs=1e-4)


@settings(deadline=None, max_examples=20)
@given(
    scale=st.floats(1e-3, 1e3), height=st.integers(1, 30), width=st.integers(1, 30), low=st.sampled_from([-1.0, 0.0])
)
def test_units_do_not_matter(scale: float, height: int, width: int, low: float) -> None:
    """Scaling both images and the range changes nothing but what has a unit, on images of any size, signed ones too."""
    x, t = draw((1, 1, height, width), low=low)
    here, there = metrics(x, t, 1.0 - low), metrics(scale * x, scale * t, scale * (1.0 - low))
    here["rmse"] = scale * here["rmse"]
    for name in NAMES:
        torch.testing.assert_close(there[name], here[name], rtol=2e-3, atol=2e-3, equal_nan=True)


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 10))
def test_small_images_take_the_window_that_fits(size: int) -> None:
    x, t = draw((1, 1, size, size + 3))
    result = metrics(x, t, 1.0)
    assert all(torch.isfinite(result[name]).all() for name in ("psnr", "ssim", "nrmse", "haarpsi"))
    assert float(metrics(t, t, 1.0)["ssim"]) == pytest.approx(1.0)


def test_the_smallest_whole_window_is_scikit_images_own() -> None:
    x, t = draw((1, 1, 11, 11))
    expected = structural_similarity(
        x[0, 0].double().numpy(),
        t[0, 0].double().numpy(),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert float(metrics(x, t, 1.0)["ssim"]) == pytest.approx(expected)


def test_complex_images_are_compared_as_magnitudes() -> None:
    """A global phase is invisible, and the numbers are those of the magnitudes."""
    x, t = draw((2, 1, 32, 40))
    turn = torch.tensor([math.cos(1.1), math.sin(1.1)]).view(1, 2, 1, 1)
    complex_, real = metrics(x.abs() * turn, torch.cat([t, 0 * t], 1), 1.0), metrics(x.abs(), t, 1.0)
    for name in NAMES:
        torch.testing.assert_close(complex_[name], real[name], rtol=1e-5, atol=1e-5)


def test_images_of_a_batch_do_not_meet() -> None:
    x, t = draw((4, 1, 24, 24))
    together = metrics(x, t, 1.0)
    for i in range(4):
        alone = metrics(x[i : i + 1], t[i : i + 1], 1.0)
        for name in NAMES:
            torch.testing.assert_close(together[name][i : i + 1], alone[name], rtol=1e-5, atol=1e-5)


def test_perfect_and_broken_images() -> None:
    _, t = draw((2, 1, 24, 24))
    x = t.clone()
    x[1, 0, 3, 4] = torch.nan
    result = metrics(x, t, 1.0)
    assert [float(result[n][0]) for n in NAMES] == pytest.approx([math.inf, 1.0, 0.0, 0.0, 1.0], abs=1e-5)
    assert all(torch.isnan(result[n][1]) for n in NAMES)


@pytest.mark.parametrize(
    ("shapes", "data_range", "words"),
    [
        (((1, 1, 8, 8), (1, 1, 8, 9)), 1.0, "1 × 1 × 8 × 9"),
        (((1, 3, 8, 8), (1, 3, 8, 8)), 1.0, "1 channel"),
        (((8, 8), (8, 8)), 1.0, "height"),
        (((1, 1, 8, 8), (1, 1, 8, 8)), 0.0, "positive"),
        (((1, 1, 8, 8), (1, 1, 8, 8)), math.nan, "positive"),
    ],
)
def test_wrong_input_is_named(shapes: tuple[tuple[int, ...], ...], data_range: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metrics(torch.zeros(shapes[0]), torch.zeros(shapes[1]), data_range)


def test_errors_have_three_digits_over_ten_orders_of_magnitude() -> None:
    rmse = MEASURES["rmse"]
    shown = [rmse.text(value) for value in (2.4e-10, 6.371e-6, 2.4e-5, 0.00999, 0.0123, 0.5, 1, 99.96, 2041, 61_700)]
    assert shown == [
        "2.40·10⁻¹⁰",
        "6.37·10⁻⁶",
        "2.40·10⁻⁵",
        "0.00999",
        "0.0123",
        "0.500",
        "1.00",
        "100",
        "2040",
        "6.17·10⁴",
    ]
    assert [rmse.text(value) for value in (0, math.nan, math.inf)] == ["0", "–", "∞"]
    assert [rmse.spread(value) for value in (0.0439, 2.04e-7, 12.3, math.nan)] == ["0.044", "2.0·10⁻⁷", "12", "–"]
    assert MEASURES["psnr"].spread(3.091) == "3.09"
    assert (rmse.heading("cm⁻¹"), rmse.heading(""), MEASURES["psnr"].heading("cm⁻¹")) == (
        "RMSE [cm⁻¹]",
        "RMSE",
        "PSNR [dB]",
    )
