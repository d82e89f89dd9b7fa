"""What networks are told of noise and sampling: estimates against known levels, and what knowing them is worth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from isocenter.physics import Downsample, FourierSampling, LinearOperator, MultiCoilSampling, ParallelBeam, Radon, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.physics.pointwise import Identity
from isocenter.physics.subset import Subset
from isocenter.unrolled import ItNet, LearnedMethod, Network, Training, UNetPostProcessing, full_precision
from isocenter.unrolled.conditioning import conditions, noise_level, sampled_fraction
from isocenter.unrolled.mixture import Mixture
from torch import Tensor

SHAPE = (24, 24)
MAKES: dict[str, Callable[[int], Network]] = {
    "U-Net": lambda channels: UNetPostProcessing(channels, (8, 16), conditioned=True),
    "ItNet": lambda channels: ItNet(channels, iterations=2, memory=1, widths=(4, 8), conditioned=True),
}


@pytest.mark.parametrize(
    "physics",
    [Identity((64, 64)), Identity((2, 64, 64)), FourierSampling(torch.ones(64, 64), complex_image=True)],
    ids=["image", "complex image", "k-space"],
)
@pytest.mark.parametrize("level", [0.003, 0.03, 0.3])
def test_noise_level_is_that_of_white_noise(physics: LinearOperator, level: float, boxes: type) -> None:
    _, y = boxes(physics, 8, "noisy", noise=level).batch(range(8))
    torch.testing.assert_close(noise_level(physics.direct(y)), torch.full((8,), level), rtol=0.08, atol=0)


def test_noise_level_scales_with_the_image_and_leaves_out_what_is_not_seen(boxes: type) -> None:
    x, y = boxes(Identity((64, 64)), 4, "noisy").batch(range(4))
    torch.testing.assert_close(noise_level(7 * y), 7 * noise_level(y))
    torch.testing.assert_close(noise_level(y[:1]), noise_level(y)[:1])
    y[..., 24:] = 0  # two thirds are outside the field of view
    torch.testing.assert_close(noise_level(y), torch.full((4,), 0.05), rtol=0.15, atol=0)
    assert torch.equal(noise_level(torch.cat((x, 0 * x))), torch.zeros(8))  # without noise, and without an image


@pytest.mark.parametrize(
    ("physics", "fraction"),
    [
        (Identity(SHAPE), 1.0),
        (FourierSampling(torch.ones(SHAPE)), 1.0),
        (FourierSampling(torch.eye(24)), 1 / 24),
        (MultiCoilSampling(torch.eye(24), torch.randn(2, 8, *SHAPE)), 1 / 24),
        (Downsample(SHAPE, 2), 1 / 4),
        (Radon(ParallelBeam(views(6), detectors=32), SHAPE), 6 * 32 / 24**2),
        (Radon(ParallelBeam(views(60), detectors=32), SHAPE), 1.0),
        (Subset(Radon(ParallelBeam(views(6), detectors=32), SHAPE), torch.arange(32) < 8), 6 * 8 / 24**2),
    ],
)
def test_sampled_fraction(physics: LinearOperator, fraction: float) -> None:
    assert sampled_fraction(physics) == pytest.approx(fraction)
    planes = conditions(torch.randn(3, *physics.domain), physics)
    assert torch.equal(planes[:, 1], torch.full((3, *SHAPE), fraction))
    assert (planes[:, :1] == planes[:, :1, :1, :1]).all()


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_image_has_its_own_conditions(name: str, channels: int) -> None:
    physics = FourierSampling(cartesian_uniform(SHAPE, 2, 4), complex_image=channels == 2)
    network = MAKES[name](channels)
    with torch.no_grad(), full_precision():
        for weight in network.parameters():
            weight += 0.05 * torch.randn_like(weight)
        y = physics.A(torch.rand(3, *physics.domain) * torch.tensor([1.0, 0.1, 0.01]).view(-1, 1, 1, 1))
        torch.testing.assert_close(network(y, physics)[1:2], network(y[1:2], physics), rtol=1e-4, atol=1e-5)


def test_cards_of_networks_without_conditions_stay_as_they_were() -> None:
    assert UNetPostProcessing(widths=(4, 8)).settings == {
        "network": "U-Net post-processing",
        "channels": 1,
        "widths": [4, 8],
    }
    for make in MAKES.values():
        assert make(1).settings["conditioned"] is True


def test_one_network_for_two_noise_levels_does_better_when_it_knows_which(boxes: type) -> None:
    physics, levels = Identity(SHAPE), (0.02, 0.2)
    training = Training(steps=100, batch=8, validate_every=100, warmup=5, learning_rate=5e-3, average=0.95)
    gains = {}
    for conditioned in (False, True):
        method = LearnedMethod(
            lambda channels, known=conditioned: UNetPostProcessing(channels, (8, 16), known), training
        )
        train, validation = (
            Mixture([boxes(physics, count, name, noise=level) for level in levels])
            for name, count in (("train", 64), ("validation", 4))
        )
        method.fit(train, validation)
        gains[conditioned] = []
        for level in levels:
            truth, y = boxes(physics, 32, "fresh", noise=level).batch(range(32))
            gains[conditioned].append(psnr(method.reconstruct(y, physics), truth) - psnr(y, truth))
    print(gains)
    assert gains[True][0] > gains[False][0] + 2  # dB, where there is little noise
    assert gains[True][1] > gains[False][1] - 0.3


def psnr(x: Tensor, truth: Tensor) -> float:
    return float((-10 * (x - truth).flatten(1).square().mean(1).log10()).mean())
