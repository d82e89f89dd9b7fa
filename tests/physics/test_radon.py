"""The Radon transform: its laws on every backend, closed forms, and second opinions from ASTRA and scikit-image."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import astra
import numpy as np
import pytest
import torch
from isocenter.physics import FanBeam, ParallelBeam, Radon, check_linear_operator, views
from isocenter.physics.projection_matrix import astra_kernel, astra_projections, astra_volume
from isocenter.physics.view_symmetry import find_symmetry
from skimage.transform import radon as skimage_radon


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def disc(
    shape: tuple[int, int], pixel: float, radius: float, centre: tuple[float, float], fine: int = 8
) -> torch.Tensor:
    """The indicator of a disc, averaged over each pixel: [1, 1, H, W]."""
    h, w = shape
    x = (np.arange(w * fine) - (w * fine - 1) / 2) * pixel / fine
    y = ((h * fine - 1) / 2 - np.arange(h * fine)) * pixel / fine
    inside = (x[None, :] - centre[0]) ** 2 + (y[:, None] - centre[1]) ** 2 <= radius**2
    return torch.tensor(inside.reshape(h, fine, w, fine).mean((1, 3)), dtype=torch.float32)[None, None]


def disc_projection(geometry: ParallelBeam | FanBeam, radius: float, centre: tuple[float, float]) -> np.ndarray:
    """The chord of each ray in the disc, from its distance to the centre: [views, detectors]."""
    u = np.stack([np.cos(geometry.angles), np.sin(geometry.angles)], 1)
    t = geometry.detector_coordinates()
    along = u @ np.array(centre)
    if isinstance(geometry, ParallelBeam):
        distance = along[:, None] - t
    else:
        source = geometry.source_axis * np.stack([np.sin(geometry.angles), -np.cos(geometry.angles)], 1)
        forward = np.stack([-np.sin(geometry.angles), np.cos(geometry.angles)], 1)
        ray = geometry.source_detector * forward[:, None] + t[None, :, None] * u[:, None]
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        to_centre = (np.array(centre) - source)[:, None]
        distance = ray[..., 0] * to_centre[..., 1] - ray[..., 1] * to_centre[..., 0]
    return 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))


GEOMETRIES = {
    "half circle": ParallelBeam(views(12), 25),
    "half-cell views": ParallelBeam(views(10, half_cell=True), 24, 1.1),
    "full circle": ParallelBeam(views(16, 0, 2 * math.pi), 25),
    "axis off centre": ParallelBeam(views(12), 31, 1.0, 3.3),
    "limited angle": ParallelBeam(views(9, 0.1, 2.0), 25),
    "one view": ParallelBeam((0.3,), 25),
    "one detector": ParallelBeam(views(7), 1, 2.0),
    "repeated view": ParallelBeam((0.0, 0.0, math.pi, 1.0), 25),
    "fan": FanBeam(views(16, 0, 2 * math.pi), 31, 1.5, 60.0, 120.0),
    "fan, axis off centre": FanBeam(views(16, 0, 2 * math.pi), 37, 1.5, 60.0, 120.0, 4.2),
}
KERNELS = {ParallelBeam: ("linear", "line", "strip"), FanBeam: ("line", "strip")}
CASES = [
    (name, kernel)
    for name, geometry in GEOMETRIES.items()
    for kernel in KERNELS[type(geometry)]
    if not (kernel == "strip" and isinstance(geometry, FanBeam) and geometry.offset)
]


@pytest.mark.parametrize("shape", [(16, 16), (15, 17)], ids=["square", "odd"])
@pytest.mark.parametrize(("name", "kernel"), CASES)
def test_matrix_keeps_the_laws(name: str, kernel: str, shape: tuple[int, int]) -> None:
    check_linear_operator(Radon(GEOMETRIES[name], shape, 1.2, kernel, backend="matrix"))


@pytest.mark.parametrize("name", ["half circle", "axis off centre", "fan", "one view"])
def test_matrix_free_keeps_the_laws(name: str) -> None:
    check_linear_operator(Radon(GEOMETRIES[name], (15, 17), 1.2, backend="astra"), dtypes=(torch.float32,))


# At 0° and 45° ASTRA decides by rounding which of two pixels a ray on their common edge meets, and along which axis it
# steps; a mirrored view may be decided otherwise. Half-cell views avoid those ties and are as symmetric.
TIE_FREE = {
    "parallel": ParallelBeam(views(12, half_cell=True), 25),
    "parallel, full circle": ParallelBeam(views(24, 0, 2 * math.pi, half_cell=True), 25),
    "parallel, axis off centre": ParallelBeam(views(12, half_cell=True), 31, 1.0, 3.3),
    "fan": FanBeam(views(16, 0, 2 * math.pi, half_cell=True), 31, 1.5, 60.0, 120.0),
    "fan, axis off centre": FanBeam(views(16, 0, 2 * math.pi, half_cell=True), 37, 1.5, 60.0, 120.0, 4.2),
}


@pytest.mark.parametrize("backend", ["matrix", "astra"])
@pytest.mark.parametrize("kernel", ["linear", "line", "strip"])
@pytest.mark.parametrize("name", TIE_FREE)
def test_equals_astra(name: str, kernel: str, backend: str) -> None:
    geometry, shape, pixel = TIE_FREE[name], (16, 16), 1.2
    if isinstance(geometry, FanBeam) and (kernel == "linear" or (kernel == "strip" and geometry.offset)):
        pytest.skip("ASTRA has no such kernel")
    x = torch.rand(2, 1, *shape)
    every = range(len(geometry.angles))
    projector = astra.create_projector(
        astra_kernel(geometry, kernel), astra_projections(geometry, every), astra_volume(shape, pixel)
    )
    expected = np.stack([astra.create_sino(image[0].numpy(), projector)[1] for image in x])
    result = Radon(geometry, shape, pixel, kernel, backend=backend).A(x)[:, 0].numpy()
    assert np.abs(result - expected).max() < 3e-5 * expected.max()


@pytest.mark.parametrize(
    ("geometry", "shape", "elements", "representatives"),
    [
        (ParallelBeam(views(60), 31), (16, 16), 4, 16),
        (ParallelBeam(views(60), 31), (16, 20), 2, 31),
        (ParallelBeam(views(60), 31, 1.0, 0.5), (16, 16), 2, 30),
        (FanBeam(views(360, 0, 2 * math.pi), 31, 1.0, 60, 120), (16, 16), 8, 46),
        (ParallelBeam(tuple(np.random.default_rng(0).uniform(0, 3, 20)), 31), (16, 16), 1, 20),
    ],
)
def test_symmetric_views_share_coefficients(
    geometry: ParallelBeam | FanBeam, shape: tuple[int, int], elements: int, representatives: int
) -> None:
    symmetry = find_symmetry(geometry, shape)
    assert (len(symmetry.elements), len(symmetry.representatives)) == (elements, representatives)


@pytest.mark.parametrize("kernel", ["linear", "line", "strip"])
@pytest.mark.parametrize(
    "scan", [ParallelBeam(views(24), 90, 0.5, 1.3), FanBeam(views(24, 0, 2 * math.pi), 90, 1.0, 60.0, 120.0)]
)
def test_projection_of_a_disc_converges_to_its_closed_form(scan: ParallelBeam | FanBeam, kernel: str) -> None:
    if isinstance(scan, FanBeam) and kernel == "linear":
        pytest.skip("ASTRA has no linear kernel for fan beams")
    if kernel == "strip":  # it averages over the element; the others sample its centre
        scan = type(scan)(
            **{**scan.__dict__, "spacing": scan.spacing / 4, "detectors": scan.detectors * 4, "offset": 0}
        )
    expected = disc_projection(scan, 9.0, (3.0, -2.0))
    errors = []
    for n in (32, 64, 128):
        pixel = 32 / n
        radon = Radon(scan, (n, n), pixel, kernel)
        result = radon.A(disc((n, n), pixel, 9.0, (3.0, -2.0)))[0, 0].numpy()
        errors.append(np.sqrt(np.mean((result - expected) ** 2)) / expected.max())
    # The chord is continuous with an infinite slope at the rim: order 1 in the mean square.
    assert errors[-1] < 0.01
    assert math.log2(errors[0] / errors[-1]) / 2 > 0.85


def test_equals_scikit_image_on_a_smooth_image() -> None:
    n = 65
    grid = np.arange(n) - n // 2
    image = np.exp(-((grid[None, :] - 5) ** 2 + (grid[:, None] + 8) ** 2) / (2 * 6.0**2))
    image[grid[None, :] ** 2 + grid[:, None] ** 2 >= (n // 2) ** 2] = 0
    expected = skimage_radon(image, theta=np.arange(0, 180, 6), circle=True)  # [detectors, views], from row 0 down
    result = Radon(ParallelBeam(views(30), n), (n, n)).A(torch.tensor(image, dtype=torch.float32)[None, None])
    assert np.abs(result[0, 0].numpy().T - expected).max() < 0.01 * expected.max()


def test_the_matrix_is_read_back_and_a_damaged_file_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ISOCENTER_CACHE", str(tmp_path))
    x = torch.rand(1, 1, 16, 16)
    expected = Radon(GEOMETRIES["half circle"], (16, 16)).A(x)
    (path,) = (tmp_path / "projection-matrices").iterdir()
    monkeypatch.setattr("isocenter.physics.projection_matrix._build", None)  # must not be needed now
    assert torch.equal(Radon(GEOMETRIES["half circle"], (16, 16), backend="matrix").A(x), expected)
    monkeypatch.undo()
    monkeypatch.setenv("ISOCENTER_CACHE", str(tmp_path))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (whole[: len(whole) // 2], b"", bytes(flipped)):
        path.write_bytes(damaged)
        caplog.clear()
        assert torch.equal(Radon(GEOMETRIES["half circle"], (16, 16)).A(x), expected)
        assert "is built again" in caplog.text
        assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ISOCENTER_CACHE", str(tmp_path / "file"))
    assert Radon(GEOMETRIES["half circle"], (16, 16)).A(torch.ones(1, 1, 16, 16)).sum() > 0


def test_auto_takes_the_matrix_while_it_fits() -> None:
    assert Radon(GEOMETRIES["half circle"], (16, 16)).backend == "matrix"
    small = Radon(GEOMETRIES["half circle"], (16, 16), memory_bound=1000)
    assert small.backend == "astra"
    assert "backend=astra" in repr(small)


@pytest.mark.slow
def test_a_clinical_size_fits_the_memory_bound_and_agrees_with_astra() -> None:
    scan = ParallelBeam(views(360), 725)
    radon = Radon(scan, (512, 512))
    assert radon.backend == "matrix"
    assert radon._projector.nbytes < 2**30  # type: ignore[union-attr]
    assert radon.adjoint_gap < 1e-6
    x = torch.rand(1, 1, 512, 512)
    expected = Radon(scan, (512, 512), backend="astra").A(x)
    assert (radon.A(x) - expected).norm() < 3e-4 * expected.norm()  # ties at 0°, 45° and 90°, see TIE_FREE


@pytest.mark.parametrize("backend", ["matrix", "astra"])
def test_pickles(backend: str) -> None:
    radon = Radon(GEOMETRIES["fan"], (16, 16), backend=backend)
    x = torch.rand(1, 1, 16, 16)
    expected = radon.A(x)  # ASTRA's handles exist now and must not travel
    assert torch.equal(pickle.loads(pickle.dumps(radon)).A(x), expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing where there is no GPU")
def test_cuda_without_a_gpu_says_so() -> None:
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        Radon(GEOMETRIES["half circle"], (16, 16), backend="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", ["half circle", "axis off centre", "fan", "fan, axis off centre"])
def test_cuda_is_close_to_the_matrix(name: str) -> None:
    x = torch.rand(2, 1, 16, 16)
    exact, fast = (Radon(GEOMETRIES[name], (16, 16), 1.2, backend=b) for b in ("matrix", "cuda"))
    assert (fast.A(x.cuda()).cpu() - exact.A(x)).norm() < 0.05 * exact.A(x).norm()
    assert 0 < fast.adjoint_gap < 0.05
    check_linear_operator(exact.to("cuda"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParallelBeam((), 4), "angles must be one or more"),
        (lambda: ParallelBeam((0.0, math.nan), 4), "angles must be one or more finite"),
        (lambda: ParallelBeam((0.0,), 0), "expected at least 1"),
        (lambda: ParallelBeam((0.0,), 4, -1.0), "positive length"),
        (lambda: FanBeam((0.0,), 4, 1.0, 50.0, 40.0), "0 < source_axis ≤ source_detector"),
        (lambda: views(0), "at least 1"),
        (lambda: views(4, 1.0, 1.0), "stop > start"),
        (lambda: Radon(GEOMETRIES["fan"], (16, 16), kernel="linear"), "no 'linear' kernel for fan beams"),
        (lambda: Radon(GEOMETRIES["fan, axis off centre"], (16, 16), kernel="strip"), "takes no offset"),
        (lambda: Radon(GEOMETRIES["fan"], (100, 100)), "inside the image"),
        (lambda: Radon(GEOMETRIES["half circle"], (16, 16), kernel="cubic"), "expected 'linear', 'line' or 'strip'"),
        (lambda: Radon(GEOMETRIES["half circle"], (16, 16), backend="gpu"), "expected 'auto', 'matrix'"),
        (lambda: Radon(GEOMETRIES["half circle"], (16, 16), filter="ramp"), "expected one of ram-lak"),
        (lambda: Radon(GEOMETRIES["half circle"], (16, 16)).A_adjoint(torch.zeros(1, 1, 12, 24)), "another operator"),
    ],
)
def test_mistakes_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
