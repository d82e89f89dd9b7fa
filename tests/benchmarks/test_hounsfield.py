"""Errors in Hounsfield units: the field of view of known scans, and numbers that can be said beforehand."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from isocenter.benchmarks import report
from isocenter.benchmarks.hounsfield import field_of_view, rmse_hu
from isocenter.benchmarks.runner import run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.physics import FanBeam, Identity, ParallelBeam, Radon, views

SUITE = """\
name: ct
data: {kind: phantoms, family: torso, size: 64, train: 0, validation: 0, test: 2, attenuation: {kind: hu, water: 0.02}}
methods: [{kind: direct}, {kind: direct, name: again, seeds: [0, 1]}]
tasks:
  cropped:
    methods: [direct]
    physics: {kind: radon, geometry: {kind: parallel, views: 20, detectors: 41}}
  denoising:
    physics: {kind: identity}
    noise: {kind: gaussian, sigma: 0.0004}
"""


def every_view_sees(physics: Radon) -> torch.Tensor:
    """Pixels whose rays from every view fall on the detector, view by view."""
    geometry = physics.geometry
    coordinates = geometry.detector_coordinates()
    low, high = coordinates.min() - geometry.spacing / 2, coordinates.max() + geometry.spacing / 2
    height, width = physics.domain[1:]
    x = (np.arange(width) - (width - 1) / 2) * physics.pixel_size
    y = -(np.arange(height) - (height - 1) / 2)[:, None] * physics.pixel_size
    seen = np.ones((height, width), dtype=bool)
    for angle in geometry.angles:
        t, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        if isinstance(geometry, FanBeam):  # magnified from the source to the detector
            t = t * geometry.source_detector / (geometry.source_axis + along)
        seen &= (low <= t) & (t <= high)
    return torch.from_numpy(seen)


@pytest.mark.parametrize(
    "geometry",
    [
        ParallelBeam(views(400, 0, 2 * math.pi), 31, 1.0),
        ParallelBeam(views(400, 0, 2 * math.pi), 31, 1.5, 4.0),
        FanBeam(views(400, 0, 2 * math.pi), 31, 1.2, 60.0, 90.0),
        FanBeam(views(400, 0, 2 * math.pi), 31, 1.7, 50.0, 90.0, -3.0),
    ],
)
def test_the_field_of_view_is_what_every_view_of_a_full_turn_sees(geometry) -> None:
    physics = Radon(geometry, (40, 33), 1.0)
    found, expected = field_of_view(physics), every_view_sees(physics)
    assert 100 < found.sum() < 40 * 33
    assert (found != expected).sum() <= 8  # views are many, not all: pixels on the circle's edge


def test_nothing_but_a_scan_by_rays_has_an_edge() -> None:
    assert field_of_view(Identity((2, 3))).all()


def test_an_error_of_a_tenth_of_water_is_100_hu_where_it_is_counted() -> None:
    where = torch.tensor([[True, True], [True, False]])
    truth = torch.full((2, 1, 2, 2), 0.02)
    wrong = truth.clone()
    wrong[0, 0, :, 0] += 0.002
    wrong[1, 0, 1, 1] = 7.0  # outside
    expected = torch.tensor([100 * (2 / 3) ** 0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(rmse_hu(wrong, truth, 0.02, where), expected, rtol=1e-5, atol=1e-9)


def test_results_of_ct_carry_it_and_others_leave_it_empty(tmp_path: Path) -> None:
    path = tmp_path / "ct.yaml"
    path.write_text(SUITE)
    run_suite(load_suite(path), tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "results.csv").open()))
    denoising = [float(row["rmse_hu"]) for row in rows if row["task"] == "denoising"]
    assert denoising == pytest.approx([20.0] * 6, rel=0.05)  # σ = 0.0004/mm is 2 % of water
    with h5py.File(tmp_path / "run" / "tasks" / "cropped" / "measurements.h5") as file:
        truth = file["test/truth"][0, 0]
    (cell,) = (tmp_path / "run" / "cells" / "cropped").glob("direct-*")
    with h5py.File(cell / "reconstructions.h5") as file:
        error = file["reconstruction"][0, 0] - truth
    axis = np.arange(64) - 31.5
    inside = np.hypot(axis[:, None], axis) <= 20.5
    row = next(row for row in rows if (row["task"], row["method"]) == ("cropped", "direct"))
    assert float(row["rmse_hu"]) == pytest.approx(1000 / 0.02 * np.sqrt((error[inside] ** 2).mean()), rel=1e-4)
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("RMSE [HU]") == 2
    assert page.count("standard deviation of the mean PSNR over training seeds") == 1  # of the task with two


def test_images_without_a_unit_have_no_error_in_hu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_report", lambda run: run / "report.html")  # figures take seconds
    path = tmp_path / "mr.yaml"
    path.write_text(
        SUITE.replace("family: torso", "family: head").replace(", attenuation: {kind: hu, water: 0.02}", "")
    )
    run_suite(load_suite(path, ["tasks.cropped.methods=[direct]"]), tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "results.csv").open()))
    assert {row["rmse_hu"] for row in rows} == {""}
