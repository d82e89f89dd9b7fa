"""Ellipses against closed forms and against ASTRA; the random families against their stated distributions."""

import astra
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.data.ellipses import (
    Ellipses,
    dival_ellipses,
    dival_image,
    learned_primal_dual_ellipses,
    shepp_logan,
)
from skimage.data import shepp_logan_phantom


def disc(radius: float, x: float = 0.0, y: float = 0.0, value: float = 1.0) -> Ellipses:
    return Ellipses([value], [x], [y], [radius], [radius], [0.0])


PAIR = Ellipses([1.0, -0.4], [0.2, -0.3], [-0.35, 0.4], [0.5, 0.25], [0.3, 0.4], [0.6, -1.1])


def astra_forward(image: np.ndarray, projections: dict, pixel: float, kernel: str) -> np.ndarray:
    height, width = image.shape
    half_x, half_y = width * pixel / 2, height * pixel / 2
    volume = astra.create_vol_geom(height, width, -half_x, half_x, -half_y, half_y)
    projector = astra.create_projector(kernel, projections, volume)
    try:
        identifier, sinogram = astra.create_sino(image, projector)
        astra.data2d.delete(identifier)
    finally:
        astra.projector.delete(projector)
    return sinogram


@given(radius=st.floats(0.1, 3), x=st.floats(-2, 2), y=st.floats(-2, 2), theta=st.floats(-7, 7), t=st.floats(-4, 4))
def test_disc_has_chords_of_the_closed_form(radius, x, y, theta, t):
    distance = t - x * np.cos(theta) - y * np.sin(theta)
    expected = 2 * np.sqrt(max(radius**2 - distance**2, 0))
    assert disc(radius, x, y).parallel_sinogram([theta], [t])[0, 0] == pytest.approx(expected, abs=1e-5)


def test_every_view_integrates_to_the_area():
    t = np.linspace(-2, 2, 20001)
    views = PAIR.parallel_sinogram(np.linspace(0, 3, 7), t).astype(float)
    area = np.pi * (1.0 * 0.5 * 0.3 - 0.4 * 0.25 * 0.4)
    np.testing.assert_allclose(views.sum(axis=1) * (t[1] - t[0]), area, rtol=1e-4)


def test_image_sums_to_the_area_and_converges_with_oversampling():
    area = np.pi * (1.0 * 0.5 * 0.3 - 0.4 * 0.25 * 0.4)
    errors = [abs(PAIR.rasterise((48, 48), 2 / 48, s).sum() * (2 / 48) ** 2 - area) for s in (1, 8)]
    assert errors[0] < 0.02
    assert errors[1] < 0.002


def test_image_stands_upright():
    image = Ellipses([1.0], [0.5], [0.25], [0.2], [0.05], [np.pi / 2]).rasterise((100, 120), 0.02, 4)
    rows, columns = np.nonzero(image > 0.5)
    assert ((columns.mean() + 0.5) * 0.02 - 1.2) == pytest.approx(0.5, abs=0.01)
    assert (1.0 - (rows.mean() + 0.5) * 0.02) == pytest.approx(0.25, abs=0.01)
    assert np.ptp(rows) > 3 * np.ptp(columns)


@pytest.mark.parametrize("kernel", ["line", "linear", "strip"])
def test_parallel_beam_agrees_with_astra(kernel):
    n, angles, offsets = 512, np.linspace(0, np.pi, 9, endpoint=False) + 0.05, (np.arange(95) - 47) * 0.03
    image = PAIR.rasterise((n, n + 64), 2 / n, 2)
    exact = PAIR.parallel_sinogram(angles, offsets)
    projected = astra_forward(image, astra.create_proj_geom("parallel", 0.03, 95, angles), 2 / n, kernel)
    assert np.linalg.norm(projected - exact) < (0.02 if kernel == "strip" else 0.01) * np.linalg.norm(exact)


def test_error_against_astra_falls_with_the_grid():
    angles, offsets = np.linspace(0, np.pi, 9, endpoint=False) + 0.05, (np.arange(61) - 30) * 0.04
    exact = PAIR.parallel_sinogram(angles, offsets)
    geometry = astra.create_proj_geom("parallel", 0.04, 61, angles)
    errors = [
        np.linalg.norm(astra_forward(PAIR.rasterise((n, n), 2 / n, 4), geometry, 2 / n, "line") - exact)
        for n in (64, 512)
    ]
    assert errors[1] < errors[0] / 6


def test_fan_beam_agrees_with_astra():
    n, angles, offsets = 512, np.linspace(0, 2 * np.pi, 9, endpoint=False), (np.arange(95) - 47) * 0.06
    image = PAIR.rasterise((n, n), 2 / n, 2)
    exact = PAIR.fan_sinogram(angles, offsets, 3.0, 5.0)
    geometry = astra.create_proj_geom("fanflat", 0.06, 95, angles, 3.0, 2.0)
    projected = astra_forward(image, geometry, 2 / n, "line_fanflat")
    assert np.linalg.norm(projected - exact) < 0.01 * np.linalg.norm(exact)


@given(theta=st.floats(0, 6), t=st.floats(-1, 1), along=st.floats(-3, 3), speed=st.floats(0.1, 5))
def test_line_integrals_do_not_depend_on_how_the_line_is_given(theta, t, along, speed):
    normal, tangent = np.array([np.cos(theta), np.sin(theta)]), np.array([-np.sin(theta), np.cos(theta)])
    line = PAIR.line_integrals(t * normal + along * tangent, -speed * tangent)
    assert line == pytest.approx(PAIR.parallel_sinogram([theta], [t])[0, 0], abs=1e-5)


@given(factor=st.floats(0.1, 100))
def test_scaling_scales_the_integrals(factor):
    angles, offsets = [0.3, 1.7], np.linspace(-1, 1, 11)
    scaled = PAIR.scaled(factor).parallel_sinogram(angles, factor * offsets)
    # At the rim a chord grows like a root, so float64 rounding shows as 1e-8.
    np.testing.assert_allclose(scaled, factor * PAIR.parallel_sinogram(angles, offsets), rtol=1e-5, atol=1e-6 * factor)


def test_shepp_logan_is_scikit_images_phantom():
    image = shepp_logan().rasterise((400, 400), 2 / 400)
    reference = shepp_logan_phantom()
    # theirs carries the same ellipses on a slightly different grid, so edges differ and nothing else does
    assert np.mean(np.abs(image - reference) > 1e-2) < 0.03
    assert set(np.unique(image).astype(float).round(4)) <= {0.0, 0.1, 0.2, 0.3, 0.4, 1.0}


def test_shepp_logan_sinogram_at_the_centre_is_the_sum_of_its_chords():
    horizontal = shepp_logan().line_integrals([0.0, 0.7], [1.0, 0.0])
    chord = lambda a, b, y: 2 * a * np.sqrt(1 - (y / b) ** 2)  # noqa: E731
    assert horizontal == pytest.approx(chord(0.69, 0.92, 0.7) - 0.8 * chord(0.6624, 0.874, 0.7184), rel=1e-6)


@pytest.mark.parametrize("family", [learned_primal_dual_ellipses, dival_ellipses])
def test_image_k_depends_on_seed_and_k_alone(family):
    first = [family(3, k) for k in range(4)]
    assert np.array_equal(family(3, 2).value, first[2].value)
    assert not np.array_equal(first[0].value[:5], first[1].value[:5])
    assert not np.array_equal(family(4, 0).value[:5], first[0].value[:5])
    with pytest.raises(ValueError, match="negative"):
        family(0, -1)


def test_learned_primal_dual_distributions():
    phantoms = [learned_primal_dual_ellipses(0, k) for k in range(400)]
    count = np.array([len(p) for p in phantoms])
    every = {name: np.concatenate([getattr(p, name) for p in phantoms]) for name in ("value", "a", "b", "x", "angle")}
    assert count.mean() == pytest.approx(50, abs=1.5)
    assert count.var() == pytest.approx(50, rel=0.25)
    assert every["a"].mean() == pytest.approx(0.2, rel=0.03)
    assert every["b"].std() == pytest.approx(0.2, rel=0.05)
    assert every["value"].mean() == pytest.approx(0, abs=0.01)
    # Var[(U − ½) E] = E[(U − ½)²] E[E²] = (1/12) · 2 · 0.4²
    assert every["value"].var() == pytest.approx(2 * 0.16 / 12, rel=0.08)
    assert every["x"].var() == pytest.approx(1 / 3, rel=0.03)
    assert 0 <= every["angle"].min() < 0.01 < 6.27 < every["angle"].max() <= 2 * np.pi


def test_dival_distributions_and_normalisation():
    phantoms = [dival_ellipses(0, k) for k in range(400)]
    value = np.concatenate([p.value for p in phantoms])
    assert np.mean([len(p) for p in phantoms]) == pytest.approx(40, abs=1.3)
    assert max(len(p) for p in phantoms) <= 70
    assert value.mean() == pytest.approx(0.3, abs=0.02)
    assert -0.4 <= value.min() < -0.39 < 0.99 < value.max() <= 1
    assert max(np.abs(p.x).max() for p in phantoms) <= 0.9
    image = dival_image(0, 0, (128, 128))
    assert image.min() == 0
    assert image.max() == 1
    assert image.dtype == np.float32


@settings(max_examples=20)
@given(bad=st.sampled_from([{"a": [-0.1]}, {"value": [np.nan]}, {"x": [0.0, 1.0]}]))
def test_impossible_ellipses_are_refused(bad):
    with pytest.raises(ValueError, match="Ellipses"):
        Ellipses(**{"value": [1.0], "x": [0.0], "y": [0.0], "a": [1.0], "b": [1.0], "angle": [0.0]} | bad)
