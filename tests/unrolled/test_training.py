"""The training loop: what it learns, and that nothing can stop it from ending with the same weights."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isocenter.physics import LinearOperator
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.masks import cartesian_uniform
from isocenter.physics.pointwise import Identity
from isocenter.unrolled import ADMMNet, LearnedMethod, Network, Training, TrainingDivergedError, UNetPostProcessing
from isocenter.unrolled import training as training_module
from isocenter.unrolled.batches import draws
from isocenter.unrolled.trainer import validation_psnr
from torch import Tensor, nn

SHAPE = (24, 20)
SHORT = Training(steps=12, batch=4, validate_every=3, warmup=2, learning_rate=3e-3)


def tiny_unet(channels: int) -> Network:
    return UNetPostProcessing(channels, widths=(4, 8))


def tiny_admm_net(channels: int) -> Network:
    return ADMMNet(stages=2)


class Bias(Network):
    """x = y + b: the smallest network, whose training can be followed by hand."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.settings = {"network": "bias", "channels": channels}
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        return y + self.bias


@given(st.integers(1, 9), st.integers(1, 13), st.integers(0, 5))
def test_every_epoch_sees_every_image_once_with_its_own_noise(batch: int, count: int, seed: int) -> None:
    stream = list(itertools.chain.from_iterable(draws(step, batch, count, seed) for step in range(3 * count)))
    for epoch in range(3):
        images = [image for image, draw in stream if draw == epoch]
        assert sorted(images) == list(range(count))
    assert stream == list(itertools.chain.from_iterable(draws(s, batch, count, seed) for s in range(3 * count)))


def test_learning_rate_rises_linearly_and_falls_to_zero_by_a_cosine() -> None:
    training = Training(steps=110, warmup=10, learning_rate=1.0)
    rates = [training.learning_rate_at(step) for step in range(110)]
    assert rates[:10] == pytest.approx([(k + 1) / 11 for k in range(10)])
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0, abs=1e-3)


def test_validation_psnr_takes_complex_images_as_magnitudes(boxes: type) -> None:
    class Turned(Bias):
        def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
            return torch.stack((0 * y[:, 0] - 0.1, torch.ones_like(y[:, 1])), 1)

    class Ones(boxes):  # type: ignore[misc]
        def truth(self, i: int) -> Tensor:
            return torch.stack((torch.ones(SHAPE), torch.zeros(SHAPE)))

    problem = Ones(Identity((2, *SHAPE)), 3, "ones", data_range=2.0)
    error = math.hypot(0.1, 1) - 1
    expected = 20 * math.log10(2 / error)
    assert validation_psnr(Turned(), {}, problem, batch=2) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("make", [tiny_unet, tiny_admm_net])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    make: Any, boxes: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    physics = FourierSampling(cartesian_uniform(SHAPE, 2, 4))
    validation = boxes(physics, 3, "validation")

    class Interrupted(boxes):  # type: ignore[misc]
        left = 10**9

        def measurement(self, i: int, draw: int = 0) -> Tensor:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().measurement(i, draw)

    whole = LearnedMethod(make, SHORT, seed=1)
    fit = whole.fit(boxes(physics, 5, "train"), validation, tmp_path / "whole")
    torch.manual_seed(99)
    for images in (10, 19, 10**9):  # killed in the first interval between validations, then in the second, then not
        train = Interrupted(physics, 5, "train")
        train.left = images
        again = LearnedMethod(make, SHORT, seed=1)
        try:
            resumed = again.fit(train, validation, tmp_path / "again")
        except KeyboardInterrupt:
            continue
    assert train.left > 10**9 - 12 * 4  # it did go on from where it was
    for a, b in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)

    def numbers(curve: list[dict[str, float]]) -> list[tuple[float, ...]]:
        return [(row["x"], row["validation_psnr"], row["loss"]) for row in curve]

    assert numbers(resumed.curve) == numbers(fit.curve)
    with (tmp_path / "again" / "training.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [3, 6, 9, 12]


def test_another_training_in_the_folder_is_refused(boxes: type, tmp_path: Path) -> None:
    physics = Identity(SHAPE)
    train, validation = boxes(physics, 2, "train"), boxes(physics, 1, "validation")
    LearnedMethod(Bias, SHORT).fit(train, validation, tmp_path)
    for other, images in ((LearnedMethod(Bias, SHORT, seed=1), train), (LearnedMethod(Bias, SHORT), validation)):
        with pytest.raises(ValueError, match="other settings or images; delete it"):
            other.fit(images, validation, tmp_path)


def test_nan_rewinds_and_halves_the_step_and_gives_up_in_the_end(boxes: type) -> None:
    class Spoilt(boxes):  # type: ignore[misc]
        bad = 1

        def measurement(self, i: int, draw: int = 0) -> Tensor:
            y = super().measurement(i, draw)
            if draw == 2 and self.bad:
                self.bad -= 1
                y = y * math.nan
            return y

    physics = Identity(SHAPE)
    validation = boxes(physics, 1, "validation")
    method = LearnedMethod(Bias, SHORT)
    fit = method.fit(Spoilt(physics, 4, "train"), validation)
    assert "went back 1 time" in fit.warnings[0]
    assert [row["x"] for row in fit.curve] == [3, 6, 9, 12]
    assert all(math.isfinite(row["loss"]) for row in fit.curve)

    forever = Spoilt(physics, 4, "train")
    forever.bad = 10**9
    with pytest.raises(TrainingDivergedError, match=r"at last at step 2 .* not finite"):
        LearnedMethod(Bias, SHORT).fit(forever, validation)


def test_an_infinite_validation_image_sends_training_back(boxes: type) -> None:
    class Burst(Bias):
        bad = True

        def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
            x = super().forward(y, physics)
            if self.training or not Burst.bad:
                return x
            Burst.bad = False
            return x + math.inf

    physics = Identity(SHAPE)
    fit = LearnedMethod(Burst, SHORT).fit(boxes(physics, 4, "train"), boxes(physics, 1, "validation"))
    assert "went back 1 time" in fit.warnings[0]
    assert all(math.isfinite(row["validation_psnr"]) for row in fit.curve)


def test_stops_when_patience_is_over_and_keeps_the_best(boxes: type) -> None:
    class Wrong(Bias):
        """Gets worse with every step on validation images, which are in evaluation mode."""

        def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
            return super().forward(y, physics) if self.training else y - 100 * self.bias

    class Bright(boxes):  # type: ignore[misc]
        def measurement(self, i: int, draw: int = 0) -> Tensor:
            return self.truth(i) - 0.3

    physics = Identity(SHAPE)
    fit = LearnedMethod(Wrong, Training(steps=50, validate_every=2, patience=3, warmup=0)).fit(
        Bright(physics, 4, "train"), boxes(physics, 2, "validation")
    )
    assert [row["x"] for row in fit.curve] == [2, 4, 6, 8]
    assert fit.chosen["step"] == 2
    assert fit.budget == "8 steps of 8 images"


def test_an_empty_split_and_impossible_settings_are_refused(boxes: type) -> None:
    some, none = boxes(Identity(SHAPE), 1, "some"), boxes(Identity(SHAPE), 0, "none")
    with pytest.raises(ValueError, match="no validation images"):
        LearnedMethod(Bias).fit(some, none)
    with pytest.raises(ValueError, match="no training images"):
        LearnedMethod(Bias).fit(none, some)
    with pytest.raises(ValueError, match="steps is 0"):
        Training(steps=0)
    with pytest.raises(ValueError, match="learning_rate"):
        Training(learning_rate=-1.0)


def test_intensity_units_do_not_matter(boxes: type) -> None:
    results = []
    for data_range in (1.0, 250.0):
        physics = FourierSampling(cartesian_uniform(SHAPE, 2, 4))
        train, validation = (boxes(physics, 4, n, data_range=data_range) for n in ("train", "validation"))
        method = LearnedMethod(tiny_admm_net, SHORT)
        method.fit(train, validation)
        results.append(method.reconstruct(validation.batch([0])[1], physics) / data_range)
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "training", "margin"),
    [
        (tiny_admm_net, Training(steps=80, batch=4, validate_every=20, warmup=5, learning_rate=1e-2), 8.0),
        (tiny_unet, Training(steps=200, batch=8, validate_every=50, warmup=5, learning_rate=1e-2), 2.0),
    ],
)
def test_a_tiny_task_is_learned_in_seconds(make: Any, training: Training, margin: float, boxes: type) -> None:
    """Decibels above zero filling, on images that training never saw."""
    physics = FourierSampling(cartesian_uniform((32, 32), 2, 6))
    method = LearnedMethod(make, training)
    fit = method.fit(boxes(physics, 32, "train"), boxes(physics, 8, "validation"))
    truth, y = boxes(physics, 8, "fresh").batch(range(8))

    def psnr(x: Tensor) -> float:
        return float((-10 * (x - truth).flatten(1).square().mean(1).log10()).mean())

    gain = psnr(method.reconstruct(y, physics)) - psnr(physics.direct(y))
    print(f"{gain:.2f} dB in {fit.seconds:.1f} s")
    assert gain > margin
    assert fit.seconds < 20
