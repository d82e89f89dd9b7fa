"""Filtered back-projection: scale, second opinion, gradient, and the weights of views."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from isocenter.physics import FanBeam, ParallelBeam, Radon, views
from isocenter.physics.fbp import WINDOWS, view_weights
from skimage.transform import iradon

MU, RADIUS, CENTRE, N = 0.02, 20.0, (4.0, -6.0), 64


def chords(geometry: ParallelBeam | FanBeam) -> torch.Tensor:
    """The exact sinogram of a disc of attenuation MU, as in test_radon."""
    u = np.stack([np.cos(geometry.angles), np.sin(geometry.angles)], 1)
    t = geometry.detector_coordinates()
    if isinstance(geometry, ParallelBeam):
        distance = (u @ np.array(CENTRE))[:, None] - t
    else:
        source = geometry.source_axis * np.stack([np.sin(geometry.angles), -np.cos(geometry.angles)], 1)
        forward = np.stack([-np.sin(geometry.angles), np.cos(geometry.angles)], 1)
        ray = geometry.source_detector * forward[:, None] + t[None, :, None] * u[:, None]
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        to_centre = (np.array(CENTRE) - source)[:, None]
        distance = ray[..., 0] * to_centre[..., 1] - ray[..., 1] * to_centre[..., 0]
    return torch.tensor(MU * 2 * np.sqrt(np.maximum(RADIUS**2 - distance**2, 0)), dtype=torch.float32)[None, None]


def inside(part: float) -> torch.Tensor:
    x = np.arange(N) - (N - 1) / 2
    return torch.tensor((x[None, :] - CENTRE[0]) ** 2 + (-x[:, None] - CENTRE[1]) ** 2 < (part * RADIUS) ** 2)


SHORT = math.pi + 2 * math.atan(90 / 240) + 0.1
SCANS = {
    "parallel": ParallelBeam(views(180), 95),
    "parallel, half-cell, fine detector": ParallelBeam(views(180, half_cell=True), 190, 0.5),
    "parallel, full circle": ParallelBeam(views(360, 0, 2 * math.pi), 95),
    "parallel, axis off centre": ParallelBeam(views(180), 120, 1.0, 7.3),
    "parallel, uneven views": ParallelBeam(np.arange(180) * math.pi / 180 + 0.006 * np.sin(np.arange(180.0)), 95),
    "fan": FanBeam(views(360, 0, 2 * math.pi), 120, 1.5, 120.0, 240.0),
    "fan, axis off centre": FanBeam(views(360, 0, 2 * math.pi), 140, 1.5, 120.0, 240.0, 5.5),
    "parallel, half a detector": ParallelBeam(views(360, 0, 2 * math.pi), 36, 1.0, -12.5),
    "parallel, half a detector, two turns": ParallelBeam(views(360, 0, 4 * math.pi), 36, 1.0, -12.5),
    "fan, half a detector": FanBeam(views(360, 0, 2 * math.pi), 50, 1.5, 120.0, 240.0, -22.0),
    "fan, half a detector, the other half": FanBeam(views(360, 0, 2 * math.pi), 50, 1.5, 120.0, 240.0, 22.4),
    "fan, short scan": FanBeam(views(240, 0.3, 0.3 + SHORT), 120, 1.5, 120.0, 240.0),
    "fan, short scan, the detector wider than needed": FanBeam(views(240, 0.3, 0.2 + SHORT), 180, 1.5, 120.0, 240.0),
    "fan, almost a full circle": FanBeam(views(340, 0, math.radians(340)), 120, 1.5, 120.0, 240.0),
    "fan, short scan through zero": FanBeam(views(240, 5.0, 5.0 + SHORT), 120, 1.5, 120.0, 240.0),
}


@pytest.mark.parametrize("backend", ["matrix", "astra"])
@pytest.mark.parametrize("name", SCANS)
def test_a_disc_reconstructs_to_its_attenuation(name: str, backend: str) -> None:
    image = Radon(SCANS[name], (N, N), backend=backend).direct(chords(SCANS[name]))[0, 0]
    core = image[inside(0.85)]
    assert core.mean() == pytest.approx(MU, rel=0.002)
    assert (core - MU).abs().max() < 0.01 * MU  # every pixel within 1 %


@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_keeps_the_mean(window: str) -> None:
    image = Radon(SCANS["parallel"], (N, N), filter=window, cutoff=0.8).direct(chords(SCANS["parallel"]))[0, 0]
    assert image[inside(0.8)].mean() == pytest.approx(MU, rel=0.002)


def test_equals_scikit_image() -> None:
    scan = ParallelBeam(views(90), N + 1)
    y = chords(scan)
    expected = iradon(y[0, 0].numpy().T, theta=np.arange(90) * 2.0, filter_name="ramp", circle=True)
    result = Radon(scan, (N + 1, N + 1)).direct(y)[0, 0].numpy()
    x = np.arange(N + 1) - N / 2
    centre = x[None, :] ** 2 + x[:, None] ** 2 < 30**2  # scikit-image zeroes what is outside of the circle
    assert np.abs(result - expected)[centre].max() < 0.01 * MU


def test_gradient_is_the_adjoint_of_the_linear_map() -> None:
    radon = Radon(ParallelBeam(views(8), 13), (8, 8))
    y = torch.rand(1, *radon.range, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(radon.direct, y)


def test_the_period_is_shared_out_to_the_views() -> None:
    assert view_weights(ParallelBeam(views(7), 3)).sum() == pytest.approx(math.pi)
    assert view_weights(FanBeam(views(7, 0, 2 * math.pi), 3, 1.0, 10, 20)).sum() == pytest.approx(2 * math.pi)
    assert view_weights(ParallelBeam((1.0,), 3)).tolist() == [math.pi]
    limited = view_weights(ParallelBeam(views(30, 0, 1.5), 3))
    assert np.allclose(limited, 0.05)  # the gap behind the last view is no cell of the integral
    for turns in (1, 2, 3):  # each of its views counts
        again = view_weights(ParallelBeam(views(60 * turns, 0, 2 * math.pi * turns), 3))
        assert np.allclose(again, math.pi / 60 / turns)
        again = view_weights(FanBeam(views(60 * turns, 0, 2 * math.pi * turns), 3, 1.0, 10, 20))
        assert np.allclose(again, 2 * math.pi / 60 / turns)
    twice = view_weights(ParallelBeam((0.0, 0.5, 0.5, 1.0, 1.5, 2.0, 2.5), 3))
    assert twice[1] + twice[2] == pytest.approx(0.5)
