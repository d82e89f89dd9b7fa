"""The suites of published tables: data and physics are those of the papers, and each runs end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from isocenter.benchmarks import report
from isocenter.benchmarks.run_folder import read_csv
from isocenter.benchmarks.runner import run_suite
from isocenter.benchmarks.schema import LoadedSuite, load_suite
from isocenter.benchmarks.tasks import OpenTask
from isocenter.unrolled import training

NETWORKS = {"unet", "dncnn", "learned-gradient", "learned-pdhg", "learned-primal", "learned-primal-dual"}
TRAINING = ("steps=1", "batch=1", "validate_every=1")


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds and have tests of their own."""
    monkeypatch.setattr(report, "write_report", lambda run: run / "report.html")
    monkeypatch.setattr(training, "write_picture", lambda folder, curve: None)


def small(suite: str, *changes: str) -> LoadedSuite:
    """A suite whose networks are trained for a step of one image."""
    names = [(m.key, hasattr(m, "training")) for m in load_suite(suite).suite.methods]
    steps = [f"methods.{name}.training.{change}" for name, learned in names if learned for change in TRAINING]
    return load_suite(suite, (*steps, *changes))


def psnr_of_direct(task: OpenTask, images: Sequence[int]) -> list[float]:
    test = task.simulated("test")
    errors = [task.physics.direct(test.measurement(i)[None])[0] - test.truth(i) for i in images]
    return [10 * math.log10(test.data_range**2 / float(error.square().mean())) for error in errors]


def test_the_scan_of_learned_primal_dual_is_that_of_the_paper() -> None:
    """FBP with the Hann filter reaches the 19.75 dB of the paper on its image."""
    loaded = load_suite("lpd-ellipses")
    for name in loaded.suite.tasks:
        geometry = OpenTask(loaded, name).physics.geometry
        assert geometry.angles == pytest.approx(np.pi * (np.arange(30) + 0.5) / 30)
        ends = geometry.detector_coordinates()[[0, -1]] + geometry.spacing / 2 * np.array([-1, 1])
        assert ends == pytest.approx([-64 * 2**0.5, 64 * 2**0.5])
        assert len(geometry.detector_coordinates()) == 183
    task = OpenTask(loaded, "shepp-logan")
    assert (task.dataset.shape, task.dataset.pixel_size, task.dataset.data_range) == ((128, 128), 1.0, 1.0)
    assert psnr_of_direct(task, [0]) == pytest.approx([19.75], abs=0.3)
    assert any("inverse crime" in label for label in task.description["dataset_labels"])


def test_the_noise_of_learned_primal_dual_is_a_share_of_the_mean() -> None:
    task = OpenTask(load_suite("lpd-ellipses", ["data.ellipses.test=3"]), "fresh-phantoms")
    test = task.simulated("test")
    for i in range(3):
        clean = task.physics.A(test.truth(i)[None])[0]
        noise = test.measurement(i) - clean
        assert float(noise.std() / clean.abs().mean()) == pytest.approx(0.05, rel=0.05)
    assert float(test.truth(0).min()) < 0  # phantoms are not normalised


def test_one_fit_serves_the_papers_image_and_fresh_phantoms(tmp_path: Path, no_pictures: None) -> None:
    changes = ("train=2", "validation=1", "test=1")
    loaded = small(
        "lpd-ellipses",
        *(f"data.ellipses.{change}" for change in changes),
        "methods.unet.widths=[4, 8]",
        "methods.tv.tol=0.1",
        "methods.tv.tuning.budget=2",
    )
    outcome = run_suite(loaded, tmp_path)
    assert (outcome.done, outcome.failed) == (16, ())
    fits = {path.parent.name.rsplit("-", 2)[0] for path in (tmp_path / "cells").glob("fresh-phantoms/*/fitted")}
    assert fits - {"direct"} == NETWORKS | {"tv"}
    assert len(list((tmp_path / "cells").glob("shepp-logan/*/fitted"))) == 1  # direct, which has nothing to fit
    for method in fits:
        one, other = (
            json.loads(next((tmp_path / "cells" / task).glob(f"{method}-0-*/fit.json")).read_text())
            for task in loaded.suite.tasks
        )
        assert one == other
    task = json.loads((tmp_path / "tasks" / "shepp-logan" / "task.json").read_text())
    assert [row["psnr"] for row in task["published"]] == [19.75, 28.06, 29.20, 32.38, 32.29, 28.32, 36.97, 38.28]
    parameters = {
        path.parent.name.rsplit("-", 2)[0]: json.loads(path.read_text())["parameters"]
        for path in (tmp_path / "cells" / "shepp-logan").glob("*/status.json")
    }
    for row in task["published"]:
        if row["method"] in NETWORKS - {"unet", "learned-pdhg"}:
            assert parameters[row["method"]] == pytest.approx(row["parameters"], rel=0.12)
    assert {row["image"] for row in read_csv(tmp_path / "results.csv")} == {
        "shepp-logan-test-0000",
        "ellipses-test-0000",
    }
