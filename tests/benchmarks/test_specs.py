"""What specs say about the numbers that they lead to: labels for readers, and what a fit depends on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from isocenter.benchmarks import packaged
from isocenter.benchmarks.runner import expand, open_tasks
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.tasks import OpenTask
from isocenter.benchmarks.yaml_lines import SuiteError

DATA = "{kind: phantoms, family: ellipses, size: 16, train: 0, validation: 0, test: 1, oversampling: %d}"
SAME = "inverse crime: measurements are simulated by the operator that reconstructs"
GRID = "inverse crime: measurements are simulated on the grid that reconstructs"
CRIME = "data crime: k-space is simulated from magnitude images"
PARALLEL = "kind: radon, geometry: {kind: parallel, views: 4}"
FAN = "kind: radon, geometry: {kind: fan, views: 4, source_axis: 500, source_detector: 900}"


def open_task(folder: Path, data: str, physics: str) -> OpenTask:
    path = folder / "s.yaml"
    path.write_text(f"name: s\ndata: {data}\nmethods: [{{kind: direct}}]\ntasks: {{t: {{physics: {{{physics}}}}}}}\n")
    return OpenTask(load_suite(path), "t")


@pytest.mark.parametrize(
    ("physics", "oversampling", "expected"),
    [
        ("kind: identity", 1, []),
        ("kind: blur, psf: {kind: gaussian, sigma: 1}", 1, [SAME]),
        ("kind: blur, psf: {kind: gaussian, sigma: 1}", 2, [SAME]),
        ("kind: inpaint, seen: 0.5", 1, [SAME]),
        ("kind: downsample, factor: 2", 1, [SAME]),
        ("kind: downsample, factor: 2, low_pass: kspace", 1, [SAME, CRIME]),
        ("kind: fourier, mask: {kind: pseudo-radial, lines: 4}", 1, [CRIME]),
        (PARALLEL, 1, [SAME]),
        (PARALLEL, 2, []),
        (f"{PARALLEL}, simulation_kernel: linear", 1, [SAME]),
        (f"{PARALLEL}, simulation_kernel: line", 1, [GRID]),
        (f"{PARALLEL}, kernel: line, simulation_kernel: line", 1, [SAME]),
        (f"{FAN}, simulation_kernel: line", 1, [SAME]),
        (f"{FAN}, simulation_kernel: strip", 1, [GRID]),
    ],
)
def test_crimes_are_labelled(tmp_path, physics, oversampling, expected):
    task = open_task(tmp_path, DATA % oversampling, physics)
    found = task.spec.physics.labels(task.dataset)
    assert len(found) == len(expected)
    assert all(label.startswith(start) for label, start in zip(found, expected, strict=True))


SPLITS = {
    "hash": ("{kind: hash, test: 0.2}", "{kind: hash, test: 0.4}", False),
    "order": ("{kind: order, test: 1}", "{kind: order, test: 2}", True),
    "patients": ("{kind: patients, test: [a.npy]}", "{kind: patients, test: [b.npy]}", True),
}


def training_identity(folder: Path, split: str) -> dict:
    data = (
        f"{{kind: images, root: {folder}, files: ['*.npy'], split: {split}, "
        "intensity: {kind: scaled}, size: 16, pixel_size: 1}"
    )
    task = open_task(folder, data, "kind: identity")
    return task.training_identity(task.loaded.suite.methods[0], 0)


@pytest.mark.parametrize(("before", "after", "same"), SPLITS.values(), ids=SPLITS)
def test_a_fit_depends_on_the_split_and_on_files(tmp_path, before, after, same):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.ones((16, 16)))
    first = training_identity(tmp_path, before)
    assert (training_identity(tmp_path, after) == first) is same
    np.save(tmp_path / "c.npy", np.zeros((16, 16)))
    assert training_identity(tmp_path, before) != first


def test_a_patient_that_other_data_are_fitted_to_is_not_tested(tmp_path):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.ones((16, 16)))
    images = f"kind: images, root: {tmp_path}, files: ['*.npy'], intensity: {{kind: scaled}}, size: 16, pixel_size: 1"
    splits = ("train: [a.npy], validation: [b.npy], test: [c.npy]", "test: [b.npy]")
    text = "name: s\ndata:\n"
    for name, split in zip(("one", "other"), splits, strict=True):
        text += f"  {name}: {{{images}, grid: native, split: {{kind: patients, {split}}}}}\n"
    text += "methods: [{kind: tv}]\ntasks:\n  t: {data: one, physics: {kind: identity}}\n"
    text += "  u:\n    data: other\n    physics: {kind: identity}\n    fitted_on: t\n"
    (tmp_path / "s.yaml").write_text(text)
    expected = r"s.yaml:11: tasks.u.fitted_on: patient b.npy is tested in u and fitted to in t; split other and one"
    with pytest.raises(SuiteError, match=expected):
        open_tasks(load_suite(tmp_path / "s.yaml"))
    (tmp_path / "s.yaml").write_text(text.replace("test: [b.npy]", "test: [c.npy]"))
    open_tasks(load_suite(tmp_path / "s.yaml"))


def test_packaged_weights_of_the_quickstart_belong_to_it():
    loaded = load_suite("quickstart")
    cells = [cell for group in expand(loaded, open_tasks(loaded)).values() for cell in group]
    networks = [cell for cell in cells if cell.method.needs() == ("train", "validation")]
    assert len(networks) == 9
    assert all(cell.weights is not None and cell.weights.is_relative_to(packaged.FOLDER) for cell in networks)
