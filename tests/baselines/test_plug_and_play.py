"""Denoisers against their definitions, plug-and-play against what linear and convex denoisers lead to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.baselines import ConvergenceWarning
from isocenter.baselines.admm import ADMM
from isocenter.baselines.denoisers import Denoiser, TotalVariationDenoiser, WaveletDenoiser
from isocenter.baselines.iteration import CHECK_EVERY, solve
from isocenter.baselines.non_local_means import NonLocalMeans
from isocenter.baselines.objective import Objective
from isocenter.baselines.plug_and_play import (
    PlugAndPlay,
    PlugAndPlayADMM,
    RegularisationByDenoising,
    data_step,
    half_quadratic,
)
from isocenter.baselines.terms import TotalVariationTerm
from isocenter.data.problem import Problem
from isocenter.physics import (
    Blur,
    Downsample,
    FourierSampling,
    Identity,
    Inpaint,
    LinearOperator,
    ParallelBeam,
    Radon,
    views,
)
from isocenter.physics.masks import cartesian_variable_density
from isocenter.physics.periodic import filter_image, gradient_power
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from torch import Tensor


def piecewise_constant(n: int) -> Tensor:
    x = torch.zeros(1, 1, n, n, dtype=torch.float64)
    x[..., n // 4 : 3 * n // 4, n // 3 : -n // 4] = 1.0
    x[..., n // 2 :, : n // 2] += 0.5
    return x


OPERATORS: dict[str, LinearOperator] = {
    "radon": Radon(ParallelBeam(views(8), 17), (12, 12)),
    "mri": FourierSampling(cartesian_variable_density((12, 12), 2.0, 4, seed=1)),
    "complex mri": FourierSampling(cartesian_variable_density((12, 12), 2.0, 4, seed=1), complex_image=True),
    "blur": Blur(torch.ones(3, 3) / 9, (12, 12)),
    "blur, mirrored": Blur(torch.ones(3, 3) / 9, (12, 12), "reflect"),
    "downsample": Downsample((12, 12), 2),
    "inpaint": Inpaint(torch.arange(144).reshape(12, 12) % 3 > 0),
}

DENOISERS: dict[str, Denoiser] = {
    "nlm": NonLocalMeans(3, 3),
    "tv": TotalVariationDenoiser(1e-4),
    "wavelet": WaveletDenoiser(),
    "wavelet basis": WaveletDenoiser("haar", translation_invariant=False),
}


def measured(A: LinearOperator) -> Tensor:
    x = piecewise_constant(12).repeat(2, A.domain[0], 1, 1)
    x[1] = x[1].roll(2, -1) * 0.7
    y = A.A(x)
    noise = 0.05 * y.abs().mean() * torch.randn_like(y)
    return y + noise * (1 if A.support is None else A.support)


# Denoisers


def non_local_means(
    image: np.ndarray, sigma: float, patch: list[int], distance: int, strength: float, size: int
) -> np.ndarray:
    """The definition, pixel by pixel, with patches at the given offsets and sums of squares divided by ``size``."""
    channels, height, width = image.shape
    margin, offsets, result = distance + max(map(abs, patch)), np.array(patch), np.empty_like(image)
    wide = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")

    def around(row: int, column: int) -> np.ndarray:
        return wide[:, (margin + row + offsets)[:, None], margin + column + offsets]

    for row, column in np.ndindex(height, width):
        total, value = 0.0, np.zeros(channels)
        for down, right in np.ndindex(2 * distance + 1, 2 * distance + 1):
            i, j = row + down - distance, column + right - distance
            excess = ((around(row, column) - around(i, j)) ** 2 - 2 * sigma**2).sum() / (channels * size)
            exponent = max(excess, 0) / (strength * sigma) ** 2
            weight = np.exp(-exponent) if exponent < 5 else 0.0
            total, value = total + weight, value + weight * wide[:, margin + i, margin + j]
        result[:, row, column] = value / total
    return result


@pytest.mark.parametrize("channels", [1, 2])
def test_non_local_means_is_its_definition(channels: int) -> None:
    y = (piecewise_constant(13)[0].repeat(channels, 1, 1) + 0.1 * torch.randn(channels, 13, 13))[..., :11]
    expected = non_local_means(y.numpy(), 0.1, [-2, -1, 0, 1, 2], 3, 0.8, size=25)
    np.testing.assert_allclose(NonLocalMeans(5, 3, 0.8)(y[None], 0.1)[0], expected, atol=1e-12)


def test_the_definition_is_that_of_scikit_image_but_for_its_patches() -> None:
    """scikit-image's fast mode sums over 4 × 4 pixels off the centre, and divides by 5 × 5; its exp is approximate."""
    y = piecewise_constant(14)[0].numpy() + 0.1 * np.random.default_rng(0).standard_normal((1, 14, 14))
    expected = denoise_nl_means(y[0], patch_size=5, patch_distance=3, h=0.08, sigma=0.1, fast_mode=True)
    np.testing.assert_allclose(non_local_means(y, 0.1, [-1, 0, 1, 2], 3, 0.8, size=25)[0], expected, atol=5e-3)


def test_total_variation_denoiser_equals_scikit_image() -> None:
    y = piecewise_constant(16) + 0.2 * torch.randn(1, 1, 16, 16)
    expected = denoise_tv_chambolle(y[0, 0].numpy(), weight=0.2, eps=1e-9, max_num_iter=10000)
    assert np.abs(TotalVariationDenoiser(1e-5, 800)(y, 0.2)[0, 0].numpy() - expected).max() < 2e-3


def test_wavelet_denoiser_is_the_mean_over_shifts_of_shrinking_in_a_basis() -> None:
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    basis = WaveletDenoiser("haar", 2, translation_invariant=False)
    shifts = [(i, j) for i in range(4) for j in range(4)]
    mean = sum(basis(x.roll((i, j), (2, 3)), 0.5).roll((-i, -j), (2, 3)) for i, j in shifts) / len(shifts)
    torch.testing.assert_close(WaveletDenoiser("haar", 2)(x, 0.5), mean, atol=1e-10, rtol=0)
    coefficients = pywt.wavedec2(x[0, 0].numpy(), "haar", "periodization", 2)
    shrunk = [coefficients[0], *[tuple(pywt.threshold(d, 0.5) for d in level) for level in coefficients[1:]]]
    expected = pywt.waverec2(shrunk, "haar", "periodization")
    np.testing.assert_allclose(basis(x[:, :1], 0.5)[0, 0], expected, atol=1e-10)


@pytest.mark.parametrize("denoiser", DENOISERS.values(), ids=DENOISERS)
def test_laws_of_denoisers(denoiser: Denoiser) -> None:
    x = piecewise_constant(12).repeat(3, 2, 1, 1) + 0.1 * torch.randn(3, 2, 12, 12)
    levels = torch.tensor([0.1, 0.0, 0.3])
    once = denoiser(x, levels)
    for i, level in enumerate(levels.tolist()):  # each image has its own noise level, and is denoised alone
        torch.testing.assert_close(once[i : i + 1], denoiser(x[i : i + 1], level), atol=1e-5, rtol=0)
    torch.testing.assert_close(denoiser(1e3 * x, 1e3 * levels), 1e3 * once, atol=1e-2, rtol=0)
    faint = 2.0**-100  # whose square float32 cannot hold
    assert torch.equal(denoiser(faint * x, faint * levels), faint * once)
    assert torch.equal(once[1], x[1])
    flat = torch.full((1, 1, 9, 7), 0.3, dtype=torch.float64)
    torch.testing.assert_close(denoiser(flat, 0.2), flat, atol=1e-6, rtol=0)
    assert torch.equal(denoiser(0 * x, 0.1), 0 * x)


@pytest.mark.parametrize("denoiser", DENOISERS.values(), ids=DENOISERS)
def test_channels_are_joined(denoiser: Denoiser) -> None:
    """A complex image of constant phase stays so, and has the magnitude of the denoised real image."""
    x = piecewise_constant(12) + 0.1 * torch.randn(1, 1, 12, 12)
    phase = torch.tensor([0.6, 0.8]).reshape(1, 2, 1, 1)
    sigma = torch.tensor(0.1)
    # The mean over two channels halves the squared distances of a magnitude, as it does those of its noise.
    scale = 2**-0.5 if isinstance(denoiser, NonLocalMeans) else 1.0
    torch.testing.assert_close(denoiser(phase * x, sigma * scale), phase * denoiser(x, sigma), atol=1e-3, rtol=0)


def test_negative_noise_and_even_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a number ≥ 0"):
        TotalVariationDenoiser()(torch.zeros(1, 1, 8, 8), -0.1)
    with pytest.raises(ValueError, match="one for each of the 2 images"):
        NonLocalMeans()(torch.zeros(2, 1, 8, 8), torch.ones(3))
    with pytest.raises(ValueError, match="odd patch"):
        NonLocalMeans(4)


# Algorithms


@dataclass(frozen=True)
class Smoothing(Denoiser):
    """D_σ = (1 + σ² L)⁻¹ with the periodic Laplacian L: the proximal map of σ²/2 ⟨x, L x⟩."""

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        power = torch.as_tensor(sigma).double().square().reshape(-1, 1, 1) * gradient_power(x.shape[-2:])
        return filter_image(x, 1 / (1 + power))


def dense(apply, domain: tuple[int, ...]) -> Tensor:
    unit = torch.eye(int(np.prod(domain)), dtype=torch.float64).reshape(-1, *domain)
    return apply(unit).flatten(1).T


def solved(A: LinearOperator, y: Tensor, prior: Tensor) -> Tensor:
    """(AᵀA + prior)⁻¹ Aᵀ y for A / ‖A‖."""
    matrix = dense(A.A, A.domain) / A.norm
    right = matrix.T @ (y / A.norm).flatten(1).T
    return torch.linalg.solve(matrix.T @ matrix + prior, right).T.reshape(-1, *A.domain)


@pytest.mark.parametrize("name", OPERATORS)
def test_data_step_solves_its_equations(name: str) -> None:
    A = OPERATORS[name]
    y, rho = measured(A), torch.tensor([0.05, 0.5], dtype=torch.float64).reshape(2, 1, 1, 1)
    v = torch.randn(2, *A.domain, dtype=torch.float64)
    x = v
    for _ in range(5):
        x = data_step(A, y, v, rho, x)
    gradient = A.A_adjoint(A.A(x) - y) / A.norm**2 + rho * (x - v)
    assert float(gradient.norm()) < 1e-5 * float(v.norm())


@pytest.mark.parametrize("name", OPERATORS)
def test_linear_denoisers_have_known_solutions(name: str) -> None:
    A, sigma, rho = OPERATORS[name], 2.0, 0.1  # a level no schedule starts above: half-quadratic splitting keeps it
    y = measured(A)
    laplacian = dense(lambda x: filter_image(x, gradient_power((12, 12))), A.domain)
    shrink = dense(lambda x: Smoothing()(x, sigma), A.domain)
    tikhonov = solved(A, y, rho * sigma**2 * laplacian)
    red = solved(A, y, rho * (torch.eye(len(shrink)) - shrink))
    admm = solve(PlugAndPlayADMM(A, y, Smoothing(), sigma, rho), 1e-5, 200).x
    assert float((admm - tikhonov).norm()) < 1e-4 * float(tikhonov.norm())
    accelerated = solve(RegularisationByDenoising(A, y, Smoothing(), sigma, rho), 1e-5, 50).x
    assert float((accelerated - red).norm()) < 1e-4 * float(red.norm())
    *_, state = half_quadratic(A, y, Smoothing(), sigma, rho, 30)
    assert float((state.x - red).norm()) < 1e-4 * float(red.norm())


def test_total_variation_as_denoiser_finds_the_total_variation_optimum() -> None:
    A, sigma, rho = OPERATORS["radon"], 0.1, 0.05
    y = measured(A)[:1]
    expected = solve(ADMM(Objective(A, y, [TotalVariationTerm(rho * sigma)])), 1e-6, 1000).x
    solution = solve(PlugAndPlayADMM(A, y, TotalVariationDenoiser(1e-4, 60), sigma, rho), 1e-3, 20)
    assert float((solution.x - expected).norm()) < 1e-3 * float(expected.norm())


def test_levels_of_the_schedule_fall_in_equal_ratios_to_the_noise_level() -> None:
    levels: list[Tensor] = []

    class Recorder(Denoiser):
        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            levels.append(torch.as_tensor(sigma).flatten())
            return x

    y = torch.stack([torch.ones(1, 4, 4), torch.full((1, 4, 4), 5.0)]).double()
    *_, last = half_quadratic(Identity((4, 4)), y, Recorder(), 0.01, 1.0, 8)
    found = torch.stack(levels)
    torch.testing.assert_close(found[-1], torch.tensor([0.01, 0.01]).double())
    torch.testing.assert_close(found[:, 0], 0.01 * 20 ** (1 - torch.arange(1, 9).double() / 8))
    torch.testing.assert_close(found[0, 1] / found[1, 1], torch.tensor(100 ** (1 / 8)).double())
    torch.testing.assert_close(last.x, y)


@pytest.mark.parametrize("algorithm", ["hqs", "admm", "red"])
@pytest.mark.parametrize("name", OPERATORS)
def test_every_algorithm_on_every_operator(name: str, algorithm) -> None:
    """Each is better than the direct reconstruction, scales with the data, and treats images one by one."""
    A = OPERATORS[name]
    truth = piecewise_constant(12).repeat(2, A.domain[0], 1, 1)
    truth[1] = truth[1].roll(2, -1) * 0.7
    y = measured(A)

    def method(scale: float) -> PlugAndPlay:
        return PlugAndPlay(NonLocalMeans(3, 3), algorithm, 0.1 * scale, 0.03, max_iter=20)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        both, alone = method(1).reconstruct(y, A), method(1).reconstruct(y[1:], A)
        large = method(1e3).reconstruct(1e3 * y, A)
    assert both.dtype == torch.float64
    if name != "inpaint" or algorithm != "red":  # patches with unseen pixels are alike, and RED keeps them from filling
        assert float((both - truth).square().mean()) < float((A.direct(y) - truth).square().mean())
    torch.testing.assert_close(both[1:], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(large, 1e3 * both, atol=1e-2, rtol=0)


@pytest.mark.parametrize("algorithm", ["hqs", "admm", "red"])
def test_nothing_measured_gives_nothing(algorithm) -> None:
    A = OPERATORS["radon"]
    x = PlugAndPlay(NonLocalMeans(3, 3), algorithm, 0.1, 0.1).reconstruct(torch.zeros(1, *A.range), A)
    assert torch.equal(x, torch.zeros(1, *A.domain))


@given(sigma=st.floats(0.05, 5), rho=st.floats(0.01, 10))
@settings(max_examples=8, deadline=None)
def test_a_linear_denoiser_on_pixels_has_a_closed_form(sigma: float, rho: float) -> None:
    """On the identity ADMM's limit is a filter: y / (1 + ρ σ² L); what it reports bounds how far off it is."""
    y = piecewise_constant(12)
    expected = filter_image(y, 1 / (1 + rho * sigma**2 * gradient_power((12, 12))))
    solution = solve(PlugAndPlayADMM(Identity((12, 12)), y, Smoothing(), sigma, rho), 1e-6, 2000)
    assert float(solution.gap) <= 1e-6
    torch.testing.assert_close(solution.x, expected, atol=1e-3, rtol=0)


def test_stopping_early_is_a_warning_and_a_schedule_is_none() -> None:
    y = torch.rand(1, 1, 12, 12)
    for algorithm in ("admm", "red"):
        with pytest.warns(ConvergenceWarning, match=f"stopped after {CHECK_EVERY} iterations.*raise max_iter"):
            PlugAndPlay(NonLocalMeans(3, 2), algorithm, 0.3, 0.1, tol=1e-12, max_iter=5).reconstruct(
                y, OPERATORS["blur"]
            )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PlugAndPlay(NonLocalMeans(3, 2), "hqs", 0.3, 0.1, max_iter=2).reconstruct(y, OPERATORS["blur"])


class Noisy(Problem):
    """Piecewise constant images and Gaussian noise."""

    def __init__(self, data_range: float) -> None:
        self.physics, self.data_range = Identity((16, 16)), data_range
        self.ids = self.patients = ("a", "b")

    def truth(self, i: int) -> Tensor:
        return self.data_range * piecewise_constant(16)[0].roll(3 * i, -1)

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        noise = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(i))
        return self.truth(i) + 0.15 * self.data_range * noise


@pytest.mark.parametrize("data_range", [1.0, 50.0])
def test_fit_finds_a_noise_level_in_the_units_of_the_images(data_range: float, tmp_path: Path) -> None:
    problem = Noisy(data_range)
    method = PlugAndPlay(NonLocalMeans(3, 3), "hqs", penalty=1.0, max_iter=4)
    fit = method.fit(problem, problem)
    truth, y = problem.batch(range(2))

    def error(level: float) -> float:
        x = PlugAndPlay(NonLocalMeans(3, 3), "hqs", level, 1.0, max_iter=4).reconstruct(y, problem.physics)
        return float((x - truth).square().mean())

    best = fit.chosen["noise_level"]
    assert error(best) <= min(error(best / 3), error(best * 3))
    assert 0.02 < best / data_range < 0.5
    method.save(tmp_path)
    again = PlugAndPlay(NonLocalMeans(3, 3), "hqs")
    again.load(tmp_path)
    assert again.values == method.values


def test_what_makes_no_sense_is_refused() -> None:
    method = PlugAndPlay(NonLocalMeans(), "hqs", 0.1, 0.1)
    with pytest.raises(ValueError, match="NaN or infinity"):
        method.reconstruct(torch.full((1, 1, 8, 8), torch.nan), Identity((8, 8)))
    with pytest.raises(ValueError, match="expected batch × 1 × 8 × 8"):
        method.reconstruct(torch.zeros(1, 1, 8, 9), Identity((8, 8)))
    with pytest.raises(ValueError, match="penalty is 0"):
        PlugAndPlay(NonLocalMeans(), penalty=0.0)
