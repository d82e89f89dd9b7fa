"""Readers against what was written, and against nibabel, pynrrd, SciPy and h5py as second opinions."""

from __future__ import annotations

import gzip
import pickle
import zlib
from pathlib import Path

import h5py
import nibabel
import nrrd
import numpy as np
import pytest
import scipy.io
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.data import deflate
from isocenter.data.deflate import GzipReader
from isocenter.data.mat5 import list_arrays, load_array
from isocenter.data.read import read
from isocenter.data.volume import ReadError, Volume
from PIL import Image

RNG = np.random.default_rng(0)
VOLUME = RNG.normal(size=(5, 7, 6))  # slices, rows, columns
COMPLEX = (VOLUME + 1j * RNG.normal(size=VOLUME.shape)).astype(np.complex64)


def stack(volume: Volume) -> np.ndarray:
    return np.stack(list(volume))


# --- NIfTI and NRRD -----------------------------------------------------------------------------------------------

# Image axes in the patient: every NIfTI volume below holds the same anatomy in another storage order.
ORIENTATIONS = ["LPS", "RAS", "LAS", "RPS", "PLS", "ARS"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_axial_nifti_is_upright_whatever_its_storage_order(tmp_path: Path, codes: str, suffix: str) -> None:
    """Rows to posterior, columns to the left: what nibabel's own reorientation to LPS gives."""
    image = nibabel.Nifti1Image(VOLUME.T.astype(np.float32), np.diag([-2.0, -3.0, 4.0, 1.0]))  # stored as LPS
    to = nibabel.orientations.axcodes2ornt(codes)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(image.affine), to)
    )
    nibabel.save(turned, tmp_path / f"x{suffix}")
    volume = read(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(stack(volume), VOLUME.astype(np.float32))
    assert volume.metadata.spacing == (3, 2)
    assert volume.metadata.slice_spacing == 4


@pytest.mark.parametrize(("codes", "rows", "columns"), [("LSA", "I", "L"), ("ASR", "I", "P"), ("SPL", "I", "P")])
def test_coronal_and_sagittal_slices_have_the_head_up(tmp_path: Path, codes: str, rows: str, columns: str) -> None:
    x, y, z = np.meshgrid(*(np.arange(n) for n in (4, 5, 6)), indexing="ij")
    ras = nibabel.Nifti1Image((x + 10 * y + 100 * z).astype(np.int16), np.eye(4))
    ornt = nibabel.orientations.axcodes2ornt
    nibabel.save(ras.as_reoriented(nibabel.orientations.ornt_transform(ornt("RAS"), ornt(codes))), tmp_path / "x.nii")
    slice_ = read(tmp_path / "x.nii").slice(0)
    step = {"L": -1, "P": -10, "I": -100}
    assert np.all(np.diff(slice_, axis=0) == step[rows])
    assert np.all(np.diff(slice_, axis=1) == step[columns])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, np.complex64])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti_values_are_nibabels(tmp_path: Path, dtype: type, kind: type) -> None:
    values = (100 * np.abs(COMPLEX)).astype(dtype)
    image = kind(np.stack([values.T, 2 * values.T], axis=3), np.diag([-1, -1, 1, 1]))
    if dtype == np.int16:
        image.header.set_slope_inter(0.5, -7)
    nibabel.save(image, tmp_path / "x.nii")
    volume = read(tmp_path / "x.nii")
    reference = np.asarray(nibabel.load(tmp_path / "x.nii").dataobj)
    assert volume.dtype == (np.complex64 if dtype == np.complex64 else np.float32)
    np.testing.assert_allclose(stack(volume), reference.T.reshape(10, 7, 6), rtol=1e-6)


def test_nifti_spacing_is_in_millimetres(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOLUME.T, np.diag([-200, -300, 400, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "x.nii")
    assert read(tmp_path / "x.nii").metadata.spacing == pytest.approx((0.3, 0.2))


def test_real_nifti_and_nrrd(shared_data: Path) -> None:
    path = shared_data / "mri/open_ms/patient01_study1_T2W.nii.gz"
    volume, image = read(path), nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(volume.slice(20), np.asarray(image.dataobj)[::-1, ::-1, 20].T)
    path = shared_data / "mri/pyradiomics/brain1_image.nrrd"
    values, header = nrrd.read(str(path))
    np.testing.assert_array_equal(read(path).slice(7), values[:, ::-1, 7].T)  # stored to anterior
    assert read(path).metadata.slice_spacing == pytest.approx(np.linalg.norm(header["space directions"][2]))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_nrrd_is_upright(tmp_path: Path, encoding: str, endian: str) -> None:
    directions = np.diag([-2.0, 3.0, 4.0])  # columns to the right in left-posterior-superior
    header = {
        "space": "left-posterior-superior",
        "space directions": directions,
        "encoding": encoding,
        "endian": endian,
    }
    values = VOLUME[:, :, ::-1].T.astype(">f4" if endian == "big" else "<f4")
    nrrd.write(str(tmp_path / "x.nrrd"), values, header)
    volume = read(tmp_path / "x.nrrd")
    np.testing.assert_array_equal(stack(volume), VOLUME.astype(np.float32))
    assert volume.metadata.spacing == (3, 2)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**7 - 1), st.integers(1, 10**5)), min_size=1, max_size=6), st.booleans())
def test_gzip_reads_anywhere_like_the_inflated_bytes(
    gzip_sample: tuple[str, bytes, GzipReader], reads: list[tuple[int, int]], fresh: bool
) -> None:
    path, content, shared = gzip_sample
    reader = GzipReader(path, 0, len(content)) if fresh else shared
    for position, count in reads:
        count = min(count, len(content) - position)
        assert reader.read(position, count) == content[position : position + count]


@pytest.fixture(scope="module")
def gzip_sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, GzipReader]:
    content = (RNG.normal(size=10**7) * 3).astype(np.int8).tobytes()
    path = tmp_path_factory.mktemp("gzip") / "x.gz"
    path.write_bytes(gzip.compress(content[: 6 * 10**6], 1) + gzip.compress(content[6 * 10**6 :], 1))  # two members
    return str(path), content, GzipReader(path, 0, len(content))


def test_slices_of_a_gzipped_volume_do_not_inflate_it_from_the_start(
    gzip_sample: tuple[str, bytes, GzipReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content, _ = gzip_sample
    reader = GzipReader(path, 0, len(content))
    reader.read(0, 1)
    inflated = 0
    advance = deflate._advance

    def counted(*arguments: object) -> bytes | None:
        nonlocal inflated
        piece = advance(*arguments)
        inflated += len(piece or b"")
        return piece

    monkeypatch.setattr(deflate, "_advance", counted)
    for position in range(0, len(content), 10**5):
        reader.read(position, 10**5)
    assert inflated < 2.5 * len(content)  # in sequence: little more than once through
    inflated = 0
    reader.read(9 * 10**6, 100)
    assert inflated < 4 * 10**6


# --- arrays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [VOLUME, COMPLEX, VOLUME[0], np.asfortranarray(VOLUME), VOLUME > 0, VOLUME.astype(">i2")]
)
def test_npy_and_npz(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", values)
    np.savez(tmp_path / "x.npz", image=values, angles=np.arange(3))
    expected = values if values.ndim == 3 else values[None]
    kind = np.complex64 if values.dtype.kind == "c" else np.float32
    for name in ("x.npy", "x.npz"):
        volume = read(tmp_path / name)
        np.testing.assert_array_equal(stack(volume), expected.astype(kind))
        assert volume.dtype == stack(volume).dtype == kind


def test_multi_coil_slices_keep_their_coils(tmp_path: Path) -> None:
    kspace = np.stack([COMPLEX, 2 * COMPLEX], axis=1)  # slices, coils, rows, columns
    np.save(tmp_path / "x.npy", kspace)
    volume = read(tmp_path / "x.npy")
    assert volume.shape == (5, 2, 7, 6)
    np.testing.assert_array_equal(volume.slice(3), kspace[3])


def test_several_arrays_are_listed_and_chosen_by_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=VOLUME, b=VOLUME[0], c=np.arange(3))
    with pytest.raises(ReadError, match=r"choose one with key=: a \(5 × 7 × 6\), b \(7 × 6\), c \(3\)"):
        read(tmp_path / "x.npz")
    np.testing.assert_array_equal(read(tmp_path / "x.npz", key="b").slice(0), VOLUME[0].astype(np.float32))
    for key, reason in (("d", "no numeric array 'd'; it has a"), ("c", "c is 3, expected two axes")):
        with pytest.raises(ReadError, match=reason):
            read(tmp_path / "x.npz", key=key)
    np.save(tmp_path / "x.npy", VOLUME)
    with pytest.raises(ReadError, match="read without a key"):
        read(tmp_path / "x.npy", key="a")


@pytest.mark.parametrize("name", ["x", "x.cfl", "x.hdr"])
def test_bart(tmp_path: Path, name: str) -> None:
    values = RNG.normal(size=(7, 6, 2, 3, 1, 4)) + 1j  # rows, columns, slices, coils, maps, echoes
    (tmp_path / "x.hdr").write_text(f"# Dimensions\n{' '.join(map(str, values.shape))} 1 1 1\n# Command\nphantom\n")
    (tmp_path / "x.cfl").write_bytes(values.astype("<c8").tobytes("F"))
    volume = read(tmp_path / name)
    assert volume.shape == (8, 3, 7, 6)
    for echo in range(4):
        for depth in range(2):
            expected = values[:, :, depth, :, 0, echo].transpose(2, 0, 1).astype(np.complex64)
            np.testing.assert_array_equal(volume.slice(2 * echo + depth), expected)


# --- HDF5 and MATLAB ----------------------------------------------------------------------------------------------

HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>640</x><y>368</y><z>1</z></matrixSize>
<fieldOfView_mm><x>280</x><y>161</y><z>4.5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>320</x><y>320</y><z>1</z></matrixSize>
<fieldOfView_mm><x>140</x><y>140</y><z>4.5</z></fieldOfView_mm></reconSpace></encoding></ismrmrdHeader>"""


def test_fastmri(tmp_path: Path) -> None:
    kspace = np.stack([COMPLEX, 2 * COMPLEX], axis=1)
    with h5py.File(tmp_path / "file1.h5", "w") as file:
        file["kspace"], file["reconstruction_rss"], file["mask"] = kspace, VOLUME, np.ones(6)
        file["ismrmrd_header"] = HEADER
        file.attrs["patient_id"] = "p7"
    volume = read(tmp_path / "file1.h5")
    np.testing.assert_array_equal(stack(volume), kspace)
    assert volume.metadata.spacing == pytest.approx((280 / 640, 161 / 368))
    assert (volume.metadata.patient, volume.metadata.modality) == ("p7", "MR")
    images = read(tmp_path / "file1.h5", key="reconstruction_rss")
    np.testing.assert_array_equal(stack(images), VOLUME.astype(np.float32))
    assert images.metadata.spacing == pytest.approx((0.4375, 0.4375))


def test_lodopab_and_groups(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.create_dataset("data", data=VOLUME.astype(np.float32), chunks=(1, 7, 6), compression="gzip")
    np.testing.assert_array_equal(stack(read(tmp_path / "x.hdf5")), VOLUME.astype(np.float32))
    with h5py.File(tmp_path / "x.hdf5", "a") as file:
        file["group/other"] = COMPLEX
    with pytest.raises(ReadError, match=r"data \(5 × 7 × 6\), group/other \(5 × 7 × 6\)"):
        read(tmp_path / "x.hdf5")
    np.testing.assert_array_equal(stack(read(tmp_path / "x.hdf5", key="/group/other")), COMPLEX)


def test_real_hdf5(shared_data: Path) -> None:
    path = shared_data / "sinogram/tomopy_tooth/tooth.h5"
    with pytest.raises(ReadError, match="exchange/data "):
        read(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(stack(read(path, key="exchange/data")), file["exchange/data"][()])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u2", "i8", "c16", "bool"])
def test_mat5_values_are_scipys(tmp_path: Path, dtype: str, packed: bool) -> None:
    values = (100 * COMPLEX).astype(dtype) if dtype == "c16" else (100 * VOLUME).astype(dtype)
    inside = {"deep": {"image": values[0]}, "name": "text", "list": np.array([1, "a"], dtype=object)}
    scipy.io.savemat(tmp_path / "x.mat", {"a": values, "s": inside, "t": "text"}, do_compression=packed)
    assert list_arrays(str(tmp_path / "x.mat")) == {"a": (5, 7, 6), "s/deep/image": (7, 6)}
    np.testing.assert_array_equal(load_array(str(tmp_path / "x.mat"), "a"), scipy.io.loadmat(tmp_path / "x.mat")["a"])
    # The last axis counts slices, as users of MATLAB stack images.
    volume = read(tmp_path / "x.mat", key="a")
    np.testing.assert_array_equal(stack(volume), np.moveaxis(values, 2, 0).astype(volume.dtype))
    np.testing.assert_array_equal(read(tmp_path / "x.mat", key="s/deep/image").slice(0), values[0].astype(volume.dtype))


def test_mat73_gives_what_mat5_gives(tmp_path: Path) -> None:
    values = RNG.normal(size=(7, 6, 2, 4)) + 1j * RNG.normal(size=(7, 6, 2, 4))  # rows, columns, coils, slices
    scipy.io.savemat(tmp_path / "five.mat", {"x": values})
    pair = np.empty(values.T.shape, [("real", "f8"), ("imag", "f8")])
    pair["real"], pair["imag"] = values.T.real, values.T.imag
    with h5py.File(tmp_path / "seven.mat", "w", userblock_size=512) as file:
        file.create_dataset("x", data=pair).attrs["MATLAB_class"] = np.bytes_("double")
        file.create_dataset("text", data=np.ones((5, 2), "u2")).attrs["MATLAB_class"] = np.bytes_("char")
    with open(tmp_path / "seven.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    for name in ("five.mat", "seven.mat"):
        volume = read(tmp_path / name)
        assert volume.shape == (4, 2, 7, 6)
        np.testing.assert_array_equal(volume.slice(3)[1], values[:, :, 1, 3].astype(np.complex64))


def test_real_mat(shared_data: Path) -> None:
    path = shared_data / "mri/deep_admm_net/chest/im-01.mat"
    with h5py.File(path) as file:
        np.testing.assert_array_equal(read(path).slice(0), file["im_ori"][()].T.astype(np.float32))
    path = shared_data / "sinogram/htc2022/30_tb_subsample.mat"  # version 5; its neighbours are 7.3
    reference = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)["CtDataLimited"].sinogram
    np.testing.assert_array_equal(read(path, key="CtDataLimited/sinogram").slice(0), reference.astype(np.float32))
    assert read(shared_data / "sinogram/htc2022/30_ta_subsample73.mat").shape == (1, 61, 560)  # views × detectors


# --- pictures -----------------------------------------------------------------------------------------------------

GREY = (np.arange(35) * 1871 % 65521).astype(np.uint16).reshape(5, 7)


@pytest.mark.parametrize("values", [GREY, GREY.astype(np.uint8), GREY > 20000])
def test_png_values_are_exact(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read(tmp_path / "x.png").slice(0), values)


def test_colour_is_read_where_it_is_grey_and_refused_elsewhere(tmp_path: Path) -> None:
    grey = GREY.astype(np.uint8)
    opaque = np.full_like(grey, 255)
    for mode, channels in (("RGB", [grey] * 3), ("RGBA", [*[grey] * 3, opaque]), ("LA", [grey, opaque])):
        Image.fromarray(np.stack(channels, -1), mode).save(tmp_path / "x.png")
        np.testing.assert_array_equal(read(tmp_path / "x.png").slice(0), grey)
    Image.fromarray(grey).convert("P").save(tmp_path / "x.png")
    np.testing.assert_array_equal(read(tmp_path / "x.png").slice(0), grey)
    Image.fromarray(np.stack([grey, opaque, grey], -1)).save(tmp_path / "x.png")
    with pytest.raises(ReadError, match="colour"):
        read(tmp_path / "x.png")
    Image.fromarray(np.stack([grey, grey], -1), "LA").save(tmp_path / "x.png")
    with pytest.raises(ReadError, match="transparent"):
        read(tmp_path / "x.png")


def test_sixteen_bit_colour_png_is_refused_since_it_would_lose_bits(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = b"".join(b"\0" + row.astype(">u2").repeat(3).tobytes() for row in GREY)
    header = (7).to_bytes(4, "big") + (5).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(ReadError, match="16-bit PNG with colour"):
        read(tmp_path / "x.png")


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_stacks(tmp_path: Path, dtype: str, compression: str | None, byteorder: str) -> None:
    values = (100 * np.abs(VOLUME)).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", values, compression=compression, byteorder=byteorder, photometric="minisblack")
    np.testing.assert_array_equal(stack(read(tmp_path / "x.tif")), values.astype(np.float32))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_where_white_is_zero_is_inverted(tmp_path: Path, compression: str | None) -> None:
    grey = GREY.astype(np.uint8)
    Image.fromarray(255 - grey).save(tmp_path / "x.tif", compression=compression, tiffinfo={262: 0})
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert file.pages[0].photometric == 0
    plain = read(tmp_path / "x.tif").slice(0)
    np.testing.assert_array_equal(plain, np.asarray(Image.open(tmp_path / "x.tif")))


def test_lzw_tiff_of_several_pages(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY // k) for k in (1, 2, 3)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    np.testing.assert_array_equal(stack(read(tmp_path / "x.tif")), [GREY // k for k in (1, 2, 3)])


def test_jpeg_is_labelled_lossy(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    for image in (Image.fromarray(ramp), Image.fromarray(ramp).convert("RGB")):
        image.save(tmp_path / "x.jpg", quality=95)
        volume = read(tmp_path / "x.jpg")
        assert np.abs(volume.slice(0) - ramp).max() <= 3
        assert volume.metadata.labels == ("lossy compression",)


# --- the contract -------------------------------------------------------------------------------------------------


def test_slices_out_of_range_are_index_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VOLUME)
    volume = read(tmp_path / "x.npy")
    for index in (-1, 5):
        with pytest.raises(IndexError, match="of 5"):
            volume.slice(index)


def test_nan_and_infinity_are_passed_on(tmp_path: Path) -> None:
    values = np.array([[np.nan, np.inf], [1e300, 0]])
    np.save(tmp_path / "x.npy", values)
    np.testing.assert_array_equal(read(tmp_path / "x.npy").slice(0), [[np.nan, np.inf], [np.inf, 0]])


def test_errors_survive_the_way_back_from_another_process(tmp_path: Path) -> None:
    with pytest.raises(ReadError) as caught:
        read(tmp_path / "absent.nii")
    assert (
        str(pickle.loads(pickle.dumps(caught.value)))
        == str(caught.value)
        == (f"{tmp_path / 'absent.nii'}: there is no such file; check the path")
    )
