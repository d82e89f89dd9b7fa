"""Wavelets: orthonormal on every size, equal to PyWavelets where that is, and the shrinkage of their coefficients."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.baselines.wavelet_terms import WaveletTerm
from isocenter.baselines.wavelets import (
    approximation_size,
    default_levels,
    dwt2,
    idwt2,
    iswt2,
    level_matrix,
    swt2,
)
from torch import Tensor

FAMILIES = ["haar", *(f"db{k}" for k in range(2, 9)), "sym4", "sym8", "sym20", "coif1", "coif5", "db38"]
SIZES = [(8, 8), (12, 6), (5, 7), (2, 3), (1, 9), (16, 13)]
LARGE = [(181, 217), (96, 130), (67, 256)]


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def one(value: float = 1.0) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_matrix_is_orthonormal(family: str) -> None:
    for h, w in SIZES:
        for levels in {1, default_levels(family, (h, w)), (max(h, w) - 1).bit_length()}:
            units = torch.eye(h * w, dtype=torch.float64)
            W = dwt2(units.reshape(-1, 1, h, w), family, levels).flatten(1).T
            assert (W.T @ W - units).abs().max() < 1e-12
            assert (W @ W.T - units).abs().max() < 1e-12
            inverse = idwt2(units.reshape(-1, 1, h, w), family, levels).flatten(1).T
            assert (inverse - W.T).abs().max() < 1e-14


@pytest.mark.parametrize("family", ["haar", "db4", "db8", "sym8", "coif5"])
@pytest.mark.parametrize("size", LARGE)
def test_large_images_and_odd_sides(family: str, size: tuple[int, int]) -> None:
    x, c = images(2, 2, *size), images(3, 2, *size)[:2]
    W = dwt2(x, family)
    assert (idwt2(W, family) - x).abs().max() < 1e-12
    assert (dwt2(idwt2(c, family), family) - c).abs().max() < 1e-12
    assert float((W * c).sum()) == pytest.approx(float((x * idwt2(c, family)).sum()), rel=1e-11)
    rows, columns = (torch.from_numpy(level_matrix(family, n)) for n in size)
    assert (dwt2(x, family, 1) - rows @ x @ columns.T).abs().max() < 1e-13
    assert dwt2(x.float(), family).dtype == torch.float32
    assert (dwt2(x.float(), family) - W).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore:Level value")
@pytest.mark.parametrize("family", [*FAMILIES[:8], "sym8", "coif2"])
@pytest.mark.parametrize(("size", "levels"), [((64, 48), 3), ((16, 160), 2)])
def test_coefficients_equal_pywavelets(family: str, size: tuple[int, int], levels: int) -> None:
    x = images(1, 1, *size)
    nested = pywt.wavedec2(x[0, 0].numpy(), family, mode="periodization", level=levels)
    # PyWavelets' symlets are orthonormal to 1e-12 only.
    assert np.abs(dwt2(x, family, levels)[0, 0].numpy() - pywt.coeffs_to_array(nested)[0]).max() < 1e-11
    first, *details = pywt.swt2(x[0, 0].numpy(), family, levels, norm=True, trim_approx=True)
    bands = np.stack([first, *(band for level in details for band in level)])
    assert np.abs(swt2(x, family, levels)[0, 0].numpy() - bands).max() < 1e-11


@pytest.mark.filterwarnings("ignore:Level value")
def test_default_levels_are_pywavelets() -> None:
    for family, size in (("db4", (256, 256)), ("haar", (64, 128)), ("sym8", (96, 96)), ("coif2", (512, 320))):
        assert default_levels(family, size) == pywt.dwt_max_level(min(size), family)
    assert default_levels("db8", (4, 4)) == 1
    assert approximation_size((181, 217), 3) == (23, 28)


@pytest.mark.parametrize("n", [9, 33, 181])
@pytest.mark.parametrize("family", ["haar", "db2", "db4", "coif2"])
def test_odd_sides_change_filters_only_at_the_seam(n: int, family: str) -> None:
    matrix, taps = level_matrix(family, n), len(pywt.Wavelet(family).dec_lo)
    assert np.abs(matrix[n - n // 2 :].sum(1)).max() < 1e-13  # details are blind to constants
    even = level_matrix(family, 2 * n)  # long enough to hold each filter without wrapping
    inside = [k for k in range(n // 2) if 2 * k >= 2 * taps and 2 * k + 2 * taps < n]
    for k in inside:
        for row, same in ((k, k), (n - n // 2 + k, n + k)):
            assert np.abs(matrix[row] - even[same, :n]).max() < 1e-14


@pytest.mark.parametrize("family", ["haar", "db4", "sym8", "coif5", "db38"])
@pytest.mark.parametrize("size", [(181, 217), (9, 31), (50, 27)])
def test_details_are_blind_to_constants_at_every_level(family: str, size: tuple[int, int]) -> None:
    levels = (max(size) - 1).bit_length()
    c = dwt2(torch.ones(1, 1, *size, dtype=torch.float64), family, levels)
    assert float(c[..., 0, 0]) == pytest.approx((size[0] * size[1]) ** 0.5)
    assert c.flatten()[1:].abs().max() < 1e-12


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("size", "family"), [((8, 12), "db2"), ((7, 5), "db4"), ((1, 6), "haar"), ((11, 9), "sym4")])
def test_the_undecimated_transform_is_a_parseval_frame(channels: int, size: tuple[int, int], family: str) -> None:
    x = images(2, channels, *size)
    c = swt2(x, family, 2)
    other = torch.randn_like(c)
    assert float(c.square().sum()) == pytest.approx(float(x.square().sum()), rel=1e-12)
    assert (iswt2(c, family) - x).abs().max() < 1e-13
    assert float((c * other).sum()) == pytest.approx(float((x * iswt2(other, family)).sum()), rel=1e-10)
    assert torch.allclose(swt2(x.roll((1, 3), (2, 3)), family, 2), c.roll((1, 3), (3, 4)), atol=1e-13)
    assert torch.allclose(c[:, -1:], swt2(x[:, -1:], family, 2), atol=1e-13)


def test_the_undecimated_transform_holds_the_orthonormal_ones_of_all_shifts() -> None:
    x = images(1, 1, 16, 24)
    c, W = swt2(x, "db3", 2), dwt2(x, "db3", 2)
    assert torch.allclose(W[..., :4, :6], 4 * c[:, :, 0, ::4, ::4])
    assert torch.allclose(W[..., 4:8, 6:12], 4 * c[:, :, 3, ::4, ::4])
    assert torch.allclose(W[..., 8:, :12], 2 * c[:, :, 4, ::2, ::2])
    assert torch.allclose(W[..., :8, 12:], 2 * c[:, :, 5, ::2, ::2])
    basis, frame = (WaveletTerm(0.7, "db3", 2, invariant) for invariant in (False, True))
    shifts = [x.roll((i, j), (2, 3)) for i in range(4) for j in range(4)]
    mean = torch.stack([basis.value(basis.analysis(shifted)) for shifted in shifts]).mean()
    assert float(frame.value(c)) == pytest.approx(float(mean), rel=1e-12)


@pytest.mark.parametrize("translation_invariant", [False, True])
def test_terms_keep_their_contract(translation_invariant: bool) -> None:
    term = WaveletTerm(0.3, "db2", translation_invariant=translation_invariant)
    x = images(3, 2, 9, 12)
    c = term.analysis(x)
    assert (term.adjoint(c) - x).abs().max() < 1e-13
    assert torch.equal(term.spectrum((2, 9, 12)), torch.ones(9, 12, dtype=torch.float64))
    assert term.orthonormal is not translation_invariant
    if term.orthonormal:
        assert (term.analysis(term.adjoint(c)) - c).abs().max() < 1e-13
    steps = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).reshape(-1, *[1] * (c.ndim - 1))
    shrunk, values = term.prox(c, steps), term.value(c)
    for k in range(3):  # images do not see each other
        alone = term.analysis(x[k : k + 1])
        assert torch.allclose(alone, c[k : k + 1], atol=1e-14)
        assert torch.allclose(term.prox(alone, one(float(steps[k]))), shrunk[k : k + 1], atol=1e-14)
        assert float(term.value(alone)) == pytest.approx(float(values[k]))
    # A constant is its approximation, which is free.
    assert float(term.value(term.analysis(torch.full((1, 1, 9, 12), 5.0, dtype=torch.float64)))) < 1e-11
    assert (term.prox(c, one(float("inf"))) != 0).sum() <= c.numel() // (4 if not translation_invariant else 3)
    assert torch.equal(term.prox(c, one(0.0)), c)


coefficients = st.lists(
    st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: 0.0 if abs(v) < 1e-6 else v), min_size=32, max_size=32
)


@settings(max_examples=60, deadline=None)
@given(coefficients, st.floats(0, 100), st.sampled_from([1, 2]))
def test_prox_keeps_its_optimality_condition(values: list[float], step: float, channels: int) -> None:
    """c − z ∈ τλ ∂|z|: of length τλ in the direction of z, or no longer than that where z = 0."""
    term = WaveletTerm(0.4, "haar", 1)
    c = torch.tensor(values, dtype=torch.float64).reshape(-1, channels, 4, 4)
    z = term.prox(c, one(step))
    assert torch.equal(z[..., :2, :2], c[..., :2, :2])  # the approximation
    change, size = (c - z).norm(dim=1), z.norm(dim=1)
    details = torch.ones(4, 4, dtype=torch.bool)
    details[:2, :2] = False
    alive = (size > 0) & details
    assert torch.allclose(change[alive], torch.full_like(change[alive], 0.4 * step), rtol=1e-9, atol=1e-9)
    assert torch.allclose(((c - z) * z).sum(1)[alive], (change * size)[alive], rtol=1e-9, atol=1e-9)
    assert (change[details & (size == 0)] <= 0.4 * step * (1 + 1e-12)).all()


@settings(max_examples=60, deadline=None)
@given(coefficients, coefficients, st.floats(0, 1000), st.booleans())
def test_prox_is_firmly_non_expansive(a: list[float], b: list[float], step: float, invariant: bool) -> None:
    term = WaveletTerm(1.0, "haar", 1, invariant)
    p, q = (
        torch.tensor(v, dtype=torch.float64).reshape((1, 2, 4, 2, 2) if invariant else (1, 2, 4, 4)) for v in (a, b)
    )
    moved = term.prox(p, one(step)) - term.prox(q, one(step))
    assert moved.square().sum() <= (moved * (p - q)).sum() * (1 + 1e-9) + 1e-9


def test_real_and_imaginary_part_shrink_together() -> None:
    """Shrinkage keeps the phase, so it commutes with turning all phases by the same angle."""
    term, x = WaveletTerm(0.5, "db4"), images(1, 2, 16, 16)
    c = term.analysis(x)
    z = term.prox(c, one())
    numbers, shrunk = torch.complex(c[:, 0], c[:, 1]), torch.complex(z[:, 0], z[:, 1])
    kept = shrunk.abs() > 0
    assert torch.allclose(numbers.angle()[kept], shrunk.angle()[kept])
    turned = numbers * np.exp(0.7j)
    both = term.prox(torch.stack([turned.real, turned.imag], 1), one())
    assert torch.allclose(torch.complex(both[:, 0], both[:, 1]), shrunk * np.exp(0.7j))
    h, w = approximation_size((16, 16), default_levels("db4", (16, 16)))
    assert float(term.value(c)) == pytest.approx(0.5 * float(numbers.abs().sum() - numbers[..., :h, :w].abs().sum()))


def test_denoising_in_a_basis_is_one_shrinkage() -> None:
    """argmin_x ½ ‖x − y‖² + g(W x) = Wᵀ prox_g(W y), against an independent convex solver."""
    cvxpy = pytest.importorskip("cvxpy")
    term, y = WaveletTerm(0.4, "db2", 1), images(1, 2, 5, 6)
    x = term.adjoint(term.prox(term.analysis(y), one()))
    units = torch.eye(30, dtype=torch.float64).reshape(-1, 1, 5, 6)
    W, (h, w) = dwt2(units, "db2", 1).flatten(1).T.numpy(), approximation_size((5, 6), 1)
    details = np.ones((5, 6), bool)
    details[:h, :w] = False
    unknown = cvxpy.Variable((30, 2))
    penalty = 0.4 * cvxpy.sum(cvxpy.norm((W @ unknown)[np.flatnonzero(details)], 2, axis=1))
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(unknown - y[0].flatten(1).T.numpy()) / 2 + penalty))
    problem.solve(solver="CLARABEL")
    objective = float((x - y).square().sum() / 2 + term.value(term.analysis(x)))
    assert objective == pytest.approx(problem.value, rel=1e-7)
    assert np.abs(x[0].flatten(1).T.numpy() - unknown.value).max() < 1e-4


@pytest.mark.parametrize("translation_invariant", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_gradients_run_through_transforms_and_shrinkage(translation_invariant: bool, channels: int) -> None:
    term = WaveletTerm(0.2, "db2", 1, translation_invariant)
    x = images(2, channels, 5, 4).requires_grad_()

    def denoise(x: Tensor, step: Tensor) -> Tensor:
        return term.adjoint(term.prox(term.analysis(x), step))

    step = one().requires_grad_()
    assert torch.autograd.gradcheck(denoise, (x, step), fast_mode=True)
    assert torch.autograd.gradgradcheck(denoise, (x, step), fast_mode=True)
    flat = torch.zeros(1, channels, 5, 4, dtype=torch.float64, requires_grad=True)
    denoise(flat, step).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"no orthonormal family 'bior2\.2'; expected haar"):
        WaveletTerm(1.0, "bior2.2")
    with pytest.raises(ValueError, match="6 levels of an image of 20 × 9 pixels; expected 1 to 5, or none for 1"):
        dwt2(images(1, 1, 20, 9), "db3", 6)
    with pytest.raises(ValueError, match="0 levels"):
        swt2(images(1, 1, 20, 9), "db3", 0)
