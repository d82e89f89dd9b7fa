"""Complex images: simulated phases, and raw k-space combined by coil maps of its own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from isocenter.data.datasets import Dataset, Sample
from isocenter.data.image_folders import image_folder
from isocenter.data.image_grids import Grid, Scaled
from isocenter.data.raw_kspace import RawKspace, read_coils
from isocenter.data.simulated_phase import with_simulated_phase
from isocenter.data.splits import by_order
from isocenter.physics import MultiCoilSampling
from isocenter.physics.coil_maps import simulated_coil_maps
from isocenter.physics.fourier import centred_ifft2


def magnitudes(size: int, ids: tuple[str, ...] = ("a", "b"), oversampling: int = 1) -> Dataset:
    image = (np.arange(1, size**2 + 1, dtype=np.float32) / size**2).reshape(size, size)
    n = size // oversampling
    samples = tuple(Sample(id, id, lambda: image) for id in ids)
    splits = {"train": (), "validation": (), "test": samples}
    return Dataset("m", (n, n), oversampling, 1.0, 1.0, "", (0.0, 1.0), (), splits)


def images(dataset: Dataset) -> dict[str, np.ndarray]:
    """Complex images of the test split by id, on the fine grid."""
    fine = {sample.id: dataset.fine(sample) for sample in dataset.splits["test"]}
    return {id: torch.complex(x[0], x[1]).numpy() for id, x in fine.items()}


def test_a_simulated_phase_changes_no_magnitude_and_belongs_to_image_and_seed() -> None:
    plain = magnitudes(32)
    dataset = with_simulated_phase(plain, seed=1)
    assert (dataset.channels, dataset.image_shape, plain.image_shape) == (2, (2, 32, 32), (32, 32))
    assert any(label.startswith("data crime") for label in dataset.labels)
    x = images(dataset)
    np.testing.assert_allclose(abs(x["a"]), plain.fine(plain.splits["test"][0])[0], rtol=1e-5)
    alone = images(with_simulated_phase(magnitudes(32, ids=("b",)), seed=1))
    np.testing.assert_array_equal(alone["b"], x["b"])
    assert not np.allclose(x["a"], x["b"], atol=0.1)
    assert not np.allclose(images(with_simulated_phase(plain, seed=2))["a"], x["a"], atol=0.1)


def test_a_simulated_phase_is_smooth_and_of_radians() -> None:
    many = magnitudes(48, ids=tuple(map(str, range(40))))
    turns = [np.angle(x[:, 1:] * x[:, :-1].conj()) for x in images(with_simulated_phase(many, seed=0)).values()]
    assert max(abs(turn).max() for turn in turns) < 0.5  # radians from pixel to pixel: it never wraps
    across = [np.ptp(turn.cumsum(axis=1)) for turn in turns]
    assert 2 < np.median(across) < 12


def test_a_finer_grid_has_the_same_phase() -> None:
    fine, coarse = (images(with_simulated_phase(magnitudes(n), seed=3))["a"] for n in (64, 32))
    phase = fine / abs(fine)
    means = phase.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    assert abs(np.angle(means * coarse.conj())).max() < 1e-2


def coil_data(size: int = 40) -> tuple[torch.Tensor, np.ndarray]:
    """A complex image and its k-space in four coils, ``[4, N, N]``."""
    axis = torch.linspace(-1, 1, size)
    inside = (axis[:, None] ** 2 + axis**2 < 0.6).float()
    image = torch.stack((inside * (2 + torch.cos(5 * axis)), inside * torch.sin(3 * axis[:, None])))
    physics = MultiCoilSampling(torch.ones(size, size), simulated_coil_maps((size, size), 4, seed=1))
    y = physics.A(image[None])[0].numpy()
    return image, y[0] + 1j * y[1]


def test_raw_k_space_combines_to_its_image_up_to_a_smooth_phase(tmp_path: Path) -> None:
    image, kspace = coil_data()
    np.savez(tmp_path / "scan.npz", coils=kspace, other=np.zeros((3, 3)))
    volume = RawKspace("coils", 20).open(tmp_path / "scan.npz")
    assert volume.shape == (1, 40, 40)
    combined = volume.slice(0)
    truth = torch.complex(image[0], image[1]).numpy()
    assert np.linalg.norm(abs(combined) - abs(truth)) < 0.01 * np.linalg.norm(truth)
    np.testing.assert_allclose(read_coils(tmp_path / "scan.npz", "coils")[1].numpy(), kspace.imag.astype("f4"))


def test_slices_of_coils_are_combined_one_by_one(tmp_path: Path) -> None:
    _, kspace = coil_data()
    np.save(tmp_path / "a.npy", np.stack((kspace, 3j * kspace)).astype("c8"))
    dataset = image_folder(
        "raw",
        tmp_path,
        [tmp_path / "a.npy"],
        Grid(32, 1.0, resample=False),
        Scaled(divide_by=1.0),
        assign=lambda patients: by_order(patients, {"train": 0, "validation": 0, "test": 1}),
        kspace=RawKspace(calibration_lines=20),
    )
    dataset = pickle.loads(pickle.dumps(dataset))
    one, three = (dataset.fine(sample) for sample in dataset.splits["test"])
    assert one.shape == (2, 32, 32)
    torch.testing.assert_close(three.square().sum(0), 9 * one.square().sum(0), rtol=1e-3, atol=1e-4)
    whole = RawKspace(calibration_lines=20).open(tmp_path / "a.npy").slice(0)
    np.testing.assert_array_equal(one[0].numpy(), whole.real[4:36, 4:36])


def test_what_is_no_fully_sampled_k_space_is_refused(tmp_path: Path) -> None:
    _, kspace = coil_data()
    np.save(tmp_path / "real.npy", abs(kspace))
    with pytest.raises(ValueError, match="expected complex"):
        RawKspace().open(tmp_path / "real.npy")
    kspace[:, ::2, :5] = kspace[:, ::2, -5:] = kspace[:, :10] = 0
    np.save(tmp_path / "holes.npy", kspace)
    with pytest.raises(ValueError, match="is empty; the truth needs a fully sampled scan"):
        RawKspace(calibration_lines=16).open(tmp_path / "holes.npy").slice(0)


def test_a_raw_scan_is_a_complex_image_that_looks_like_the_body_coils(shared_data: Path) -> None:
    file = shared_data / "kspace" / "mr_physics_invivo_brain_kspace.npz"
    image = RawKspace("kspace_16ch").open(file).slice(0)
    body = centred_ifft2(torch.complex(*read_coils(file, "kspace_bodycoil_2ch"))).abs().square().sum(0).sqrt()
    assert image.dtype == np.complex64
    assert np.corrcoef(abs(image).ravel(), body.ravel())[0, 1] > 0.94
