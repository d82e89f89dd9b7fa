"""DICOM: every awkward file decodes right or is refused in one line; series in order; values as they are meant."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pydicom
import pytest
from isocenter.data.dicom_pixels import check_codestream
from isocenter.data.read import read
from isocenter.data.volume import ReadError, Refused, Volume
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

CT = "cornerstone/CTImage.dcm_{}.dcm"
LITTLE = CT.format("LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1")

# Why each file that is refused must be; all others decode.
REFUSED = {
    CT.format("JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55"): "no decoder",
    CT.format("JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53"): "no decoder",
    "cornerstone/no-pixel-data.dcm": "no pixel data",
    "cornerstone/no-pixel-spacing.dcm": "colour",
    "pydicom/ExplVR_BigEnd.dcm": "colour",
    "pydicom/SC_rgb_small_odd.dcm": "colour",
    "pydicom/JPEG-lossy.dcm": "cannot be decoded",  # an illegal scan header
    "pydicom/JPEG2000-embedded-sequence-delimiter.dcm": "compressed as 1024 × 3722445056",
    "pydicom/MR_truncated.dcm": "truncated: 8130 of the 8192 bytes",
    "pydicom/badVR.dcm": "cannot be decoded",  # NumberOfFrames is "1A"
    "pydicom/liver_1frame.dcm": "describes 3 frames and has 1",
    "pydicom/meta_missing_tsyntax.dcm": "has pixel data but no Rows",
    "pydicom/no_meta.dcm": "not begin like",  # a stray byte before the first element
    "pydicom_data/emri_small_jpeg_2k_lossless_too_short.dcm": "truncated",
    "pydicom_data/liver_rle.dcm": "1 bits allocated",
}

# Lossless files and the uncompressed image that they must equal, bit for bit.
IDENTICAL = {
    **{
        CT.format(name): LITTLE
        for name in (
            "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
            "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
            "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
            "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
            "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
            "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
            "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
            "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
        )
    },
    **{
        f"pydicom/MR_small_{name}.dcm": "pydicom/MR_small.dcm"
        for name in ("RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded")
    },
    **{
        f"pydicom_data/emri_small_{name}.dcm": "pydicom_data/emri_small.dcm"
        for name in ("RLE", "big_endian", "jpeg_2k_lossless", "jpeg_ls_lossless")
    },
    "pydicom_data/693_J2KR.dcm": "pydicom_data/693_UNCR.dcm",
    "pydicom/rtdose_rle.dcm": "pydicom/rtdose.dcm",
}

# Lossy files, the original, and the least correlation of tissue that their compression (up to 150-fold) left.
CLOSE = {
    CT.format("JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91"): (LITTLE, 0.999),
    CT.format("JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81"): (LITTLE, 0.999),
    CT.format("JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51"): (LITTLE, 0.999),
    CT.format("JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50"): (LITTLE, 0.998),  # 32 HU a step
    "pydicom/693_J2KI.dcm": ("pydicom_data/693_UNCR.dcm", 0.94),
    "pydicom/JPGExtended.dcm": ("pydicom_data/JPEG-LL.dcm", 0.98),
    "pydicom/JPEG2000.dcm": ("pydicom_data/JPEG-LL.dcm", 0.94),
    "pydicom_data/MR2_J2KI.dcm": ("pydicom_data/MR2_J2KR.dcm", 0.998),
}


def stack(volume: Volume) -> np.ndarray:
    return np.stack(list(volume))


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "dicom"


def test_every_file_decodes_or_is_refused_for_its_reason(folder: Path) -> None:
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(names) > 60
    for name in names:
        if name in REFUSED:
            with pytest.raises(ReadError, match=REFUSED[name]) as caught:
                stack(read(folder / name))
            assert str(folder / name) in str(caught.value)
            assert "\n" not in str(caught.value)
        else:
            values = stack(read(folder / name))
            assert np.isfinite(values).all()
            assert values.std() > 0, name


@pytest.mark.parametrize("name", IDENTICAL)
def test_lossless_syntaxes_are_bit_identical(folder: Path, name: str) -> None:
    np.testing.assert_array_equal(stack(read(folder / name)), stack(read(folder / IDENTICAL[name])))


@pytest.mark.parametrize("name", CLOSE)
def test_lossy_syntaxes_are_close_and_labelled(folder: Path, name: str) -> None:
    original, bound = CLOSE[name]
    volume = read(folder / name)
    assert volume.metadata.labels == ("lossy compression",)
    # Compression moves padding away from its value, and then it is not known for air: from -1000 on all is equal.
    lossy, lossless = (np.maximum(stack(v), -1000) for v in (volume, read(folder / original)))
    assert np.corrcoef(lossy.ravel(), lossless.ravel())[0, 1] > bound
    assert abs(lossy.mean() - lossless.mean()) < 0.04 * lossless.std()  # half a step of 32 HU, one of 278 levels


def test_values_are_those_of_the_uncompressed_bytes(folder: Path) -> None:
    """Against the file's own bytes: the image is the last 512 × 512 words."""
    stored = np.frombuffer((folder / LITTLE).read_bytes()[-2 * 512 * 512 :], "<i2").reshape(512, 512)
    volume = read(folder / LITTLE)
    np.testing.assert_array_equal(volume.slice(0), stored - 1024.0)
    assert volume.metadata.units == "HU"
    assert volume.metadata.spacing == (0.675781, 0.675781)
    assert volume.metadata.modality == "CT"
    assert volume.metadata.patient == "2178309"


def test_padding_in_hounsfield_units_is_air(folder: Path) -> None:
    stored = pydicom.dcmread(folder / "pydicom_data/693_UNCR.dcm").pixel_array
    values = read(folder / "pydicom_data/693_UNCR.dcm").slice(0)
    assert (stored == -2000).any()
    np.testing.assert_array_equal(values, np.where(stored == -2000, -1000, stored - 1024.0))


def test_modality_lut(folder: Path) -> None:
    header = pydicom.dcmread(folder / "pydicom_data/mlut_18.dcm")
    lut = header.ModalityLUTSequence[0]
    count, first, _ = lut.LUTDescriptor
    where = np.clip(header.pixel_array.astype(int) - first, 0, (count or 65536) - 1)
    np.testing.assert_array_equal(
        read(folder / "pydicom_data/mlut_18.dcm").slice(0), np.asarray(lut.LUTData, float)[where]
    )


def test_frames_are_ordered_by_position_and_rescaled_by_functional_groups(folder: Path) -> None:
    path = folder / "pydicom_data/eCT_Supplemental.dcm"  # stored from -159 mm to -149 mm along (0, 0, 1)
    stored = pydicom.dcmread(path).pixel_array
    volume = read(path)
    # Its axes are (-1, 0, 0), (0, 1, 0), so the normal is (0, 0, -1) and the order is reversed.
    np.testing.assert_array_equal(stack(volume), stored[::-1] - 1024.0)
    assert volume.metadata.slice_spacing == pytest.approx(10)
    assert volume.metadata.spacing == (0.388672, 0.388672)
    assert volume.metadata.units is None  # blood flow in a CT file


def test_dose_is_in_gray(folder: Path) -> None:
    header = pydicom.dcmread(folder / "pydicom/rtdose.dcm")
    volume = read(folder / "pydicom/rtdose.dcm")
    np.testing.assert_allclose(stack(volume), header.pixel_array * 1e-6, rtol=1e-6)
    assert volume.metadata.slice_spacing == 5


def test_a_tilted_series_is_in_order_from_any_file_order(shared_data: Path) -> None:
    volume = read(shared_data / "ct/ge_head")
    assert volume.shape == (28, 512, 512)
    assert volume.metadata.units == "HU"
    assert volume.metadata.slice_spacing is None  # 4 mm through the skull base, 7 mm above
    headers = [pydicom.dcmread(path) for path in (shared_data / "ct/ge_head").glob("*.dcm")]
    headers.sort(key=lambda header: header.ImagePositionPatient[2])
    for index in (0, 13, 27):
        stored = headers[index].pixel_array  # intercept 0, padding -1500 around the field of view
        np.testing.assert_array_equal(volume.slice(index), np.where(stored == -1500, -1000, stored))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).slice(5), volume.slice(5))


def test_a_folder_of_many_series_lists_them(shared_data: Path) -> None:
    with pytest.raises(ReadError, match=r"holds 30 series; choose one with key=.*and 20 more"):
        read(shared_data / "ct/tcga_lung")
    series = read(next((shared_data / "ct/tcga_lung").glob("*.dcm"))).metadata.series
    assert read(shared_data / "ct/tcga_lung", key=series).metadata.series == series


def make(path: Path | io.BytesIO, image: np.ndarray, **elements: object) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID, header.SeriesInstanceUID = CTImageStorage, generate_uid(), "1.2.3"
    header.Modality, header.PatientID = "CT", "one"
    header.Rows, header.Columns = image.shape[-2:]
    header.BitsAllocated = header.BitsStored = 8 * image.itemsize
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, int(image.dtype.kind == "i")
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.PixelSpacing = [0.5, 0.25]
    header.PixelData = image.tobytes()
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    header.save_as(path, enforce_file_format=True)
    return header


IMAGE = (np.arange(6 * 4) * 97 % 4096).astype(np.uint16).reshape(6, 4)


def place(z: float, tilt: float = 0.0) -> dict[str, list[float]]:
    axes = [1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)]
    return {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": [round(float(a), 6) for a in axes]}


def test_slices_are_rescaled_each_by_its_own_slope(tmp_path: Path) -> None:
    for i, z in enumerate((6.0, 0.0, 3.0)):
        make(tmp_path / f"{i}", IMAGE, RescaleSlope=i + 1, RescaleIntercept=-10 * i, InstanceNumber=i, **place(z, 0.3))
    volume = read(tmp_path)
    np.testing.assert_array_equal(stack(volume), [IMAGE * 2.0 - 10, IMAGE * 3.0 - 20, IMAGE])
    assert volume.metadata.slice_spacing == pytest.approx(3 * np.cos(0.3), rel=1e-5)  # along the tilted normal
    assert volume.metadata.spacing == (0.5, 0.25)


def test_without_positions_the_instance_number_orders(tmp_path: Path) -> None:
    for name, number in (("a", 10), ("b", 9), ("c", 11)):
        make(tmp_path / name, IMAGE + np.uint16(number), InstanceNumber=number)
    (tmp_path / "notes.txt").write_text("not an image")
    np.testing.assert_array_equal(stack(read(tmp_path))[:, 0, 0] - IMAGE[0, 0], [9, 10, 11])
    make(tmp_path / "d", IMAGE, InstanceNumber=10)
    with pytest.raises(ReadError, match="order is unknown"):
        read(tmp_path)


def test_series_that_are_no_stack_are_refused(tmp_path: Path) -> None:
    def refused(reason: str, image: np.ndarray = IMAGE, **elements: object) -> None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        make(folder / "first", IMAGE, InstanceNumber=1, **place(0))
        make(folder / "second", image, **{"InstanceNumber": 2, **place(3), **elements})
        with pytest.raises(ReadError, match=reason):
            read(folder)

    refused("4 × 4 and 6 × 4", IMAGE[:4].copy())
    refused("several orientations", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    refused("different pixel spacing", PixelSpacing=[1, 1])
    refused("HU", RescaleSlope=1, RescaleIntercept=0)
    refused("second: is truncated", Rows=400)


def test_a_duplicated_or_damaged_slice_is_no_gap(tmp_path: Path) -> None:
    make(tmp_path / "a", IMAGE, **place(0))
    (tmp_path / "a copy").write_bytes((tmp_path / "a").read_bytes())
    with pytest.raises(ReadError, match="same image as"):
        read(tmp_path)
    make(tmp_path / "a copy", IMAGE, **place(3))
    (tmp_path / "a copy").write_bytes((tmp_path / "a copy").read_bytes()[:-20])
    with pytest.raises(ReadError, match="a copy: is truncated"):
        read(tmp_path)


@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_inverted_within_its_bits(tmp_path: Path, signed: bool) -> None:
    image = IMAGE.astype(np.int16) - 2048 if signed else IMAGE
    make(
        tmp_path / "x", image, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, Modality="CR",
        RescaleSlope=2, RescaleIntercept=1,
    )  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "x").slice(0), 2.0 * ((-1 if signed else 4095) - image) + 1)


def test_bits_that_are_not_stored_are_ignored(tmp_path: Path) -> None:
    make(tmp_path / "overlay", IMAGE | 0x7000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read(tmp_path / "overlay").slice(0), IMAGE)
    signed = (IMAGE.astype(int) - 2048).astype(np.int16)
    make(tmp_path / "signed", signed & 0x0FFF, BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(read(tmp_path / "signed").slice(0), signed)


def test_packed_bits_of_frames_that_share_bytes(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((3, 5, 5)) < 0.5  # 25 bits a frame
    packed = np.packbits(masks.ravel(), bitorder="little").tobytes()
    make(
        tmp_path / "x", np.zeros((5, 5), np.uint8), NumberOfFrames=3, BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelData=packed + b"\0" * (len(packed) % 2), Modality="SEG",
    )  # fmt: skip
    np.testing.assert_array_equal(stack(read(tmp_path / "x")), masks)


def test_per_frame_rescaling_and_spacing(tmp_path: Path) -> None:
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = Sequence([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = Sequence([Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = [2, 1]
    for z, slope in ((4, 1), (2, 2), (0, 3)):
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([Dataset()])
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, z]
        frame.PixelValueTransformationSequence = Sequence([Dataset()])
        transform = frame.PixelValueTransformationSequence[0]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = slope, -5, "HU"
        frames.append(frame)
    make(
        tmp_path / "x", np.stack([IMAGE] * 3), NumberOfFrames=3, SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
    )  # fmt: skip
    volume = read(tmp_path / "x")
    np.testing.assert_array_equal(stack(volume), [IMAGE * 3.0 - 5, IMAGE * 2.0 - 5, IMAGE - 5.0])
    assert (volume.metadata.slice_spacing, volume.metadata.spacing) == (2, (2, 1))
    assert volume.metadata.units == "HU"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_without_preamble_and_meta_header(tmp_path: Path, syntax: str) -> None:
    header = make(tmp_path / "whole", IMAGE)
    with open(tmp_path / "bare", "wb") as file:
        pydicom.dcmwrite(file, Dataset(dict(header)), implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    np.testing.assert_array_equal(read(tmp_path / "bare").slice(0), IMAGE)


def test_codestreams_of_another_size_are_refused_before_decoding(folder: Path) -> None:
    for name in ("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"):
        header = pydicom.dcmread(folder / f"pydicom/{name}.dcm")
        frame = pydicom.encaps.get_frame(header.PixelData, 0, number_of_frames=1)
        check_codestream(frame, 0, 64, 64, 16)
        with pytest.raises(Refused, match="compressed as 64 × 64, the header says 64 × 65"):
            check_codestream(frame, 0, 64, 65, 16)
        with pytest.raises(Refused, match="no end"):
            check_codestream(frame[:-40], 0, 64, 64, 16)
