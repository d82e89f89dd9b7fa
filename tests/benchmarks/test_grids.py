"""A grid makes several tasks of one, which differ in the values that it names and in nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from isocenter.benchmarks.runner import run_suite
from isocenter.benchmarks.schema import LoadedSuite, load_suite
from isocenter.benchmarks.yaml_lines import SuiteError

SUITE = """\
data:
  torso: {kind: phantoms, family: torso, size: 64, test: 1}
  head: {kind: phantoms, family: head, size: 64, test: 1}
methods:
  - kind: direct
  - {kind: admm-net, train_on: [ct]}
tasks:
  ct:
    title: Sparse views
    data: torso
    physics:
      kind: radon
      geometry: {kind: parallel, views: 40}
    noise: {kind: gaussian, sigma: 0.1}
    grid:
      GRID
  mri:
    data: head
    physics: {kind: fourier, mask: {kind: uniform, acceleration: 2, calibration_lines: 4}}
"""


def write(folder: Path, grid: str) -> Path:
    path = folder / "s.yaml"
    path.write_text(SUITE.replace("GRID", grid.replace("\n", "\n      ")), encoding="utf-8")
    return path


def load(folder: Path, grid: str, *overrides: str) -> LoadedSuite:
    return load_suite(write(folder, grid), overrides)


def test_every_combination_is_a_task(tmp_path):
    suite = load(tmp_path, "physics.geometry.views: [20, 30]\nnoise.sigma: [0, 0.05, 1e-7]").suite
    assert list(suite.tasks) == [
        "ct-views-20-sigma-0", "ct-views-20-sigma-0.05", "ct-views-20-sigma-1e-07",
        "ct-views-30-sigma-0", "ct-views-30-sigma-0.05", "ct-views-30-sigma-1e-07", "mri",
    ]  # fmt: skip
    task = suite.tasks["ct-views-30-sigma-0.05"]
    assert (task.physics.geometry.views, task.noise.sigma, task.data) == (30, 0.05, "torso")
    assert task.title == "Sparse views, views 30, sigma 0.05"
    assert (task.family, task.sweep) == ("ct", {"physics.geometry.views": 30, "noise.sigma": 0.05})
    assert (suite.tasks["mri"].family, suite.tasks["mri"].sweep) == (None, {})
    assert suite.tasks_called("ct") == tuple(suite.tasks)[:-1]
    assert suite.tasks_called("mri") == ("mri",)


def test_the_images_may_vary(tmp_path):
    suite = load(tmp_path, "data.train: [1, 10]\ndata.family: [head, torso]").suite
    task = suite.tasks["ct-train-10-family-head"]
    images = suite.data[task.data]
    assert (task.data, images.train, images.family, images.test) == ("torso-train-10-family-head", 10, "head", 1)
    assert suite.data["torso"].train == 64  # the dataset itself stays
    assert len(suite.data) == 2 + 4
    assert [task.data for task in load(tmp_path, "data: [torso, head]").suite.tasks.values()][:2] == ["torso", "head"]


def test_the_only_dataset_of_a_suite_may_vary(suite):
    loaded = load_suite(suite, ["tasks.denoising.grid={data.train: [1, 2]}"])
    assert {key: spec.train for key, spec in loaded.suite.data.items()} == {
        "images": 4, "images-train-1": 1, "images-train-2": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "names"),
    [
        ("physics.geometry.views: [20]\nphysics.geometry.stop: [1.5]", ["ct-views-20-stop-1.5"]),
        ("noise: [{kind: none}, {kind: poisson, photons: 5}]", ["ct-noise-none", "ct-noise-poisson"]),
        ("noise: [{kind: poisson, photons: 5}, {kind: poisson, photons: 6}]", ["ct-noise-1", "ct-noise-2"]),
        ("data.oversampling: [1]\ndata.size: [64]", ["ct-oversampling-1-size-64"]),
        ("physics.filter: [hann, ram-lak]", ["ct-filter-hann", "ct-filter-ram-lak"]),
        (
            "physics.geometry.kind: [parallel]\nnoise.kind: [gaussian]",
            ["ct-geometry-kind-parallel-noise-kind-gaussian"],
        ),
    ],
)
def test_names_of_tasks_say_what_varies(tmp_path, grid, names):
    assert list(load(tmp_path, grid).suite.tasks)[:-1] == names


def test_a_mapping_stands_in_the_sweep_as_yaml(tmp_path):
    tasks = load(tmp_path, "noise: [{kind: none}, {kind: poisson, photons: 5}]").suite.tasks
    assert [task.sweep for task in tasks.values()][:2] == [
        {"noise": "{kind: none}"},
        {"noise": "{kind: poisson, photons: 5}"},
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("noise.sigma: [0, -1]", "s.yaml:16: tasks.ct-sigma--1.noise.sigma: is -1, expected greater than or equal"),
        ("\nnoise.sigma:\n  - 0\n  - -1", "s.yaml:19: tasks.ct-sigma--1.noise.sigma: is -1"),
        ("noise.sigm: [1, 2]", "s.yaml:16: tasks.ct-sigm-1.noise: unknown key 'sigm', did you mean 'sigma'?"),
        ("physics.geometri.views: [9]", "s.yaml:16: tasks.ct-views-9.physics: unknown key 'geometri', did you mean"),
        ("views: [9]", "s.yaml:16: tasks.ct.grid: a grid varies what is below physics, noise or data, such as"),
        ("noise.sigma: 3", "s.yaml:16: tasks.ct.grid.noise.sigma: is 3, expected a list of values"),
        ("noise.sigma: []", "s.yaml:16: tasks.ct.grid.noise.sigma: is [], expected a list of values"),
        ("noise.sigma: [1, 1.0]", "s.yaml:16: tasks.ct.grid.noise.sigma[1]: 1.0 is given twice"),
        (
            "noise.sigma.x: [1]",
            "s.yaml:16: tasks.ct.grid.noise.sigma.x: noise.sigma is a single value, 0.1, and has no 'x'",
        ),
        ("data.trian: [1]", "s.yaml:16: data.torso-trian-1: unknown key 'trian', did you mean 'train'?"),
        ("{}", "s.yaml:15: tasks.ct.grid: expected paths with lists of values"),
        ("data: [torsi]", "s.yaml:16: tasks.ct-data-torsi.data: no data is called 'torsi', did you mean 'torso'?"),
        (f"data.seed: {list(range(40))}\nnoise.sigma: {list(range(40))}", "it makes more than 1000 tasks"),
    ],
)
def test_mistakes_in_a_grid_name_its_line(tmp_path, grid, message):
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, grid)
    assert message in str(caught.value)
    assert "more after it" not in str(caught.value)


def test_a_name_that_is_taken_is_refused(tmp_path):
    file = write(tmp_path, "noise.sigma: [1]")
    file.write_text(file.read_text() + "  ct-sigma-1: {physics: {kind: identity}}\n")
    with pytest.raises(SuiteError, match=r"s\.yaml:15: tasks\.ct\.grid: it makes a task 'ct-sigma-1', which the suite"):
        load_suite(file)


def test_a_grid_can_be_set(tmp_path):
    grid = "noise.sigma: [0, 1]"
    assert len(load(tmp_path, grid, "tasks.ct.grid.noise.sigma=[1, 2, 3]").suite.tasks) == 4
    assert len(load(tmp_path, grid, "tasks.ct.grid={physics.geometry.views: [1, 2, 3, 4]}").suite.tasks) == 5
    with pytest.raises(SuiteError, match=r"^--set tasks.ct.grid=.*: tasks.ct-views--1.physics.geometry.views: is -1"):
        load(tmp_path, grid, "tasks.ct.grid={physics.geometry.views: [-1]}")


def test_the_resolved_suite_remembers_the_sweep(tmp_path):
    first = load(tmp_path, "data.train: [1, 10]\nphysics.filter: [hann]").suite
    (tmp_path / "again.yaml").write_text(first.dump())
    assert load_suite(tmp_path / "again.yaml").suite.model_dump() == first.model_dump()


def test_a_run_over_a_grid_shares_test_images_and_their_noise(suite):
    loaded = load_suite(suite, ["tasks.denoising.grid={data.train: [1, 4], noise.sigma: [0.1, 0.2]}"])
    folder = suite.parent / "run"
    assert run_suite(loaded, folder, tasks=["denoising"]).done == 4 * 3
    info = json.loads((folder / "tasks" / "denoising-train-4-sigma-0.2" / "task.json").read_text())
    assert info["family"] == "denoising"
    assert info["sweep"] == {"data.train": 4, "noise.sigma": 0.2}

    def noise(name: str) -> np.ndarray:
        with h5py.File(folder / "tasks" / name / "measurements.h5") as file:
            return file["test/measurement"][:] - file["test/truth"][:]

    one = noise("denoising-train-1-sigma-0.1")
    assert np.array_equal(one, noise("denoising-train-4-sigma-0.1"))
    assert np.allclose(2 * one, noise("denoising-train-1-sigma-0.2"), atol=1e-6)
    # What does not belong to the sweep is another task, with noise of its own.
    run_suite(load_suite(suite), suite.parent / "plain", methods=["direct"])
    with h5py.File(suite.parent / "plain" / "tasks" / "denoising" / "measurements.h5") as file:
        assert not np.allclose(one, file["test/measurement"][:] - file["test/truth"][:])

    def factor(name: str) -> float:
        (found,) = (folder / "cells" / name).glob("scale-0-*")
        return json.loads((found / "fit.json").read_text())["chosen"]["factor"]

    assert factor("denoising-train-1-sigma-0.1") != factor("denoising-train-4-sigma-0.1")
