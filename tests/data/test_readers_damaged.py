"""Whatever a file holds, reading it ends in slices or in one ReadError of one line that names the file."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import nrrd
import numpy as np
import pytest
import scipy.io
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isocenter.data.read import read
from isocenter.data.volume import ReadError, Volume
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

IMAGE = (np.arange(3 * 12 * 10) % 251).astype(np.int16).reshape(3, 12, 10)
AFFINE = np.diag([-2, -2, 3, 1])  # columns to the left, rows to posterior: nothing is turned


def dicom(path: Path, *, compressed: bool = False) -> None:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID, header.SeriesInstanceUID = CTImageStorage, "1.2.3.4", "1.2.3"
    header.Modality, header.PatientID = "CT", "one"
    header.Rows, header.Columns, header.NumberOfFrames = 12, 10, 3
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation, header.SamplesPerPixel = 15, 1, 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.RescaleSlope, header.RescaleIntercept = 1, 0
    header.PixelData = IMAGE.tobytes()
    if compressed:
        header.compress(RLELossless)
    header.save_as(path, enforce_file_format=True)


def hdf5(path: Path, **options: str) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=IMAGE, **options)


def mat73(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("x", data=IMAGE.swapaxes(1, 2)).attrs["MATLAB_class"] = np.bytes_("int16")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: none".ljust(124) + b"\0\2IM")


def cfl(path: Path) -> None:
    path.with_suffix(".hdr").write_text("# Dimensions\n12 10 3 1 1\n")
    path.write_bytes(IMAGE.transpose(1, 2, 0).astype("<c8").tobytes("F"))


WRITERS: dict[str, Callable[[Path], object]] = {
    "native.dcm": dicom,
    "rle.dcm": lambda path: dicom(path, compressed=True),
    "plain.nii": lambda path: nibabel.save(nibabel.Nifti1Image(IMAGE.T, AFFINE), path),
    "second.nii": lambda path: nibabel.save(nibabel.Nifti2Image(IMAGE.T, AFFINE), path),
    "packed.nii.gz": lambda path: nibabel.save(nibabel.Nifti1Image(IMAGE.T, AFFINE), path),
    "raw.nrrd": lambda path: nrrd.write(str(path), IMAGE.T, {"encoding": "raw", "space directions": np.eye(3)}),
    "packed.nrrd": lambda path: nrrd.write(str(path), IMAGE.T, {"encoding": "gzip"}),
    "plain.h5": hdf5,
    "packed.h5": lambda path: hdf5(path, compression="gzip"),
    "five.mat": lambda path: scipy.io.savemat(path, {"x": IMAGE.transpose(1, 2, 0)}),
    "packed.mat": lambda path: scipy.io.savemat(path, {"s": {"x": IMAGE.transpose(1, 2, 0)}}, do_compression=True),
    "seven.mat": mat73,
    "plain.npy": lambda path: np.save(path, IMAGE),
    "packed.npz": lambda path: np.savez_compressed(path, x=IMAGE),
    "grey.png": lambda path: Image.fromarray(IMAGE[0].astype(np.uint16)).save(path),
    "grey.jpg": lambda path: Image.fromarray(IMAGE[0].astype(np.uint8)).save(path),
    "plain.tif": lambda path: tifffile.imwrite(path, IMAGE, photometric="minisblack"),
    "packed.tif": lambda path: tifffile.imwrite(path, IMAGE, photometric="minisblack", compression="zlib"),
    "lzw.tif": lambda path: Image.fromarray(IMAGE[0].astype(np.uint8)).save(path, compression="tiff_lzw"),
    "bart.cfl": cfl,
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    for name, write in WRITERS.items():
        write(folder / name)
    return folder


def read_all(path: Path) -> Volume | None:
    """The volume with all slices read, None where it was refused as it should be; any other error passes."""
    try:
        volume = read(path)
        for index in range(min(len(volume), 1000)):
            assert volume.slice(index).shape == volume.shape[1:]
        return volume
    except ReadError as error:
        message = str(error)
    assert str(path.with_suffix("")) in message
    assert "\n" not in message
    return None


@pytest.mark.parametrize("name", WRITERS)
def test_the_whole_file_reads_and_survives_pickling(samples: Path, name: str) -> None:
    volume = read_all(samples / name)
    assert volume is not None
    assert volume.shape in ((3, 12, 10), (1, 12, 10))
    copy = pickle.loads(pickle.dumps(volume))
    for index in reversed(range(len(volume))):
        np.testing.assert_array_equal(copy.slice(index), volume.slice(index))
        if name != "grey.jpg":
            np.testing.assert_array_equal(volume.slice(index), IMAGE[index])


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_refused(samples: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    whole = (samples / name).read_bytes()
    keep = data.draw(st.integers(0, len(whole) - 1))
    damaged = tmp_path / name
    damaged.write_bytes(whole[:keep])
    if name == "bart.cfl":
        damaged.with_suffix(".hdr").write_bytes((samples / "bart.hdr").read_bytes())
    volume = read_all(damaged)
    if volume is not None:  # what was cut off was not image
        assert volume.shape == read(samples / name).shape
        for index in range(len(volume)):
            np.testing.assert_array_equal(volume.slice(index), read(samples / name).slice(index))


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_give_slices_or_one_line(samples: Path, tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray((samples / name).read_bytes())
    # Headers are at the start (and zip's and TIFF's at the end), where damage matters most.
    near = st.integers(0, min(len(content), 600) - 1)
    anywhere = st.integers(0, len(content) - 1)
    for position in data.draw(st.lists(st.one_of(near, anywhere), min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    damaged = tmp_path / name
    damaged.write_bytes(content)
    if name == "bart.cfl":
        damaged.with_suffix(".hdr").write_bytes((samples / "bart.hdr").read_bytes())
    read_all(damaged)


@pytest.mark.parametrize("name", ["packed.nii.gz", "packed.nrrd", "packed.npz", "grey.png"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_formats_with_checksums_never_give_other_values(
    samples: Path, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray((samples / name).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    damaged = tmp_path / name
    damaged.write_bytes(content)
    # NRRD's text header and the sizes in zip's and gzip's headers are outside the checksums.
    start = content.find(b"\x1f\x8b") if name.endswith("nrrd") else 0
    volume = read_all(damaged) if position >= start else None
    if volume is not None and volume.shape == read(samples / name).shape:
        np.testing.assert_array_equal(volume.slice(0), IMAGE[0])


@pytest.mark.parametrize("name", [n for n in WRITERS if n != "bart.cfl"])
@pytest.mark.parametrize("suffix", [".dcm", ".npy", ".cfl", ".tar", ""])
def test_the_content_decides_not_the_name(samples: Path, tmp_path: Path, name: str, suffix: str) -> None:
    renamed = tmp_path / f"renamed{suffix}"
    renamed.write_bytes((samples / name).read_bytes())
    np.testing.assert_array_equal(read(renamed).slice(0), read(samples / name).slice(0))


@pytest.mark.parametrize("name", [*WRITERS, "x.hdr", "x.nii", "x"])
@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"hello", b"<html>404</html>" * 40])
def test_files_of_nothing_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert read_all(path) is None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=700), signature=st.sampled_from([
    b"\x93NUMPY\x01\0", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"NRRD0004\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff",
    b"II*\0", b"MM\0*", b"II+\0", b"MATLAB 5.0 MAT-file", b"\x1f\x8b\x08", b"\0" * 128 + b"DICM", b"\x08\0\5\0CS",
    b"\x5c\1\0\0" + b"\0" * 340 + b"n+1\0",
]))  # fmt: skip
def test_a_signature_and_rubbish(tmp_path: Path, content: bytes, signature: bytes) -> None:
    path = tmp_path / "rubbish"
    path.write_bytes(signature + content)
    read_all(path)


def huge_nifti(path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 1000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(header.binaryblock + b"\0" * 4096)


def huge_gzip(path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((10000, 10000, 10000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * 4096))


def bomb_gzip(path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((2, 2, 2))
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * (64 << 20)))


def huge_npy(path: Path) -> None:
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**3, 10**3)}
        )


def huge_npz(path: Path) -> None:
    huge_npy(path.with_suffix(".npy"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".npy"), "x.npy")


def huge_nrrd(path: Path) -> None:
    path.write_bytes(
        b"NRRD0004\ntype: float\ndimension: 3\nsizes: 10000 10000 10000\nendian: little\nencoding: raw\n\n"
    )


def huge_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", (10**6, 10**6), "f4", chunks=(10, 10))
        dataset[0, 0] = 1


def huge_png(path: Path) -> None:
    Image.new("L", (8, 8)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 10**6, 10**6)
    path.write_bytes(content)


def huge_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageWidth"].overwrite(10**6)
        file.pages[0].tags["ImageLength"].overwrite(10**6)


def huge_cfl(path: Path) -> None:
    path.with_suffix(".hdr").write_text("# Dimensions\n1000000 1000000 1 1\n")
    path.write_bytes(b"\0" * 64)


def huge_dicom(path: Path) -> None:
    dicom(path)
    content = path.read_bytes()
    for tag in (b"\x28\0\x10\0US\2\0", b"\x28\0\x11\0US\2\0"):
        at = content.index(tag) + 8
        content = content[:at] + b"\xff\x7f" + content[at + 2 :]
    path.write_bytes(content)


@pytest.mark.parametrize("write", [
    huge_nifti, huge_gzip, bomb_gzip, huge_npy, huge_npz, huge_nrrd, huge_hdf5, huge_png, huge_tiff, huge_cfl,
    huge_dicom,
])  # fmt: skip
def test_a_header_that_claims_too_much_is_refused_before_allocation(tmp_path: Path, write: Callable) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "huge.cfl"  # BART's name: the others are known by content
    write(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_all(path) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return os.mkdir, (str(tmp_path / "sprung"),)

    objects = np.array([[Trap(), Trap()]], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=objects)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Trap()))
    for name in ("x.npy", "x.npz", "x.pkl"):
        assert read_all(tmp_path / name) is None
    assert not (tmp_path / "sprung").exists()


def test_other_files_are_never_followed(tmp_path: Path) -> None:
    hdf5(tmp_path / "target.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["x"] = h5py.ExternalLink("target.h5", "data")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("x", (12, 10), "u1", external=[(str(tmp_path / "target.h5"), 0, 120)])
    layout = h5py.VirtualLayout((12, 10), "i2")
    layout[:] = h5py.VirtualSource(tmp_path / "target.h5", "data", (3, 12, 10))[0]
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    (tmp_path / "detached.nrrd").write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 10 12\nencoding: raw\ndata file: target.h5\n\n"
    )
    for name in ("link.h5", "outside.h5", "virtual.h5", "detached.nrrd"):
        assert read_all(tmp_path / name) is None


def test_tiff_pages_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, IMAGE, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        offsets = [page.offset for page in file.pages]
    content = bytearray(path.read_bytes())
    (entries,) = struct.unpack_from("<H", content, offsets[-1])
    struct.pack_into("<I", content, offsets[-1] + 2 + 12 * entries, offsets[0])
    path.write_bytes(content)
    assert read_all(path) is None


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    for path in (tmp_path / "pipe.npy", tmp_path / "absent.npy", tmp_path, Path("/dev/zero")):
        assert read_all(path) is None


def test_a_file_that_changes_after_it_was_opened_is_refused(samples: Path, tmp_path: Path) -> None:
    for name in WRITERS:
        path = tmp_path / name
        path.write_bytes((samples / name).read_bytes())
        if name == "bart.cfl":
            path.with_suffix(".hdr").write_bytes((samples / "bart.hdr").read_bytes())
        volume = read(path)
        path.unlink()
        if name not in ("five.mat", "packed.mat"):  # these are in memory
            with pytest.raises(ReadError, match="no such file"):
                volume.slice(0)
