"""Moments of the noise models, their seeds and their supports."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.physics.noise import GaussianNoise, NoNoise, PoissonCounts, Rician, seeded_generator

MODELS = [NoNoise(), GaussianNoise(0.1), GaussianNoise(0.1, relative=True), PoissonCounts(1e4), Rician(0.1)]
every_model = pytest.mark.parametrize("noise", MODELS, ids=str)


def draw(noise, y, *parts, support=None):
    return noise(y, seeded_generator(*(parts or ("test",))), support)


@every_model
def test_the_seed_decides_the_noise(noise) -> None:
    y = torch.rand(2, 2, 16, 15)
    assert torch.equal(draw(noise, y, 1), draw(noise, y, 1))
    assert torch.equal(draw(noise, y, 1), draw(noise, y, 2)) == isinstance(noise, NoNoise)
    torch.testing.assert_close(draw(noise, y.double(), 1).float(), draw(noise, y, 1))
    assert draw(noise, y.double(), 1).dtype == torch.float64
    assert pickle.loads(pickle.dumps(noise)) == noise


@every_model
def test_nothing_is_added_where_nothing_is_measured(noise) -> None:
    support = torch.rand(16, 15) < 0.5
    y = torch.rand(2, 2, 16, 15) * support
    noisy = draw(noise, y, support=support)
    assert torch.equal(noisy[..., ~support], y[..., ~support])
    assert isinstance(noise, NoNoise) or bool((noisy[..., support] != y[..., support]).float().mean() > 0.9)


def test_gaussian_noise_has_its_sigma_in_every_channel() -> None:
    y = torch.rand(1, 2, 200, 200)
    added = draw(GaussianNoise(0.3), y) - y
    for channel in added[0]:
        assert abs(float(channel.mean())) < 5 * 0.3 / 200
        assert float(channel.std()) == pytest.approx(0.3, rel=0.02)


def test_relative_noise_follows_each_image() -> None:
    y = torch.rand(1, 1, 200, 200) - 0.5
    y = torch.cat((y, 100 * y))
    mean = y[0].abs().mean()
    added = draw(GaussianNoise(0.05, relative=True), y) - y
    assert float(added[0].std() / mean) == pytest.approx(0.05, rel=0.02)
    assert float(added[1].std() / mean) == pytest.approx(5, rel=0.02)
    support = torch.zeros(200, 200, dtype=torch.bool)
    support[:, ::4] = True  # the same noise, however few lines are measured
    sparse = draw(GaussianNoise(0.05, relative=True), y * support, support=support) - y * support
    assert float(sparse[0][..., support].std() / mean) == pytest.approx(0.05, rel=0.04)


@pytest.mark.parametrize("line_integral", [0.0, 2.0, 5.0])
def test_photon_counts_are_poisson(line_integral) -> None:
    y = torch.full((1, 1, 300, 300), line_integral, dtype=torch.float64)
    counts = 1e4 * torch.exp(-draw(PoissonCounts(1e4), y))
    mean = 1e4 * math.exp(-line_integral)
    assert float(counts.mean()) == pytest.approx(mean, abs=5 * math.sqrt(mean) / 300)
    assert float(counts.var()) == pytest.approx(mean, rel=0.03)
    torch.testing.assert_close(counts, counts.round())


def test_a_cell_without_a_photon_counts_half_of_one() -> None:
    noisy = draw(PoissonCounts(1e3), torch.full((1, 1, 8, 8), 60.0))
    torch.testing.assert_close(noisy, torch.full((1, 1, 8, 8), math.log(2e3)))


@pytest.mark.parametrize("level", [0.0, 0.2, 3.0])
def test_rician_magnitudes(level) -> None:
    """E m² = y² + 2σ²; without a signal the Rayleigh mean σ √(π/2)."""
    magnitude = draw(Rician(0.2), torch.full((1, 1, 400, 400), level, dtype=torch.float64))
    assert float(magnitude.square().mean()) == pytest.approx(level**2 + 2 * 0.2**2, rel=0.02)
    assert bool((magnitude >= 0).all())
    if level == 0:
        assert float(magnitude.mean()) == pytest.approx(0.2 * math.sqrt(math.pi / 2), rel=0.01)


def test_seeds_are_the_same_in_every_process() -> None:
    assert seeded_generator(0, "open-ms", "19_T1_024", "sparse").initial_seed() == 2278492862


parts = st.lists(st.one_of(st.integers(), st.text()), max_size=4)


@settings(max_examples=30, deadline=None)
@given(parts, parts)
def test_other_parts_are_another_seed(a, b) -> None:
    """Also where the parts read the same in a row: ("ab", "c") and ("a", "bc"), 1 and "1"."""
    same = [(type(p), p) for p in a] == [(type(p), p) for p in b]
    assert (seeded_generator(*a).initial_seed() == seeded_generator(*b).initial_seed()) == same
    assert seeded_generator("ab", "c").initial_seed() != seeded_generator("a", "bc").initial_seed()
    assert seeded_generator(1).initial_seed() != seeded_generator("1").initial_seed()


@pytest.mark.parametrize(
    "make", [lambda: GaussianNoise(-1), lambda: GaussianNoise(math.nan), lambda: PoissonCounts(0), lambda: Rician(-0.1)]
)
def test_impossible_noise_is_refused(make) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        make()
