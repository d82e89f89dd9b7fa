"""Datasets: splits by patient, grids in millimetres, units, phantoms by index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isocenter.data.datasets import SPLITS
from isocenter.data.image_folders import Patients, Slices, find_files, fingerprint, image_folder
from isocenter.data.image_grids import Attenuation, Grid, Scaled
from isocenter.data.phantom_datasets import phantoms
from isocenter.data.problem import SimulatedProblem
from isocenter.data.splits import by_hash, by_lists, by_order, evenly
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.noise import GaussianNoise

NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=30)


# --- splits -------------------------------------------------------------------------------------------------------


@given(NAMES, NAMES, st.integers(0, 5))
def test_a_patients_split_by_hash_does_not_depend_on_the_others(some, others, seed):
    alone, together = by_hash(some, seed, 0.2, 0.3), by_hash(others + some, seed, 0.2, 0.3)
    assert all(together[patient] == split for patient, split in alone.items())


def test_hash_fractions_are_those_asked_for_and_seeds_differ():
    patients = [f"patient {i}" for i in range(4000)]
    splits = by_hash(patients, 0, 0.1, 0.3)
    counts = {split: sum(s == split for s in splits.values()) / 4000 for split in SPLITS}
    assert counts == pytest.approx({"train": 0.6, "validation": 0.1, "test": 0.3}, abs=0.03)
    assert splits != by_hash(patients, 1, 0.1, 0.3)


def test_order_blocks_count_patients_not_images():
    files = ["a", "a", "b", "c", "c", "c", "d"]
    assert by_order(files, {"train": 2, "validation": 1, "test": 1}) == {
        "a": "train", "b": "train", "c": "validation", "d": "test",
    }  # fmt: skip
    with pytest.raises(ValueError, match="take 5 patients, there are 4"):
        by_order(files, {"train": 3, "test": 2})


def test_lists_refuse_a_patient_twice_and_one_without_images():
    assert by_lists(["1", "2", "3"], {"train": ["1"], "test": ["3"]}) == {"1": "train", "3": "test"}
    with pytest.raises(ValueError, match="'1' is in train and in test"):
        by_lists(["1", "2"], {"train": ["1"], "test": ["1"]})
    with pytest.raises(ValueError, match="'9' of test has no image"):
        by_lists(["1"], {"test": ["9"]})


@given(st.integers(1, 200), st.integers(1, 200))
def test_evenly_spread_positions(count, wanted):
    chosen = evenly(count, wanted)
    assert len(chosen) == min(count, wanted)
    assert 0 <= chosen[0] <= chosen[-1] < count
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


# --- grids and units ----------------------------------------------------------------------------------------------


def test_hounsfield_units_become_attenuation():
    hu = Attenuation(water=0.02)
    assert hu.convert(np.array([-3024.0, -1000, 0, 1000])) == pytest.approx([0, 0, 0.02, 0.04])
    assert hu.data_range == pytest.approx(0.04)
    assert hu.window == pytest.approx((0.012, 0.028))


@pytest.mark.parametrize(("pixel_size", "size", "oversampling"), [(1.7, 40, 1), (3.0, 24, 2), (0.8, 61, 1)])
def test_resampling_keeps_positions_in_millimetres(pixel_size, size, oversampling):
    # A linear function of the position in mm is reproduced exactly inside, by interpolation and by smoothing alike.
    spacing, shape = (0.9, 1.2), (120, 90)
    rows, columns = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True))
    ramp = (5 + 0.3 * rows[:, None] - 0.2 * columns[None, :]).astype(np.float32)
    placed = Grid(size, pixel_size, oversampling).place(ramp, spacing)
    fine = pixel_size / oversampling
    at = (np.arange(size * oversampling) - (size * oversampling - 1) / 2) * fine
    expected = 5 + 0.3 * at[:, None] - 0.2 * at[None, :]
    inside = (np.abs(at)[:, None] < 40) & (np.abs(at)[None, :] < 40)
    assert np.abs(placed - expected)[inside].max() < 1e-3


def test_resampling_does_not_alias():
    checkerboard = (np.indices((128, 128)).sum(0) % 2).astype(np.float32)
    placed = Grid(32, 4.0).place(checkerboard, (1.0, 1.0))
    assert np.abs(placed[4:-4, 4:-4] - 0.5).max() < 0.01


def test_native_pixels_are_cropped_and_padded_around_the_centre():
    image = np.zeros((10, 21), np.float32)
    image[4:6, 10] = 1
    placed = Grid(16, 1.0, resample=False).place(image, None)
    assert placed.shape == (16, 16)
    assert placed.sum() == 2
    assert np.argwhere(placed).tolist() == [[7, 8], [8, 8]]
    with pytest.raises(ValueError, match="grid: native"):
        Grid(16, 1.0).place(image, None)


# --- phantoms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["head", "torso", "ellipses", "breast"])
def test_image_k_does_not_depend_on_the_counts(family):
    few = phantoms("p", family, 64, {"train": 1, "validation": 1, "test": 2})
    many = phantoms("p", family, 64, {"train": 3, "validation": 2, "test": 4})
    images = [many.fine(sample) for split in SPLITS for sample in many.splits[split]]
    for split in SPLITS:
        for a, b in zip(few.splits[split], many.splits[split], strict=False):
            assert a.id == b.id
            assert (few.fine(a) == many.fine(b)).all()
    same = sum(bool((a == b).all()) for i, a in enumerate(images) for b in images[:i])
    assert same == 0


def test_torso_is_soft_tissue_in_air():
    dataset = phantoms("p", "torso", 64, {"test": 3}, oversampling=2)
    assert dataset.pixel_size == pytest.approx(400 / 64)
    for sample in dataset.splits["test"]:
        fine = dataset.fine(sample)
        truth = dataset.coarsen(fine)
        assert truth.shape == (1, 64, 64)
        assert truth.mean() == pytest.approx(float(fine.mean()), rel=1e-5)
        assert truth[0, 0, 0] < 0.001
        tissue = truth[truth > 0.012]
        assert tissue.median() == pytest.approx(0.0192 * 1.05, rel=0.1)


def test_shepp_logan_is_one_image():
    dataset = phantoms("p", "shepp-logan", 128, {"test": 1})
    image = dataset.fine(dataset.splits["test"][0])
    assert image.max() == pytest.approx(1)
    assert image.min() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="one Shepp–Logan"):
        phantoms("p", "shepp-logan", 128, {"train": 1, "test": 1})


# --- folders of files ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three patients with two volumes of five slices each; slice k of volume v has a square of side 4k."""
    for patient in (1, 2, 10):
        for visit in (1, 2):
            volume = np.zeros((5, 20, 20), np.float32)
            for k in range(5):
                volume[k, : 4 * k, : 4 * k] = 100 * patient
            np.save(tmp_path / f"patient{patient}_v{visit}.npy", volume)
    return tmp_path


def build(folder: Path, **options):
    chosen = {
        "grid": Grid(20, 1.0, resample=False),
        "intensity": Scaled(percentile=100),
        "patients": Patients(r"patient(\d+)"),
        "assign": lambda patients: by_order(patients, {"train": 1, "validation": 1, "test": 1}),
    } | options
    return image_folder("d", folder, find_files(folder, ["*.npy"]), **chosen)


def test_folders_split_by_patient_in_natural_order(folder):
    dataset = build(folder)
    patients = {split: {s.patient for s in dataset.splits[split]} for split in SPLITS}
    assert patients == {"train": {"1"}, "validation": {"2"}, "test": {"10"}}
    assert [s.id for s in dataset.splits["test"]][:2] == ["patient10_v1.npy:0", "patient10_v1.npy:1"]


def test_volumes_are_scaled_by_their_own_percentile(folder):
    dataset = build(folder)
    for split in SPLITS:
        image = dataset.fine(dataset.splits[split][4])
        assert image.max() == pytest.approx(1)
    fixed = build(folder, intensity=Scaled(divide_by=50))
    assert fixed.fine(fixed.splits["test"][4]).max() == pytest.approx(20)


def test_slices_by_range_step_content_and_limit(folder):
    def chosen(**options):
        return [s.id.rpartition(":")[2] for s in build(folder, **options).splits["test"]]

    assert chosen(slices=Slices(start=0.2, stop=0.8)) == list("123123")
    assert chosen(slices=Slices(step=2)) == list("024024")
    assert chosen(slices=Slices(minimum_content=0.3)) == list("3434")  # (4k/20)² is .36 at k = 3
    assert len(build(folder, limit={"test": 3}).splits["test"]) == 3
    with pytest.raises(ValueError, match="no slice of the 2 files for train"):
        build(folder, slices=Slices(minimum_content=0.9))


def test_a_patient_in_two_splits_is_refused(folder):
    lists = {"train": find_files(folder, ["*_v1.npy"]), "test": find_files(folder, ["patient1_v2.npy"])}
    with pytest.raises(ValueError, match="patient 1 is in train and in test"):
        image_folder("d", folder, lists, Grid(20, 1.0, resample=False), Scaled(), patients=Patients(r"patient(\d+)"))


def test_trouble_with_files_is_named(folder):
    with pytest.raises(ValueError, match=r"nothing that matches '\*\.nii'"):
        find_files(folder, ["*.nii"])
    with pytest.raises(ValueError, match="there is no folder"):
        find_files(folder / "absent", ["*"])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="is empty"):
        find_files(folder / "empty", ["*"])
    with pytest.raises(ValueError, match="does not match the patient pattern"):
        build(folder, patients=Patients(r"visit(\d+)"))
    with pytest.raises(ValueError, match="no group"):
        Patients(r"patient\d+")
    (folder / "patient3_v1.npy").write_bytes(b"\x93NUMPY damaged")
    with pytest.raises(ValueError, match=r"patient3_v1\.npy"):
        build(folder, assign=lambda patients: dict.fromkeys(patients, "test"))


def test_datasets_of_the_same_files_read_volumes_once_and_again_when_they_are_written_anew(folder, monkeypatch):
    measured, scale = [], Scaled.scale
    monkeypatch.setattr(Scaled, "scale", lambda self, volume: measured.append(volume) or scale(self, volume))

    def first(size: int) -> float:
        return build(folder, grid=Grid(size, 1.0, resample=False), intensity=Scaled()).splits["train"][0].load.scale

    before, files = first(20), len(measured)
    assert first(16) == before
    assert len(measured) == files == len(find_files(folder, ["*.npy"]))
    path = folder / "patient1_v1.npy"
    np.save(path, 3 * np.load(path).astype(np.float64))  # another size, since a clock can be coarse
    assert first(16) == pytest.approx(3 * before)
    assert len(measured) == files + 1


def test_fingerprint_sees_other_content_names_and_sizes(folder):
    def now() -> str:
        return fingerprint(folder, find_files(folder, ["*.npy"]))

    first = now()
    assert now() == first
    path = folder / "patient1_v1.npy"
    volume = np.load(path)
    volume[2, 3, 3] += 1
    np.save(path, volume)
    second = now()
    path.rename(folder / "patient4_v1.npy")
    assert len({first, second, now()}) == 3


def test_fingerprint_sees_the_middle_of_a_large_file(tmp_path):
    file = tmp_path / "large.npy"
    content = bytearray(3 * 2**20)
    file.write_bytes(content)
    before = fingerprint(tmp_path, [file])
    content[len(content) // 2] = 1
    file.write_bytes(content)
    assert fingerprint(tmp_path, [file]) != before


def test_real_mri_follows_the_fixed_split(shared_data):
    root = shared_data / "mri" / "open_ms"
    lists = {"train": ["01", "03", "09"], "validation": ["12"], "test": ["19", "20"]}
    files = [f for f in find_files(root, ["*.nii.gz"]) if "_study2_T1W" in f.name or "patient09" in f.name]
    dataset = image_folder(
        "mri",
        root,
        files,
        Grid(128, 1.8),
        Scaled(),
        patients=Patients(r"patient(\d+)"),
        assign=lambda patients: by_lists(patients, lists),
        slices=Slices(0.4, 0.6, 5),
    )
    assert {s.patient for s in dataset.splits["train"]} == {"01", "03", "09"}
    assert {s.patient for s in dataset.splits["test"]} == {"19", "20"}
    heads = [dataset.fine(s)[0] for s in dataset.splits["test"]]
    for head in heads:
        # A head is about 15 cm wide and 19 cm long: the millimetres of the header were used.
        columns, rows = (int((head > 0.1).any(axis).sum()) * 1.8 for axis in (0, 1))
        assert 120 < columns < 180 < rows < 230


def test_real_ct_is_taken_in_file_order(shared_data):
    root = shared_data / "ct" / "tcga_lung"
    dataset = image_folder(
        "ct",
        root,
        find_files(root, ["*.dcm"]),
        Grid(256, 1.4, 2, resample=False),
        Attenuation(),
        patients=Patients(header=True),
        assign=lambda patients: by_order(patients, {"train": 18, "validation": 4, "test": 8}),
    )
    assert [len(dataset.splits[split]) for split in SPLITS] == [18, 4, 8]
    assert dataset.splits["train"][0].id.startswith("ID_0000")
    assert dataset.splits["test"][-1].id.startswith("ID_0044")
    image = dataset.fine(dataset.splits["test"][0])
    assert image.shape == (1, 512, 512)
    assert image.min() == 0
    assert float(((image > 0.017) & (image < 0.023)).float().sum() / (image > 0.012).float().sum()) > 0.4


# --- measurements -------------------------------------------------------------------------------------------------


def test_relative_noise_is_relative_to_the_whole_measurement():
    dataset = phantoms("p", "head", 64, {"test": 2})
    physics = FourierSampling(torch.ones(64, 64))
    problem = SimulatedProblem("t", dataset, dataset.splits["test"], physics, GaussianNoise(0.1, relative=True), 0)
    x, y = problem.batch([0, 1])
    clean = physics.A(x)
    for image in range(2):
        noise = (y - clean)[image]
        expected = 0.1 * float(clean[image].abs().mean())
        assert noise.std((1, 2)).tolist() == pytest.approx([expected, expected], rel=0.05)
    assert (problem.measurement(0, draw=1) != problem.measurement(0)).any()
    again = SimulatedProblem("t", dataset, dataset.splits["test"][1:], physics, GaussianNoise(0.1, relative=True), 0)
    assert (again.measurement(0) == y[1]).all()
