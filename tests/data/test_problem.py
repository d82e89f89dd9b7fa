"""Measurements: seeded by image and task alone, stored as they were simulated, from a dataset that keeps its rules."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from isocenter.data.datasets import Dataset, Sample
from isocenter.data.problem import SimulatedProblem, StoredProblem, store
from isocenter.physics import FourierSampling, GaussianNoise, Identity, PoissonCounts


def picture(k: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(k).random((size, size))


def dataset(oversampling: int = 1, **splits: tuple[Sample, ...]) -> Dataset:
    size = 8 * oversampling
    samples = tuple(Sample(f"image{k}", f"patient{k}", partial(picture, k, size)) for k in range(4))
    chosen = {"train": samples[:2], "validation": samples[2:3], "test": samples[3:], **splits}
    return Dataset("pictures", (8, 8), oversampling, 1.0, 1.0, "", (0.0, 1.0), (), chosen)


def problem(samples: tuple[Sample, ...], task: str = "task", seed: int = 0) -> SimulatedProblem:
    return SimulatedProblem(task, dataset(), samples, Identity((8, 8)), GaussianNoise(0.1), seed)


def test_noise_depends_on_image_task_seed_and_draw_only() -> None:
    samples = dataset().splits["train"]
    both = problem(samples)
    expected = both.measurement(1)
    assert torch.equal(problem(samples[1:]).measurement(0), expected)  # neither on the others nor on their order
    assert torch.equal(both.batch([0, 1])[1][1], expected)
    others = [
        problem(samples, seed=1).measurement(1),
        problem(samples, task="other").measurement(1),
        both.measurement(1, draw=1),
        both.measurement(0) - both.truth(0) + both.truth(1),
    ]
    assert not any(torch.allclose(other, expected) for other in others)


def test_noise_falls_on_measured_samples_only() -> None:
    mask = torch.arange(64).reshape(8, 8) % 2 == 0
    operator = FourierSampling(mask)
    noisy = SimulatedProblem("task", dataset(), dataset().splits["test"], operator, GaussianNoise(0.1), 0)
    y = noisy.measurement(0)
    assert (y[:, ~mask] == 0).all()
    assert (y - operator.A(noisy.truth(0)[None])[0])[:, mask].std() == pytest.approx(0.1, rel=0.3)


def test_the_truth_is_the_block_mean_of_what_is_measured() -> None:
    data = dataset(oversampling=2)
    sample = data.splits["test"][0]
    finer = SimulatedProblem("t", data, [sample], Identity((8, 8)), PoissonCounts(1e9), 0, lambda x: x[..., ::2, ::2])
    fine = picture(3, 16)
    expected = fine.reshape(8, 2, 8, 2).mean((1, 3))
    assert np.allclose(finer.truth(0)[0].numpy(), expected, atol=1e-6)
    assert np.allclose(finer.measurement(0)[0].numpy(), fine[::2, ::2], atol=1e-3)


def test_stored_measurements_are_the_simulated_ones(tmp_path: Path) -> None:
    simulated = problem(dataset().splits["train"])
    store(tmp_path / "m.h5", {"test": simulated})
    stored = StoredProblem(tmp_path / "m.h5", "test", simulated.physics)
    assert stored.ids == simulated.ids
    assert stored.patients == simulated.patients
    assert all(torch.equal(a, b) for a, b in zip(stored.batch([0, 1]), simulated.batch([0, 1]), strict=True))
    with pytest.raises(ValueError, match="one noise draw"):
        stored.measurement(0, draw=1)
    with pytest.raises(ValueError, match="delete the file"):
        StoredProblem(tmp_path / "m.h5", "test", Identity((8, 9)))


def test_an_empty_split_is_stored_as_one(tmp_path: Path) -> None:
    store(tmp_path / "m.h5", {"validation": problem(())})
    assert len(StoredProblem(tmp_path / "m.h5", "validation", Identity((8, 8)))) == 0


def test_a_store_that_is_interrupted_leaves_nothing_whole(tmp_path: Path) -> None:
    class Broken(SimulatedProblem):
        def measurement(self, i: int, draw: int = 0) -> torch.Tensor:
            raise KeyboardInterrupt

    broken = Broken("task", dataset(), dataset().splits["train"], Identity((8, 8)), GaussianNoise(0.1), 0)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / "m.h5", {"test": broken})
    assert not (tmp_path / "m.h5").exists()


def test_a_dataset_refuses_what_would_spoil_results() -> None:
    samples = dataset().splits["train"]
    with pytest.raises(ValueError, match="patient0 is in train and in test"):
        dataset(test=samples[:1])
    data = dataset()
    with pytest.raises(ValueError, match="the fine grid is"):
        data.fine(Sample("a", "p", lambda: np.zeros((3, 3))))
    with pytest.raises(ValueError, match="NaN"):
        data.fine(Sample("a", "p", lambda: np.full((8, 8), np.nan)))
