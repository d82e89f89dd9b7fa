"""Runs: what a folder holds, and that it ends with the same numbers whatever happens on the way."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from isocenter.benchmarks import packaged
from isocenter.benchmarks.run_folder import RunFolder
from isocenter.benchmarks.runner import Outcome, run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.yaml_lines import SuiteError


def run(suite: Path, *overrides: str, out: str = "run", **options) -> Outcome:
    return run_suite(load_suite(suite, overrides), suite.parent / out, **options)


def results(folder: Path) -> list[dict[str, str]]:
    """The rows of results.csv without times."""
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def fits(suite: Path) -> list[str]:
    log = suite.parent / "log"
    return log.read_text().splitlines() if log.exists() else []


def cell(folder: Path, task: str, method: str) -> Path:
    (found,) = (folder / "cells" / task).glob(f"{method}-*")
    return found


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def test_results_are_those_of_the_stored_images(suite):
    outcome = run(suite)
    assert (outcome.done, outcome.failed) == (6, ())
    folder = suite.parent / "run"
    rows = results(folder)
    assert len(rows) == 2 * (1 + 2) * 3
    measures = ["psnr", "ssim", "rmse", "nrmse", "haarpsi", "rmse_hu"]
    assert list(rows[0]) == ["task", "method", "seed", "image", "patient", *measures]
    for row in rows:
        name = f"{row['method']}-{row['seed']}"
        with h5py.File(cell(folder, row["task"], name) / "reconstructions.h5") as file:
            index = list(file["reconstruction"].attrs["images"]).index(row["image"])
            x = file["reconstruction"][index]
        with h5py.File(folder / "tasks" / row["task"] / "measurements.h5") as file:
            truth = file["test/truth"][index]
        assert float(row["psnr"]) == pytest.approx(-10 * np.log10(np.mean((x - truth) ** 2)), abs=1e-4)


def test_the_noise_is_the_one_asked_for_and_every_method_gets_the_same(suite):
    run(suite, "data.test=20")
    folder = suite.parent / "run"
    with h5py.File(folder / "tasks" / "denoising" / "measurements.h5") as file:
        noise = file["test/measurement"][:] - file["test/truth"][:]
        measurement = file["test/measurement"][:]
    assert noise.std() == pytest.approx(0.1, rel=0.05)
    with h5py.File(cell(folder, "denoising", "direct-0") / "reconstructions.h5") as file:
        direct = file["reconstruction"][:]
    with h5py.File(cell(folder, "denoising", "scale-0") / "reconstructions.h5") as file:
        scaled = file["reconstruction"][:]
    fit = json.loads((cell(folder, "denoising", "scale-0") / "fit.json").read_text())
    assert np.allclose(direct, measurement, atol=1e-6)
    assert np.allclose(scaled, fit["chosen"]["factor"] * measurement, atol=1e-6)


def test_a_test_image_does_not_depend_on_the_others(suite):
    run(suite)
    run(suite, "data.test=2", out="fewer")
    few = results(suite.parent / "fewer")
    many = results(suite.parent / "run")
    assert few == [row for row in many if row["image"] in {"test-0", "test-1"}]


def test_a_run_folder_holds_what_the_report_needs(suite):
    run(suite, "methods.scale.trouble=warns", command=["isocenter", "run"])
    folder = suite.parent / "run"
    task = json.loads((folder / "tasks" / "denoising" / "task.json").read_text())
    assert task["images"] == ["test-0", "test-1", "test-2"]
    assert task["dataset_labels"] == ["discs"]
    assert task["reference"] == "direct"
    assert task["noise"] == "gaussian, sigma 0.1"
    spec = json.loads((cell(folder, "denoising", "scale-1") / "spec.json").read_text())
    assert spec == {
        "task": "denoising", "method": "scale", "label": "Scaled", "seed": 1, "kind": "scale", "group": "learned",
        "identity": spec["identity"],
    }  # fmt: skip
    assert spec["identity"]["method"] == {"kind": "scale", "trouble": "warns", "budget": 1, "train_on": []}
    assert spec["identity"]["task"]["noise"] == {"kind": "gaussian", "sigma": 0.1, "relative": None}
    state = status(cell(folder, "denoising", "scale-1"))
    assert state["state"] == "done"
    assert len(state["warnings"]) == 1
    assert state["warnings"][0].endswith("(and 2 more like it)")
    assert state["parameters"] == 1
    assert state["peak_memory_mb"] > 50
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["command"] == "isocenter run"
    assert {"torch", "deepinv", "numpy", "isocenter"} <= set(environment["versions"])
    plugin = suite.parent / "plugin.py"
    assert environment["plugins"] == {str(plugin): f"sha256 {hashlib.sha256(plugin.read_bytes()).hexdigest()}"}
    own = state["environment"]
    assert own == {key: environment[key] for key in own}  # a cell's own, whatever the run is gone on with
    assert {"source", "git", "versions", "cpu", "threads"} <= set(own)
    assert load_suite(folder).suite.seed == 3
    assert "denoising · Scaled seed 1" in (folder / "log.txt").read_text()


def test_running_again_computes_nothing(suite):
    run(suite)
    before = results(suite.parent / "run"), fits(suite)
    assert len(fits(suite)) == 4
    assert run(suite).done == 6
    assert (results(suite.parent / "run"), fits(suite)) == before


def test_an_interrupted_run_ends_with_the_same_numbers(suite):
    run(suite, out="whole")
    fitted = len(fits(suite))
    with pytest.raises(KeyboardInterrupt):
        run(suite, "methods.scale.trouble=interrupt")
    folder = suite.parent / "run"
    assert status(cell(folder, "denoising", "direct-0"))["state"] == "done"
    assert not (cell(folder, "denoising", "scale-0") / "status.json").exists()
    assert run(suite, "methods.scale.trouble=interrupt").done == 6
    assert results(folder) == results(suite.parent / "whole")
    # The fit that the interrupt left behind was used: four fits for four cells.
    assert len(fits(suite)) == fitted + 4


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("raises", "RuntimeError: the <b>method</b>\nbroke"),
        ("nan", "NotFiniteError: the reconstruction of test-0 holds 256 values"),
        ("shape", "ValueError: the reconstruction of test-0 is (1, 1, 16, 15)"),
    ],
)
def test_a_failed_cell_is_written_down_and_the_others_go_on(suite, trouble, message):
    outcome = run(suite, f"methods.scale.trouble={trouble}", "methods.scale.seeds=[0]")
    assert outcome.done == 2
    assert outcome.failed == ("denoising · Scaled", "inpainting · Scaled")
    state = status(cell(suite.parent / "run", "denoising", "scale-0"))
    assert state["state"] == "failed"
    assert state["error"].startswith(message)
    assert "Traceback" in state["traceback"]
    assert {row["method"] for row in results(suite.parent / "run")} == {"direct"}
    # Mended, it runs again.
    assert run(suite, "methods.scale.seeds=[0]").done == 4


def test_measurements_that_cannot_be_simulated_fail_their_task_only(suite):
    plugin = suite.parent / "plugin.py"
    plugin.write_text(
        plugin.read_text().replace("def disc(radius, size):", "def disc(radius, size):\n    return np.zeros((3, 3))\n")
    )
    outcome = run(suite)
    assert outcome.done == 0
    assert len(outcome.failed) == 6
    assert "the fine grid is" in status(cell(suite.parent / "run", "denoising", "direct-0"))["error"]


@pytest.mark.parametrize("damage", ["metrics.csv", "reconstructions.h5", "status.json", "measurements", "task", "cell"])
def test_what_is_removed_or_damaged_is_computed_again_to_the_same_numbers(suite, damage):
    run(suite)
    folder = suite.parent / "run"
    before = results(folder)
    victim = cell(folder, "denoising", "scale-1")
    if damage == "measurements":
        (folder / "tasks" / "denoising" / "measurements.h5").write_bytes(b"damaged")
        shutil.rmtree(victim)
    elif damage == "task":
        shutil.rmtree(folder / "tasks")
        shutil.rmtree(victim)
    elif damage == "cell":
        shutil.rmtree(victim)
    elif damage == "status.json":
        (victim / damage).write_text("{ half a sta")
    else:
        (victim / damage).unlink()
    assert run(suite).done == 6
    assert results(folder) == before


def test_a_changed_suite_computes_what_changed_and_keeps_the_rest(suite):
    run(suite)
    folder = suite.parent / "run"
    direct, scaled = cell(folder, "denoising", "direct-0"), cell(folder, "denoising", "scale-0")
    times = {path: (path / "status.json").stat().st_mtime_ns for path in (direct, scaled)}
    run(suite, "methods.scale.budget=2")
    assert (direct / "status.json").stat().st_mtime_ns == times[direct]
    assert cell(folder, "denoising", "scale-0") != scaled
    assert (folder / "stale" / "cells" / "denoising" / scaled.name).is_dir()
    run(suite)  # and back: nothing is computed
    assert (scaled / "status.json").stat().st_mtime_ns == times[scaled]
    noisier = run(suite, "tasks.denoising.noise.sigma=0.2")
    assert noisier.done == 6
    rows = [row for row in results(folder) if row["method"] == "direct" and row["task"] == "denoising"]
    assert np.mean([float(row["psnr"]) for row in rows]) == pytest.approx(14, abs=0.7)


def test_a_changed_plugin_changes_every_key(suite):
    run(suite)
    names = {path.name for path in (suite.parent / "run" / "cells" / "denoising").iterdir()}
    plugin = suite.parent / "plugin.py"
    plugin.write_text(plugin.read_text() + "\n# another version\n")
    run(suite)
    assert names.isdisjoint(path.name for path in (suite.parent / "run" / "cells" / "denoising").iterdir())


def test_some_methods_and_tasks_only(suite):
    run(suite, methods=["direct"], tasks=["inpainting"])
    assert {(row["task"], row["method"]) for row in results(suite.parent / "run")} == {("inpainting", "direct")}
    run(suite, methods=["scale"])
    assert len({(row["task"], row["method"]) for row in results(suite.parent / "run")}) == 3
    with pytest.raises(SuiteError, match="--methods dirct: the suite has none of this name, did you mean 'direct'"):
        run(suite, methods=["dirct"])


def test_words_of_the_suite_that_change_reach_the_report(suite):
    run(suite)
    folder = suite.parent / "run"
    fitted = len(fits(suite))
    run(suite, "reference=scale", "tasks.denoising.title=Noise", "methods.scale.label=Times", "tasks.*.labels=[new]")
    assert len(fits(suite)) == fitted
    task = json.loads((folder / "tasks" / "denoising" / "task.json").read_text())
    assert (task["reference"], task["title"], task["dataset_labels"][-1]) == ("scale", "Noise", "new")
    spec = json.loads((cell(folder, "inpainting", "scale-1") / "spec.json").read_text())
    assert (spec["label"], spec["group"]) == ("Times", "learned")


def test_a_fit_on_another_task_is_made_once_and_belongs_to_that_task(suite):
    suite.write_text(suite.read_text().replace("seen: 0.5}", "seen: 0.5}\n    fitted_on: denoising"))
    folder = suite.parent / "run"
    run(suite, tasks=["inpainting"])
    assert fits(suite) == ["fit scale 0", "fit scale 1"]
    run(suite)
    assert len(fits(suite)) == 2
    own, used = (cell(folder, task, "scale-0") for task in ("denoising", "inpainting"))
    assert (own / "fitted").is_dir()
    assert not (used / "fitted").exists()
    assert (own / "fit.json").read_text() == (used / "fit.json").read_text()
    run(suite, "tasks.denoising.noise.sigma=0.2")  # another fit there is another result here
    assert len(fits(suite)) == 4
    assert cell(folder, "inpainting", "scale-0").name != used.name


def test_clipped_reconstructions_are_judged_as_clipped(suite):
    run(suite, "tasks.denoising.clip=[0, 1]", methods=["direct"], tasks=["denoising"])
    folder = suite.parent / "run"
    with h5py.File(cell(folder, "denoising", "direct") / "reconstructions.h5") as file:
        x = file["reconstruction"][0]
    with h5py.File(folder / "tasks" / "denoising" / "measurements.h5") as file:
        truth = file["test/truth"][0]
    assert x.min() < 0
    expected = -10 * np.log10(np.mean((x.clip(0, 1) - truth) ** 2))
    assert float(results(folder)[0]["psnr"]) == pytest.approx(expected, abs=1e-4)
    task = json.loads((folder / "tasks" / "denoising" / "task.json").read_text())
    assert task["dataset_labels"][-1] == "judged after clipping to 0 … 1"


def test_an_old_failure_of_a_cell_that_was_not_asked_for_is_none_of_this_run(suite):
    assert len(run(suite, "methods.scale.trouble=raises").failed) == 4
    assert run(suite, "methods.scale.trouble=raises", methods=["direct"]).failed == ()
    outcome = run(suite, "methods.scale.trouble=raises", methods=["scale"], tasks=["denoising"])
    assert outcome.failed == ("denoising · Scaled seed 0", "denoising · Scaled seed 1")


def test_a_second_run_on_the_folder_stops(suite):
    with RunFolder(suite.parent / "run").locked(), pytest.raises(SuiteError, match="is running here; wait for it"):
        run(suite)
    assert run(suite).done == 6  # the lock is gone with its holder


def test_a_report_that_fails_keeps_the_results(suite, monkeypatch):
    from isocenter.benchmarks import report

    def fails(_: Path) -> Path:
        raise RuntimeError("no ink")

    monkeypatch.setattr(report, "write_report", fails)
    outcome = run(suite)
    assert outcome.failed == ("report",)
    assert len(results(suite.parent / "run")) == 18


class TestPackagedWeights:
    """Fits that come with the package are used for the task that they belong to, and for no other."""

    @pytest.fixture(autouse=True)
    def _packaged(self, suite, monkeypatch):
        monkeypatch.setattr(packaged, "FOLDER", suite.parent / "weights")
        run(suite, out="trained")
        assert len(packaged.package(suite.parent / "trained")) == 4
        (suite.parent / "log").unlink()

    def test_they_are_loaded_instead_of_training(self, suite):
        run(suite)
        assert fits(suite) == []
        assert results(suite.parent / "run") == results(suite.parent / "trained")
        fit = json.loads((cell(suite.parent / "run", "denoising", "scale-0") / "fit.json").read_text())
        assert fit["budget"] == "fitted before: one number"
        assert fit["seconds"] == 0.5

    def test_a_suite_of_another_name_finds_them(self, suite):
        file = suite.parent / "mine.yaml"
        file.write_text("extends: small.yaml\nmethods: {direct: null}\nreference: null\n")
        assert run(file).done == 4
        assert fits(suite) == []

    def test_other_test_images_may_be_asked_for(self, suite):
        run(suite, "data.test=1")
        assert fits(suite) == []

    @pytest.mark.parametrize("change", ["data.train=3", "tasks.*.noise={kind: gaussian, sigma: 0.2}", "seed=4"])
    def test_another_task_trains(self, suite, change):
        run(suite, change)
        assert len(fits(suite)) == 4

    def test_another_plugin_trains(self, suite):
        plugin = suite.parent / "plugin.py"
        plugin.write_text(plugin.read_text() + "\n# another version\n")
        run(suite)
        assert len(fits(suite)) == 4

    def test_they_can_be_trained_again(self, suite):
        run(suite, retrain=True)
        assert len(fits(suite)) == 4

    def test_packaging_a_run_that_loaded_them_keeps_them(self, suite):
        before = {path: path.read_bytes() for path in packaged.FOLDER.rglob("*") if path.is_file()}
        run(suite)
        with pytest.raises(ValueError, match="run the suite with --retrain first"):
            packaged.package(suite.parent / "run")
        assert {path: path.read_bytes() for path in packaged.FOLDER.rglob("*") if path.is_file()} == before

    def test_packaged_files_are_readable_by_all(self, suite):
        for fitted in (suite.parent / "trained").rglob("factor.json"):
            fitted.chmod(0o600)
        packaged.package(suite.parent / "trained")
        files = [path for path in packaged.FOLDER.rglob("*") if path.is_file()]
        assert {path.name for path in files} == {"factor.json", "card.json"}
        assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
        assert not list(packaged.FOLDER.rglob("*.partial"))

    def test_a_folder_of_weights_can_be_named(self, suite):
        run(suite, "data.train=3", "methods.scale.weights=weights/small/denoising/scale-1", "methods.scale.seeds=[0]")
        assert fits(suite) == []
