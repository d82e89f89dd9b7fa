"""Breast, head and torso: independence of index, agreement over resolutions, values that tissues have."""

import numpy as np
import pytest
from isocenter.data import breast as breast_module
from isocenter.data.breast import ADIPOSE, FIBROGLANDULAR, FIELD_MM, SPECKS, breast
from isocenter.data.canvas import Canvas
from isocenter.data.head import head
from isocenter.data.random_fields import smooth_field, texture
from isocenter.data.torso import torso
from scipy import ndimage
from skimage.restoration import denoise_tv_chambolle


def halved(image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape
    return image.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))


def contrast_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b - b.mean()))


def gradients(image: np.ndarray) -> int:
    """Pixels with a non-zero forward difference."""
    return int(((np.diff(image, axis=0, append=0) != 0) | (np.diff(image, axis=1, append=0) != 0)).sum())


PHANTOMS = {
    "breast": lambda seed, k, n: breast(seed, k, n),
    "head": lambda seed, k, n: head(seed, k, (n, n)),
    "torso": lambda seed, k, n: torso(seed, k, (n, n)),
}


@pytest.mark.parametrize("draw", PHANTOMS.values(), ids=PHANTOMS.keys())
def test_image_k_depends_on_seed_and_k_alone(draw):
    forwards = [draw(5, k, 64) for k in range(4)]
    assert np.array_equal(draw(5, 3, 64), forwards[3])
    assert all(not np.array_equal(forwards[i], forwards[j]) for i in range(4) for j in range(i))
    assert not np.array_equal(draw(6, 3, 64), forwards[3])
    assert forwards[0].dtype == np.float32
    assert np.isfinite(forwards).all()


@pytest.mark.parametrize("cells", [2, 9, 40])
def test_smooth_fields_of_half_the_size_are_block_means(cells):
    fine, coarse = (smooth_field(np.random.default_rng(1), cells, (n, n + n // 4)) for n in (128, 64))
    np.testing.assert_allclose(halved(fine), coarse, atol=1e-12)


def test_smooth_fields_have_unit_variance():
    rng = np.random.default_rng(0)
    assert np.mean([smooth_field(rng, 8, (64, 64)) ** 2 for _ in range(100)]) == pytest.approx(1, abs=0.1)
    assert np.mean([texture(rng, (64, 64), (6, 12)) ** 2 for _ in range(100)]) == pytest.approx(1, abs=0.1)


def test_canvas_covers_the_area_of_what_is_painted():
    canvas = Canvas((100, 140), 0.0)
    canvas.paint(canvas.ellipse(0.2, -0.1, 0.5, 0.3, 0.7), 1.0)
    assert canvas.image.sum() * canvas.pixel**2 == pytest.approx(np.pi * 0.15, rel=3e-3)
    spot, tube = Canvas((100, 140), 0.0), Canvas((100, 140), 0.0)
    spot.spot(0.2, -0.1, 0.5, 0.3, 0.7, 1.0)
    np.testing.assert_allclose(spot.image, canvas.image, atol=1e-12)
    tube.segment(np.array([-0.4, 0.1]), np.array([0.4, 0.1]), (0.1, 0.1), 1.0)
    assert tube.image.sum() * tube.pixel**2 == pytest.approx(0.8 * 0.2 + np.pi * 0.01, rel=3e-3)
    rows, columns = np.nonzero(tube.image > 0.5)
    assert rows.mean() == pytest.approx(49.5 - 0.1 / tube.pixel, abs=0.5)
    assert columns.mean() == pytest.approx(69.5, abs=0.5)


def test_breast_gradient_is_as_sparse_as_published():
    counts = [gradients(breast(0, k, 128, specks=15)) for k in range(30)]
    assert np.mean(counts) == pytest.approx(1710, rel=0.08)
    assert gradients(breast(0, 0, 128, specks=15, blur=True)) > 2.5 * counts[0]


def test_breast_has_its_tissues_and_specks():
    image = breast(2, 7, 256, specks=20).astype(float)
    values = np.unique(image)
    low, high = SPECKS
    tissues = {v for v in values if v < low - 1e-6}
    assert {round(v, 6) for v in tissues} == {0.0, ADIPOSE, FIBROGLANDULAR}
    specks = image >= low - 1e-6
    assert specks.sum() == 20
    assert image.max() <= high + 1e-6
    # The disc of radius 80 mm, by area.
    assert (image > 0).sum() * (FIELD_MM / 256) ** 2 == pytest.approx(np.pi * 80**2, rel=5e-3)
    assert 10 <= (breast(2, 8, 256) >= low - 1e-6).sum() <= 25


def test_breast_blur_keeps_the_mass():
    sharp, soft = breast(0, 1, 128), breast(0, 1, 128, blur=True)
    assert soft.sum() == pytest.approx(sharp.sum(), rel=1e-5)
    assert soft.max() < sharp.max()


def test_breast_texture_is_the_same_for_all_sizes():
    fine, coarse = breast(1, 0, 256, specks=0), breast(1, 0, 128, specks=0)
    assert contrast_error(halved(fine), coarse) < 0.1


def test_breast_texture_has_a_power_law_spectrum():
    spectra = []
    for k in range(20):
        field = breast_module._power_law_field(np.random.default_rng(k), 256)
        spectra.append(np.abs(np.fft.fft2(field)) ** 2)
    power = np.mean(spectra, axis=0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(256, 1 / 256)] * 2))
    band = (frequency > 3) & (frequency < 100)
    slope, _ = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)
    assert slope == pytest.approx(-3, abs=0.1)


@pytest.mark.parametrize(("draw", "bound"), [("head", 0.09), ("torso", 0.09)])
def test_half_the_resolution_is_close_to_the_block_mean(draw, bound):
    for k in range(3):
        fine, coarse = PHANTOMS[draw](0, k, 256), PHANTOMS[draw](0, k, 128)
        assert contrast_error(halved(fine), coarse) < bound


def test_head_is_in_range_and_stands_in_air():
    for contrast in ("T1", "T2", "FLAIR"):
        for k in range(3):
            image = head(1, k, (96, 128), contrast)
            assert 0 <= image.min() < 0.02
            assert 0.5 < image.max() <= 1
            border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
            assert border.max() < 0.02


def test_head_contrasts_show_one_anatomy_in_different_order():
    t1, t2, flair = (head(0, 2, (128, 128), c) for c in ("T1", "T2", "FLAIR"))
    # CSF is dark in T1 and FLAIR and the brightest of all in T2; white matter is the reverse of grey in T1 and T2.
    csf, brain = t2 > 0.8, (t1 > 0.35) & (t2 > 0.2) & (t2 < 0.8)
    assert csf.mean() > 0.01
    assert t1[csf].mean() < 0.3
    assert flair[csf].mean() < 0.25
    inner = ndimage.binary_erosion(t1 > 0.02, iterations=22) & brain
    assert np.corrcoef(t1[inner], t2[inner])[0, 1] < -0.3
    with pytest.raises(ValueError, match="PD"):
        head(0, 0, (64, 64), "PD")


def test_torso_holds_air_lung_fat_soft_tissue_and_bone():
    images = np.stack([torso(0, k, (96, 96)) for k in range(12)])
    assert images.min() >= -1024
    assert 600 < images.max() < 2000
    assert np.median(images[:, :4]) == pytest.approx(-1000, abs=2)
    share = lambda low, high: ((images > low) & (images < high)).mean()  # noqa: E731
    assert share(-950, -700) > 0.01  # lung
    assert share(-140, -70) > 0.05  # fat
    assert share(20, 150) > 0.08  # soft tissue
    assert share(300, 2000) > 0.005  # bone
    lungs = [((im > -950) & (im < -700)).mean() for im in images]
    assert min(lungs) < 0.01 < 0.05 < max(lungs)  # chest and abdomen


def test_torsos_differ_in_size():
    areas = [(torso(3, k, (64, 64)) > -300).mean() for k in range(12)]
    assert np.std(areas) / np.mean(areas) > 0.08


@pytest.mark.parametrize("image", [head(0, 0, (128, 128)), torso(0, 0, (128, 128)) / 1000], ids=["head", "torso"])
def test_total_variation_is_not_the_truth(image):
    """Tissues have texture: a picture that total variation likes better is measurably another one."""
    image = image.astype(float)
    flattened = denoise_tv_chambolle(image, weight=0.02, max_num_iter=100)
    body = ndimage.binary_erosion(image > image.min() + 0.2, iterations=3)
    assert np.std((image - flattened)[body]) > 0.005


@pytest.mark.parametrize("draw", [lambda: head(0, 0, (63, 80)), lambda: torso(0, 0, (80, 63)), lambda: breast(0, 0, 8)])
def test_sizes_without_room_are_refused(draw):
    with pytest.raises(ValueError, match="at least"):
        draw()
