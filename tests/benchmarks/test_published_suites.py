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
from isocenter.benchmarks.schema import LoadedSuite, built_in_suites, load_suite
from isocenter.benchmarks.tasks import OpenTask
from isocenter.benchmarks.trained_then_tuned_specs import HybridSpec
from isocenter.unrolled import training

NETWORKS = {"unet", "dncnn", "learned-gradient", "learned-pdhg", "learned-primal", "learned-primal-dual", "hybrid"}
HYBRID = ("stages=1", "widths=[4, 8]", "sparse_stages=1")
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


@pytest.mark.parametrize("suite", sorted(built_in_suites()))
def test_no_hybrid_has_more_than_three_hundred_thousand_parameters(suite: str) -> None:
    for method in load_suite(suite).suite.methods:
        if isinstance(method, HybridSpec):
            assert sum(weight.numel() for weight in method.network(1).parameters()) <= 300_000


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
        *(f"methods.hybrid.{change}" for change in HYBRID),
    )
    outcome = run_suite(loaded, tmp_path)
    assert (outcome.done, outcome.failed) == (18, ())
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
        if row["method"] in NETWORKS - {"unet", "learned-pdhg", "hybrid"}:
            assert parameters[row["method"]] == pytest.approx(row["parameters"], rel=0.12)
    assert {row["image"] for row in read_csv(tmp_path / "results.csv")} == {
        "shepp-logan-test-0000",
        "ellipses-test-0000",
    }


@pytest.mark.parametrize(("suite", "size"), [("do-cnns-solve-ct", 128), ("do-cnns-solve-ct-256", 256)])
def test_the_scan_of_breasts_has_the_undersampling_of_the_paper(suite: str, size: int) -> None:
    """A quarter as many views as pixels and twice as many elements, which see the disc of 18 cm and nothing beside."""
    loaded = load_suite(suite)
    for name in loaded.suite.tasks:
        task = OpenTask(loaded, name)
        geometry = task.physics.geometry
        assert geometry.angles == pytest.approx(2 * np.pi * np.arange(size // 4) / (size // 4))
        assert (geometry.source_axis, geometry.source_detector) == (500, 1000)
        ends = geometry.detector_coordinates()[[0, -1]] + geometry.spacing / 2 * np.array([-1, 1])
        assert 500 * np.sin(np.arctan(ends / 1000)) == pytest.approx([-90, 90])
        assert len(geometry.detector_coordinates()) == 2 * size
        assert task.dataset.shape == (size, size)
        assert size * task.dataset.pixel_size == pytest.approx(180)
        assert task.description["metric"] == "rmse"
    gradients = {}
    for name in ("sharp", "blurred"):
        test = OpenTask(loaded, name).simulated("test")
        image = test.truth(0)[0]
        assert float(image.max()) > 0.0233  # specks
        rows, columns = image.diff(dim=0)[:, :-1], image.diff(dim=1)[:-1]
        gradients[name] = int(((rows.abs() + columns.abs()) > 1e-6).sum())
    assert gradients["blurred"] > 2 * gradients["sharp"]


@pytest.mark.filterwarnings("ignore::isocenter.baselines.ConvergenceWarning")
def test_exact_measurements_of_breasts_are_solved_by_constrained_total_variation() -> None:
    """To 1e-6 / cm in single precision, after 200 iterations; FBP is five orders away."""
    loaded = load_suite("do-cnns-solve-ct", ["data.sharp.test=1", "methods.constrained-tv.max_iter=200"])
    task = OpenTask(loaded, "sharp")
    test = task.simulated("test")
    (spec,) = [m for m in loaded.suite.methods_of("sharp") if m.key == "constrained-tv"]
    x = spec.build(0).reconstruct(test.measurement(0)[None], task.physics)
    assert 10 * float((x[0] - test.truth(0)).square().mean().sqrt()) < 1e-6


def test_the_question_runs_from_fbp_to_itnet(tmp_path: Path, no_pictures: None) -> None:
    loaded = small(
        "do-cnns-solve-ct",
        "data.*.train=1",
        "data.*.validation=1",
        "data.*.test=1",
        "methods.constrained-tv.max_iter=2",
        "methods.discrepancy-tv.max_iter=2",
        "methods.reweighted-tv.max_iter=2",
        "methods.reweighted-tv.tuning.budget=1",
        "methods.exact-hybrid.max_iter=2",
        "methods.exact-hybrid.tuning.budget=1",
        "methods.discrepancy-tv.tuning.budget=1",
        "methods.unet.widths=[4, 8]",
        "methods.itnet.widths=[4, 8]",
        "methods.learned-primal-dual.iterations=2",
        *(f"methods.{name}.{change}" for name in ("hybrid", "exact-hybrid") for change in HYBRID),
    )
    outcome = run_suite(loaded, tmp_path, tasks=["sharp", "noisy"])
    assert (outcome.done, outcome.failed) == (14, ())


@pytest.fixture
def mri(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER_MIRROR", str(shared_data))


def test_the_masks_of_the_ladder_are_the_published_ones(mri: None) -> None:
    loaded = load_suite("csmri-ladder")
    for rate in (10, 20, 30, 40, 50):
        task = loaded.suite.tasks[f"chest-{rate}"]
        mask = task.physics.build((256, 256), 1.0).mask
        assert float(mask.float().mean()) == pytest.approx(rate / 100, abs=0.0025)
        assert mask[128, 128]
        assert task.physics == loaded.suite.tasks[f"brain-{rate}"].physics
        assert loaded.suite.tasks[f"brain-{rate}"].fitted_on == f"chest-{rate}"
        assert (task.clip, task.noise.kind, task.sweep) == ((0, 1), "none", {"sampled": rate / 100})


def test_the_ladder_is_fitted_on_chests_and_applied_to_brains(tmp_path: Path, mri: None, no_pictures: None) -> None:
    loaded = small(
        "csmri-ladder",
        "data.chest.train=1",
        "data.chest.validation=1",
        "data.*.test=1",
        "data.brain.files=[patient19_study1_FLAIR.nii.gz, patient20_study2_T1W.nii.gz]",
        "data.brain.split.test=['19', '20']",
        "methods.tv.max_iter=2",
        "methods.tv.tuning.budget=1",
        "methods.wavelet.max_iter=2",
        "methods.wavelet.tuning.budget=1",
        "methods.admm-net.stages=1",
        "methods.admm-csnet.stages=1",
        "methods.admm-csnet.features=4",
        "methods.ista-net-plus.phases=1",
        "methods.ista-net-plus.width=4",
        *(f"methods.hybrid.{change}" for change in HYBRID),
    )
    outcome = run_suite(loaded, tmp_path, tasks=["brain-20", "chest-20"])
    assert (outcome.done, outcome.failed) == (14, ())
    chest = OpenTask(loaded, "chest-20")
    assert [len(set(chest.dataset.splits[split])) for split in ("train", "validation", "test")] == [1, 1, 1]
    brain = OpenTask(loaded, "brain-20")
    assert any("cross-domain" in label for label in brain.description["dataset_labels"])
    assert float(brain.simulated("test").truth(0).max()) <= 1
    task = json.loads((tmp_path / "tasks" / "chest-20" / "task.json").read_text())
    assert [row["psnr"] for row in task["published"]] == [37.17, 38.73]


def test_the_splits_of_the_chest_images_are_contiguous_blocks(mri: None) -> None:
    splits = OpenTask(load_suite("csmri-ladder"), "chest-20").dataset.splits
    numbers = {name: [int(s.patient.removeprefix("im-").removesuffix(".mat")) for s in splits[name]] for name in splits}
    assert numbers["train"] == list(range(1, 71))
    assert numbers["validation"] == list(range(71, 81))
    assert numbers["test"] == list(range(81, 101))


TINY = (
    "methods.tv.max_iter=2",
    "methods.tv.tuning.budget=1",
    "methods.unet.widths=[4, 8]",
    "methods.learned-primal-dual.iterations=1",
    "methods.e2e-varnet.cascades=1",
    "methods.e2e-varnet.widths=[4, 8]",
    *(f"methods.hybrid.{change}" for change in HYBRID),
)
BRAINS = (  # two of the volumes, at a size that computes in no time
    "data.files=[patient01_study1_FLAIR.nii.gz, patient12_study1_T1W.nii.gz, patient19_study1_FLAIR.nii.gz]",
    "data.split={kind: patients, train: ['01'], validation: ['12'], test: ['19']}",
    "data.validation=1",
    "data.test=1",
)


def test_learning_from_few_images_gets_as_many_steps_as_from_many(tmp_path: Path, mri: None, no_pictures: None) -> None:
    tasks = load_suite("data-efficiency").suite.tasks
    assert [task.sweep["data.train"] for task in tasks.values()] == [1, 3, 10, 30, 100]
    loaded = small("data-efficiency", *TINY, *BRAINS, "methods.unet.training.batch=2", "methods.unet.seeds=[0, 1]")
    sizes = ["reconstruction-train-1", "reconstruction-train-3"]
    outcome = run_suite(loaded, tmp_path, tasks=sizes, methods=["direct", "tv", "unet"])
    assert (outcome.done, outcome.failed) == (8, ())
    for size, count in zip(sizes, (1, 3), strict=True):
        cards = list((tmp_path / "cells" / size).glob("unet-*/fitted/weights.json"))
        assert len(cards) == 2
        for card in cards:
            found = json.loads(card.read_text())
            assert found["data"]["training_images"] == count
            assert (found["training"]["steps"], found["training"]["batch"]) == (1, 2)
    psnr = {(row["task"], row["psnr"]) for row in read_csv(tmp_path / "results.csv") if row["method"] == "tv"}
    assert len({value for _, value in psnr}) == 1  # it learns from no image, and is tested on the same ones


def test_shifted_scans_use_the_fit_of_the_nominal_one(tmp_path: Path, mri: None, no_pictures: None) -> None:
    loaded = small("robustness", *TINY, *BRAINS, "data.train=1", "tasks.reconstruction.attack={steps: 1, images: 1}")
    nominal = [name for name, task in loaded.suite.tasks.items() if task.fitted_on is None]
    assert nominal == ["reconstruction", "deconvolution"]
    assert all(loaded.suite.tasks[name].attack is not None for name in nominal)
    swept = {path for task in loaded.suite.tasks.values() for path in task.sweep}
    assert swept == {"noise.sigma", "physics.mask.acceleration", "physics.mask", "physics.psf.sigma", "physics.psf"}
    chosen = ["reconstruction", "reconstruction-noise-sigma-0.04", "reconstruction-mask-mask-pseudo-radial"]
    outcome = run_suite(loaded, tmp_path, tasks=chosen)
    assert (outcome.done, outcome.failed) == (len(chosen) * len(loaded.suite.methods), ())
    for method in ("tv", "unet", "e2e-varnet", "hybrid"):
        fits = [json.loads(next((tmp_path / "cells" / t).glob(f"{method}-0-*/fit.json")).read_text()) for t in chosen]
        assert fits[0] == fits[1] == fits[2]
    attacks = read_csv(tmp_path / "attack.csv")
    assert {row["task"] for row in attacks} == {"reconstruction"}
    attacked = {row["method"] for row in attacks if row["perturbation"] == "worst"}
    assert attacked == {m.key for m in loaded.suite.methods}


def test_nominal_scans_are_those_of_the_suite_of_real_images(mri: None) -> None:
    """So that its networks, which come with the package, serve both."""
    shifts, real = load_suite("robustness"), load_suite("real-mri")
    for task in ("reconstruction", "deconvolution"):
        for method in ("unet", "admm-net", "e2e-varnet", "learned-primal-dual", "hybrid"):
            here, there = (
                OpenTask(suite, task).training_identity(next(m for m in suite.suite.methods if m.key == method), 0)
                for suite in (shifts, real)
            )
            assert here == there
