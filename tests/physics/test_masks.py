"""Sampling masks: exact accelerations, densities, distances, published masks, and files."""

from __future__ import annotations

import time
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.physics.masks import (
    cartesian_random,
    cartesian_uniform,
    cartesian_variable_density,
    load_mask,
    pseudo_radial,
)
from isocenter.physics.poisson_disc import poisson_disc
from PIL import Image
from scipy import ndimage
from scipy.io import savemat
from scipy.spatial import cKDTree

CARTESIAN = {
    "uniform": lambda shape, r, c, seed: cartesian_uniform(shape, r, c),
    "random": lambda shape, r, c, seed: cartesian_random(shape, r, c, seed=seed),
    "variable": lambda shape, r, c, seed: cartesian_variable_density(shape, r, c, seed=seed),
}
every_cartesian = pytest.mark.parametrize("make", CARTESIAN.values(), ids=CARTESIAN.keys())


@every_cartesian
@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 90), acceleration=st.floats(1, 12), calibration=st.integers(0, 20), seed=st.integers(0, 99))
def test_cartesian_masks_are_lines_as_many_as_asked(make, width, acceleration, calibration, seed) -> None:
    wanted = round(width / acceleration)
    if max(calibration, 1) > wanted:
        with pytest.raises(ValueError, match="expected 1 ≤ acceleration"):
            make((3, width), acceleration, calibration, seed)
        return
    mask = make((3, width), acceleration, calibration, seed)
    assert mask.dtype == torch.bool
    assert int(mask[0].sum()) == wanted
    assert torch.equal(mask, mask[:1].expand(3, width))
    centre = width // 2 - max(calibration, 1) // 2
    assert bool(mask[0, centre : centre + max(calibration, 1)].all())
    assert bool(mask[0, width // 2])
    assert torch.equal(mask, make((3, width), acceleration, calibration, seed))


@pytest.mark.parametrize("acceleration", [2, 4, 8])
def test_uniform_lines_without_calibration_are_a_lattice_through_the_centre(acceleration) -> None:
    lines = cartesian_uniform((2, 64), acceleration, 0)[0].nonzero().ravel()
    assert lines.tolist() == list(range(0, 64, acceleration))


@settings(max_examples=30, deadline=None)
@given(width=st.integers(40, 120), acceleration=st.floats(2, 5), calibration=st.integers(0, 8))
def test_uniform_gaps_differ_by_at_most_one(width, acceleration, calibration) -> None:
    mask = cartesian_uniform((2, width), acceleration, calibration)[0]
    start = width // 2 - max(calibration, 1) // 2
    outside = mask.roll(-start)[max(calibration, 1) - 1 :].nonzero().ravel().tolist()  # from the centre's last line
    gaps = np.diff([*outside, width - max(calibration, 1) + 1])  # around to its first
    assert gaps.max() - gaps.min() <= 1


def test_random_lines_are_uniform_and_variable_density_is_not() -> None:
    draws = range(300)
    uniform = torch.stack([cartesian_random((1, 64), 4, 4, seed=s)[0] for s in draws]).double().mean(dim=0)
    dense = torch.stack([cartesian_variable_density((1, 64), 4, 4, seed=s)[0] for s in draws]).double().mean(dim=0)
    outside = torch.ones(64, dtype=torch.bool)
    outside[30:34] = False
    assert float((uniform[outside] - 12 / 60).abs().max()) < 5 * (0.2 * 0.8 / 300) ** 0.5
    assert dense[24:30].mean() > 2 * uniform[outside].mean() > 4 * dense[:10].mean()


def test_seeds_differ() -> None:
    for make in (CARTESIAN["random"], CARTESIAN["variable"]):
        assert not torch.equal(make((1, 64), 4, 4, 0), make((1, 64), 4, 4, 1))
    assert not torch.equal(poisson_disc((32, 32), 4, 4, seed=0), poisson_disc((32, 32), 4, 4, seed=1))


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), acceleration=st.floats(1, 20), calibration=st.integers(0, 8)
)
def test_poisson_disc_has_as_many_points_as_asked(height, width, acceleration, calibration) -> None:
    wanted, side = round(height * width / acceleration), max(calibration, 1)
    if side**2 > wanted or side > min(height, width):
        with pytest.raises(ValueError, match="poisson_disc: acceleration"):
            poisson_disc((height, width), acceleration, calibration, seed=0)
        return
    mask = poisson_disc((height, width), acceleration, calibration, seed=0)
    assert int(mask.sum()) == wanted
    top, left = height // 2 - side // 2, width // 2 - side // 2
    assert bool(mask[top : top + side, left : left + side].all())


def test_poisson_disc_keeps_points_apart_and_thins_outwards() -> None:
    """Random points at this density have a neighbour within 2 pixels often; these never, where discs are wide."""
    mask = poisson_disc((128, 128), 12, 16, seed=3)
    points = mask.nonzero().double().numpy()
    radius = np.hypot(*(points - 64).T) / 64
    distances = cKDTree(points).query(points, k=2)[0][:, 1]
    outer = radius > 0.8
    assert distances[outer].min() > 2.5
    random = np.random.default_rng(0).uniform(0, 128, points.shape)
    assert (cKDTree(random).query(random, k=2)[0][:, 1] < 2.5).mean() > 0.5
    ring = np.hypot(*np.indices((128, 128)) - 64) / 64
    density = [mask.numpy()[(ring > a) & (ring < a + 0.2)].mean() for a in (0.2, 0.4, 0.6, 0.8)]
    assert all(inner > 1.2 * outer for inner, outer in pairwise(density))


def test_poisson_disc_is_fast() -> None:
    start = time.process_time()
    poisson_disc((256, 256), 4, 24, seed=0)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("shape", [(64, 64), (65, 48)])
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_pseudo_radial_meets_its_fraction(shape, fraction) -> None:
    mask = pseudo_radial(shape, fraction=fraction)
    assert float(mask.double().mean()) == pytest.approx(fraction, abs=0.5 / min(shape))
    assert bool(mask[shape[0] // 2, shape[1] // 2])


def test_two_radial_lines_are_the_axes() -> None:
    mask = torch.zeros(9, 8, dtype=torch.bool)
    mask[4] = True
    mask[:, 4] = True
    assert torch.equal(pseudo_radial((9, 8), lines=2), mask)


@pytest.mark.parametrize("lines", [1, 3, 7, 20])
def test_radial_lines_have_no_gaps(lines) -> None:
    mask = pseudo_radial((33, 40), lines=lines).numpy()
    assert ndimage.label(mask, structure=np.ones((3, 3)))[1] == 1
    edge = np.ones_like(mask)
    edge[1:-1, 1:-1] = False
    assert (mask & edge).sum() >= 2 * lines - 1  # an even size has no pixel opposite to its first


@pytest.mark.parametrize("percent", [10, 20, 30])
def test_pseudo_radial_masks_are_the_published_ones(shared_data, percent) -> None:
    """The masks of ADMM-Net, but for a few pixels where a line is rounded."""
    published = load_mask(shared_data / "mri" / "deep_admm_net" / "mask" / f"mask_{percent}.mat")
    ours = pseudo_radial(tuple(published.shape), fraction=float(published.double().mean()))
    assert float((ours & published).sum() / (ours | published).sum()) > 0.99


@pytest.mark.parametrize("arguments", [{}, {"lines": 3, "fraction": 0.1}, {"lines": 0}, {"fraction": 0.001}])
def test_impossible_radial_masks_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="pseudo_radial"):
        pseudo_radial((64, 64), **arguments)


def test_masks_come_from_files(tmp_path) -> None:
    mask = cartesian_random((12, 17), 3, 2, seed=0)
    mask[1, 3] = ~mask[1, 3]  # so that a transposed or flipped mask would differ
    array = mask.numpy()
    np.save(tmp_path / "bool.npy", array)
    np.save(tmp_path / "float.npy", array.astype(np.float32))
    savemat(tmp_path / "v5.mat", {"mask": array.astype(np.float64), "fraction": 0.3})
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        file["mask"] = array.T.astype(np.float64)  # MATLAB stores by columns
    Image.fromarray(array.astype(np.uint8) * 255).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(array.astype(np.uint8)[..., None] * 255, 3, axis=2)).save(tmp_path / "colour.png")
    for path in sorted(tmp_path.iterdir()):
        assert torch.equal(load_mask(path), mask), path.name


def test_a_mat_file_with_several_masks_needs_a_key(tmp_path) -> None:
    savemat(tmp_path / "two.mat", {"a": np.eye(4), "b": np.ones((4, 4))})
    with pytest.raises(ValueError, match="name the right one by key="):
        load_mask(tmp_path / "two.mat")
    assert torch.equal(load_mask(tmp_path / "two.mat", key="a"), torch.eye(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="'c'"):
        load_mask(tmp_path / "two.mat", key="c")


def test_files_that_are_no_masks_are_refused(tmp_path) -> None:
    corner = np.zeros((8, 8))
    corner[0, 0] = 1
    for name, array, message in [
        ("corner.npy", corner, "in the corner"),
        ("weights.npy", np.arange(16.0).reshape(4, 4), "distinct values"),
        ("empty.npy", np.zeros((4, 4)), "distinct values"),
        ("cube.npy", np.ones((4, 4, 4)), "expected one real 2-D array"),
        ("objects.npy", np.array([{}]), "cannot be read"),
    ]:
        np.save(tmp_path / name, array, allow_pickle=True)
        with pytest.raises(ValueError, match=message):
            load_mask(tmp_path / name)
    for name in ("broken.npy", "broken.mat", "broken.png", "mask.txt"):
        (tmp_path / name).write_bytes(b"not what the suffix says")
        with pytest.raises(ValueError, match="cannot be read"):
            load_mask(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_mask(tmp_path / "absent.npy")
