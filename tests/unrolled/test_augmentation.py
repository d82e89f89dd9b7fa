"""Augmentation changes images and their measurements together, the same in every process and after every kill."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from isocenter.data.datasets import Dataset, Sample
from isocenter.data.problem import SimulatedProblem
from isocenter.physics import FourierSampling, GaussianNoise, NoNoise, PoissonCounts, Radon
from isocenter.physics.geometry import ParallelBeam, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.physics.noise import seeded_generator
from isocenter.unrolled.augmentation import Augmentation, Augmented, rotate
from scipy import ndimage
from torch.nn.functional import avg_pool2d

SHAPE = (12, 16)


def problem(physics, noise, oversampling: int = 1, simulate=None) -> SimulatedProblem:
    size = tuple(n * oversampling for n in SHAPE)

    def load(k: int) -> np.ndarray:
        return np.random.default_rng(k).random(size, dtype=np.float32)

    samples = tuple(Sample(f"s{k}", f"p{k}", lambda k=k: load(k)) for k in range(3))
    splits = {"train": samples, "validation": (), "test": ()}
    dataset = Dataset("d", SHAPE, oversampling, 1.0, 1.0, "", (0, 1), (), splits)
    return SimulatedProblem("t", dataset, samples, physics, noise, 5, simulate)


def test_no_change_gives_the_problem_itself_noise_included() -> None:
    plain = problem(FourierSampling(cartesian_uniform(SHAPE, 2, 4)), GaussianNoise(0.1))
    pairs = Augmented(plain, Augmentation())
    for i, draw in ((0, 0), (2, 7)):
        truth, y = pairs.pair(i, draw)
        assert torch.equal(truth, plain.truth(i))
        assert torch.equal(y, plain.measurement(i, draw))


def test_the_measurement_is_that_of_the_changed_image() -> None:
    physics = Radon(ParallelBeam(views(7), 23), SHAPE)
    changed = Augmentation(flips=True, rotation=180, intensity=0.3)
    truths = []
    for draw in range(6):
        truth, y = Augmented(problem(physics, NoNoise()), changed).pair(0, draw)
        torch.testing.assert_close(y, physics.A(truth[None])[0])
        truths.append(truth)
    assert len({truth.sum().item() for truth in truths}) == 6
    again = Augmented(problem(physics, NoNoise()), changed)
    again.pair(1, 0)
    assert torch.equal(again.pair(0, 3)[0], truths[3])  # a function of image and draw alone


def test_noise_is_that_of_the_new_measurement() -> None:
    physics = Radon(ParallelBeam(views(7), 23), SHAPE)
    truth, y = Augmented(problem(physics, PoissonCounts(1e3)), Augmentation(intensity=0.5)).pair(1, 2)
    expected = PoissonCounts(1e3)(physics.A(truth[None]), seeded_generator(5, "d", "s1", "t", 2))[0]
    assert torch.equal(y, expected)


def test_finer_grids_are_changed_before_they_are_measured() -> None:
    physics = FourierSampling(cartesian_uniform(SHAPE, 2, 4))
    seen = []

    def simulate(fine: torch.Tensor) -> torch.Tensor:
        seen.append(fine)
        return physics.A(avg_pool2d(fine, 2))

    truth, y = Augmented(problem(physics, NoNoise(), 2, simulate), Augmentation(flips=True)).pair(0, 4)
    assert seen[0].shape[-2:] == (24, 32)
    assert torch.equal(truth, avg_pool2d(seen[0], 2)[0])
    torch.testing.assert_close(y, physics.A(truth[None])[0])


def test_each_option_changes_what_it_says() -> None:
    image = torch.rand(1, *SHAPE)

    def drawn(augmentation: Augmentation) -> list[torch.Tensor]:
        return [augmentation(image, seeded_generator(k)) for k in range(60)]

    flips = {tuple(x.flatten().tolist()) for x in drawn(Augmentation(flips=True))}
    assert flips == {tuple(image.flip(axes).flatten().tolist()) for axes in ((), (-1,), (-2,), (-1, -2))}
    factors = torch.stack([(x / image).mean() for x in drawn(Augmentation(intensity=0.2))])
    assert 0.8 <= factors.min() < 0.83
    assert 1.17 < factors.max() <= 1.2
    assert not Augmentation()
    assert Augmentation(rotation=1.0)


@pytest.mark.parametrize("size", [(31, 31), (40, 27)])
def test_rotation_is_that_of_scipy(size: tuple[int, int]) -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).random(size), 2)[None]
    turned = rotate(torch.from_numpy(image), np.deg2rad(20))[0].numpy()
    expected = ndimage.rotate(image[0], 20, reshape=False, order=1, mode="constant")
    inside = ndimage.rotate(np.ones(size), 20, reshape=False, order=1) > 0.999
    np.testing.assert_allclose(turned[inside], expected[inside], atol=1e-9)


def test_what_cannot_be_is_refused(boxes: type) -> None:
    with pytest.raises(ValueError, match="not simulated here"):
        Augmented(boxes(FourierSampling(cartesian_uniform(SHAPE, 2, 4)), 1, "b"), Augmentation(flips=True))
    with pytest.raises(ValueError, match="intensity"):
        Augmentation(intensity=1.0)
