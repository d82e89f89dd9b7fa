"""Suites of complex images: several coils and one, from a phase that is simulated and from raw k-space."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from isocenter.benchmarks import report
from isocenter.benchmarks.runner import run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.benchmarks.tasks import OpenTask
from isocenter.benchmarks.yaml_lines import SuiteError
from isocenter.physics import FourierSampling, MultiCoilSampling
from isocenter.physics.coil_maps import simulated_coil_maps

PHANTOMS = "{kind: phantoms, family: shepp-logan, size: 24, train: 0, validation: 0, test: 1%s}"
COMPLEX = PHANTOMS % ", complex: {kind: simulated-phase}"
MASK = "mask: {kind: uniform, acceleration: 2, calibration_lines: 10}"
COILS = f"kind: multicoil, {MASK}, coil_maps: {{kind: simulated, coils: 4}}"
CRIME = "data crime: k-space is simulated from "


def write(folder: Path, data: str, *physics: str, methods: str = "[{kind: direct}]") -> Path:
    path = folder / "c.yaml"
    noise = "noise: {kind: gaussian, sigma: 0.02}"
    tasks = "".join(f"  t{i}: {{physics: {{{p}}}, {noise}}}\n" for i, p in enumerate(physics))
    path.write_text(f"name: c\ndata: {data}\nmethods: {methods}\ntasks:\n{tasks}")
    return path


@pytest.mark.parametrize("method", ["tikhonov", "tv"])
def test_a_suite_of_coils_runs_from_phantom_to_report(tmp_path: Path, method) -> None:
    data = "{kind: phantoms, family: dival-ellipses, size: 24, train: 0, validation: 1, test: 2, "
    data += "complex: {kind: simulated-phase, seed: 2}}"
    path = write(tmp_path, data, COILS, methods=f"[{{kind: direct}}, {{kind: {method}, tuning: {{budget: 4}}}}]")
    outcome = run_suite(load_suite(path), tmp_path / "run")
    assert (outcome.done, outcome.failed) == (2, ())
    rows = list(csv.DictReader((tmp_path / "run" / "results.csv").open()))
    psnr = {name: [float(r["psnr"]) for r in rows if r["method"] == name] for name in ("direct", method)}
    assert all(x > direct for x, direct in zip(psnr[method], psnr["direct"], strict=True))

    (cell,) = (tmp_path / "run" / "cells" / "t0").glob("direct-*")
    with h5py.File(cell / "reconstructions.h5") as file:
        x = file["reconstruction"][0]
    with h5py.File(tmp_path / "run" / "tasks" / "t0" / "measurements.h5") as file:
        truth, y = file["test/truth"][0], file["test/measurement"][0]
    error = np.hypot(*x) - np.hypot(*truth)  # of magnitudes
    assert psnr["direct"][0] == pytest.approx(-10 * np.log10(np.mean(error**2)), abs=1e-3)
    physics = OpenTask(load_suite(path), "t0").physics
    assert isinstance(physics, MultiCoilSampling)
    noise = (torch.from_numpy(y) - physics.A(torch.from_numpy(truth)[None])[0])[:, :, physics.mask]
    assert float(noise.std()) == pytest.approx(0.02, rel=0.1)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "magnitude images with a simulated smooth phase" in page
    assert "k-space is simulated from images and 4 simulated coils" in page


@pytest.mark.parametrize(
    ("physics", "labels"),
    [
        (COILS, [f"{CRIME}images and 4 simulated coils"]),
        (f"kind: fourier, {MASK}", [f"{CRIME}complex images"]),
        ("kind: downsample, factor: 2, low_pass: kspace", ["inverse crime", f"{CRIME}complex images"]),
        ("kind: blur, psf: {kind: gaussian, sigma: 1}", ["inverse crime"]),
        ("kind: inpaint, seen: 0.5", ["inverse crime"]),
        ("kind: identity", []),
    ],
)
def test_operators_of_images_take_complex_ones_and_say_what_is_simulated(tmp_path, physics, labels) -> None:
    task = OpenTask(load_suite(write(tmp_path, COMPLEX, physics)), "t0")
    assert task.physics.domain == (2, 24, 24)
    found = task.spec.physics.labels(task.dataset)
    assert all(label.startswith(start) for label, start in zip(found, labels, strict=True))
    image = task.simulated("test").truth(0)
    x = task.physics.A(
        torch.stack((image, torch.stack((-image[1], image[0]))))
    )  # linear in complex numbers: A ix = iAx
    torch.testing.assert_close(x[1], torch.stack((-x[0][1], x[0][0])), atol=1e-5, rtol=0)


def test_one_coil_of_a_complex_image_is_fourier_sampling(tmp_path: Path) -> None:
    task = OpenTask(load_suite(write(tmp_path, COMPLEX, f"kind: fourier, {MASK}")), "t0")
    assert isinstance(task.physics, FourierSampling)
    assert task.physics.norm == 1.0
    real = OpenTask(load_suite(write(tmp_path, PHANTOMS % "", f"kind: fourier, {MASK}")), "t0")
    assert real.physics.domain == (1, 24, 24)


@pytest.mark.parametrize(
    ("data", "physics", "message"),
    [
        (PHANTOMS % "", COILS, "give the data a phase"),
        (COMPLEX, "kind: radon, geometry: {kind: parallel, views: 4}", "line integrals are of real images"),
        (COMPLEX.replace("shepp-logan", "breast"), COILS, "no magnitudes of MR images"),
        (
            COMPLEX,
            f"kind: multicoil, {MASK}, coil_maps: {{kind: file, path: maps.npy}}",
            "maps of .16, 16., the images",
        ),
        (COMPLEX, f"kind: multicoil, {MASK}, coil_maps: {{kind: guessed}}", "unknown kind 'guessed'"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, data, physics, message) -> None:
    np.save(tmp_path / "maps.npy", np.ones((3, 16, 16), dtype="c8"))
    path = write(tmp_path, data, physics)
    with pytest.raises(SuiteError, match=rf"c.yaml:\d+.*{message}"):
        _ = OpenTask(load_suite(path), "t0").physics


def test_maps_come_from_a_file_or_from_its_k_space_and_a_changed_file_is_another_task(tmp_path: Path) -> None:
    maps = simulated_coil_maps((24, 24), 3, seed=5)
    np.save(tmp_path / "maps.npy", torch.complex(maps[0], maps[1]).numpy())
    given = OpenTask(
        load_suite(write(tmp_path, COMPLEX, f"kind: multicoil, {MASK}, coil_maps: {{kind: file, path: maps.npy}}")),
        "t0",
    )
    assert torch.equal(given.physics.coil_maps, maps)
    image = given.simulated("test").truth(0)
    full = MultiCoilSampling(torch.ones(24, 24), maps).A(image[None])[0]
    np.savez(tmp_path / "scan.npz", y=torch.complex(full[0], full[1]).numpy())
    coils = "coil_maps: {kind: estimated, path: scan.npz, key: y, calibration_lines: 16}"
    estimated = OpenTask(load_suite(write(tmp_path, COMPLEX, f"kind: multicoil, {MASK}, {coils}")), "t0")
    overlap = torch.complex(*estimated.physics.coil_maps) * torch.complex(maps[0], -maps[1])
    seen = image.square().sum(0) > 0.01
    assert overlap.sum(0).abs()[seen].min() > 0.98
    before = estimated.key
    np.savez(tmp_path / "scan.npz", y=1.1 * torch.complex(full[0], full[1]).numpy())
    assert OpenTask(load_suite(tmp_path / "c.yaml"), "t0").key != before


def test_raw_k_space_is_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_report", lambda run: run / "report.html")  # figures take seconds
    maps = simulated_coil_maps((32, 32), 3, seed=5)
    axis = torch.linspace(-1, 1, 32)
    disc = (axis[:, None] ** 2 + axis**2 < 0.6) * (1 + 0.2 * torch.cos(9 * axis))
    y = MultiCoilSampling(torch.ones(32, 32), maps).A(torch.stack((disc, 0 * disc))[None])[0]
    np.save(tmp_path / "scan.npy", torch.complex(y[0], y[1]).numpy())
    data = (
        f"{{kind: images, root: {tmp_path}, files: ['*.npy'], split: {{kind: order, test: 1}}, size: 32, "
        "pixel_size: 1, grid: native, intensity: {kind: scaled}, complex: {kind: raw-kspace, calibration_lines: 16}}"
    )
    coils = "coil_maps: {kind: estimated, path: scan.npy, calibration_lines: 16}"
    path = write(tmp_path, data, f"kind: multicoil, {MASK}, {coils}", f"kind: fourier, {MASK}")
    outcome = run_suite(load_suite(path), tmp_path / "run")
    assert (outcome.done, outcome.failed) == (2, ())
    with h5py.File(tmp_path / "run" / "tasks" / "t0" / "measurements.h5") as file:
        truth = np.hypot(*file["test/truth"][0])
    # The whole scan divided by its own 99.5th percentile.
    assert np.corrcoef(truth.ravel(), disc.numpy().ravel())[0, 1] > 0.999
    assert truth.max() == pytest.approx(1, abs=0.05)


def test_a_key_that_is_not_used_leaves_old_fits_valid(tmp_path: Path) -> None:
    plain, phase = (
        load_suite(write(tmp_path, data, "kind: identity")).suite.data["images"] for data in (PHANTOMS % "", COMPLEX)
    )
    assert "complex" not in plain.identity()
    assert "complex" not in plain.training_identity()
    assert phase.training_identity()["complex"] == {"kind": "simulated-phase", "seed": 0}
