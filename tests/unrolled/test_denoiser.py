"""The trained denoiser: its laws, what it learns, and one denoiser for several operators."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from isocenter.baselines import ConvergenceWarning, Tuning
from isocenter.baselines.plug_and_play import PlugAndPlay
from isocenter.physics import Blur, Identity, Inpaint, LinearOperator, check_linear_operator
from isocenter.unrolled import Training, full_precision
from isocenter.unrolled.denoiser import (
    DenoisingNetwork,
    DenoisingProblem,
    NetworkDenoiser,
    NoisyImage,
    PlugAndPlayNetwork,
)
from torch import Tensor

SHAPE = (22, 17)  # no multiple of what its scales need
TRAINING = Training(steps=200, batch=8, validate_every=100, warmup=10, learning_rate=5e-3, average=0.95)


def small(channels: int) -> DenoisingNetwork:
    return DenoisingNetwork(channels, (8, 12))


def random_network(channels: int = 1) -> DenoisingNetwork:
    network = DenoisingNetwork(channels, (8, 12, 16))
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return network


def test_noisy_image_keeps_the_laws_of_operators() -> None:
    check_linear_operator(NoisyImage((2, 7, 9)))
    assert NoisyImage((1, 5, 5)).norm == 1


def test_noise_levels_are_log_uniform_and_are_told(boxes: type) -> None:
    problem = DenoisingProblem(boxes(Identity((1, 32, 32)), 40, "levels", data_range=5.0), (0.01, 0.3))
    levels = []
    for i in range(40):
        truth, y = problem.truth(i), problem.measurement(i, draw=3)
        level = float(y[1, 0, 0])
        assert torch.equal(y[1], torch.full((32, 32), level))
        assert float((y[0] - truth[0]).std()) == pytest.approx(level, rel=0.15)
        levels.append(level / 5)
    position = (torch.tensor(levels) / 0.01).log() / torch.tensor(30.0).log()
    assert 0 <= position.min() < 0.1
    assert 0.9 < position.max() <= 1
    assert position.mean() == pytest.approx(0.5, abs=0.15)
    assert not torch.equal(problem.measurement(0, 1), problem.measurement(0, 2))
    assert torch.equal(problem.measurement(0, 1), problem.measurement(0, 1))


@pytest.mark.parametrize("channels", [1, 2])
def test_network_scales_with_its_input_and_treats_images_one_by_one(channels: int) -> None:
    network, y = random_network(channels), torch.randn(3, channels + 1, *SHAPE)
    with torch.no_grad(), full_precision():
        x = network(y, NoisyImage((channels, *SHAPE)))
        torch.testing.assert_close(network(7 * y, NoisyImage((channels, *SHAPE))), 7 * x, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network(y[1:2], NoisyImage((channels, *SHAPE))), x[1:2], rtol=1e-4, atol=1e-5)


def test_network_starts_as_the_identity_and_is_small() -> None:
    y = torch.randn(1, 2, *SHAPE)
    assert torch.equal(DenoisingNetwork()(y, NoisyImage((1, *SHAPE))), y[:, :1])
    assert sum(weight.numel() for weight in DenoisingNetwork().parameters()) < 300_000


@pytest.fixture(scope="module")
def operators() -> dict[str, LinearOperator]:
    return {
        "blur": Blur(torch.ones(3, 3) / 9, (16, 16)),
        "inpaint": Inpaint(torch.arange(256).reshape(16, 16) % 3 > 0),
    }


def test_one_denoiser_lowers_errors_on_every_operator(
    boxes: type, operators: dict[str, LinearOperator], tmp_path: Path
) -> None:
    scale = 20.0
    method = PlugAndPlayNetwork(
        small, lambda denoiser: PlugAndPlay(denoiser, max_iter=8, tuning=Tuning(8)), training=TRAINING
    )
    with pytest.raises(ValueError, match="not trained"):
        NetworkDenoiser(method.trained)(torch.zeros(1, 1, 8, 8), 0.1)
    blurred = operators["blur"]
    validation = boxes(blurred, 4, "validation", 0.02, scale)
    fit = method.fit(boxes(blurred, 30, "train", 0.02, scale), validation)
    assert set(fit.chosen) == {"step", "noise_level", "penalty"}

    denoiser, x = NetworkDenoiser(method.trained), boxes(Identity((1, 16, 16)), 8, "test", 0, scale).batch(range(8))[0]
    for level in (0.05, 0.2):
        y = x + level * scale * torch.randn_like(x)
        assert error(denoiser(y, level * scale), x) < 0.65 * error(y, x)
    assert torch.equal(denoiser(y, 0.0), y)
    mixed = denoiser(y[:2], torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(mixed[1:], denoiser(y[1:2], 4.0), rtol=1e-2, atol=1e-2 * scale)

    for name, A in operators.items():
        problem = boxes(A, 4, "test", 0.02, scale)
        truth, y = problem.batch(range(4))
        if name != "blur":
            method.tuned.fit(problem, boxes(A, 4, "validation", 0.02, scale))
        found = method.reconstruct(y, A)
        assert error(found, truth) < 0.8 * error(A.direct(y), truth), name
        method.save(tmp_path)
        again = PlugAndPlayNetwork(small, lambda denoiser: PlugAndPlay(denoiser, max_iter=8))
        again.load(tmp_path)
        assert torch.equal(again.reconstruct(y, A), found)
    assert method.parameters == sum(w.numel() for w in small(1).parameters()) + 2


def error(x: Tensor, truth: Tensor) -> float:
    return float((x - truth).square().mean())


@pytest.mark.parametrize("algorithm", ["admm", "red"])
def test_a_network_may_not_let_plug_and_play_converge_and_that_is_a_warning(boxes: type, algorithm) -> None:
    problem = boxes(Identity((1, 16, 16)), 2, "few")
    method = PlugAndPlayNetwork(
        small,
        lambda denoiser: PlugAndPlay(denoiser, algorithm, 0.05, 0.3, tol=1e-9, max_iter=5),
        training=Training(steps=2, batch=2, validate_every=2),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.fit(problem, problem)  # nothing is tuned, only the denoiser is trained
    with pytest.warns(ConvergenceWarning, match="plug-and-play"):
        method.reconstruct(problem.batch([0])[1], problem.physics)


def test_levels_that_make_no_range_are_refused() -> None:
    with pytest.raises(ValueError, match="0 < lowest < highest"):
        PlugAndPlayNetwork(levels=(0.3, 0.1))
