"""What convex models are made of: adjoints, spectra, norms and proximal maps of every term."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.baselines.data_terms import LeastSquares, MeasurementBall, TransmissionLikelihood
from isocenter.baselines.generalised_variation import CurvatureTerm, SlopeTerm
from isocenter.baselines.objective import Objective, Stack
from isocenter.baselines.terms import Bounds, Term, TotalVariationTerm, balance, relative
from isocenter.baselines.wavelet_terms import WaveletTerm
from isocenter.physics import FourierSampling, Identity, ParallelBeam, Radon, views
from scipy.special import lambertw
from torch import Tensor

SIZE = (6, 7)
NAMES = [
    "tv",
    "tv, anisotropic",
    "bounds",
    "below",
    "slopes",
    "curvature",
    "basis",
    "frame",
    "least squares",
    "ball",
    "point",
    "poisson",
]
CONSTRAINTS = ("bounds", "below", "ball", "point")


@cache
def projections() -> tuple[Radon, Tensor]:
    A = Radon(ParallelBeam(views(4), 9), SIZE)
    return A, A.A(random(3, 1, *SIZE).abs() * 0.2)


@cache
def term(name: str) -> Term:
    A, y = projections()
    made = {
        "tv": lambda: TotalVariationTerm(0.7),
        "tv, anisotropic": lambda: TotalVariationTerm(0.7, isotropic=False),
        "bounds": lambda: Bounds(-0.5, 0.8),
        "below": lambda: Bounds(None, 0.3),
        "slopes": lambda: SlopeTerm(0.7),
        "curvature": lambda: CurvatureTerm(0.4),
        "basis": lambda: WaveletTerm(0.6, "db2", 1),
        "frame": lambda: WaveletTerm(0.6, "db2", 2, translation_invariant=True),
        "least squares": lambda: LeastSquares(A, y),
        "ball": lambda: MeasurementBall(A, y, 0.3),
        "point": lambda: MeasurementBall(A, y, 0.0),
        "poisson": lambda: TransmissionLikelihood(A, y),
    }
    return made[name]()


def channels(name: str) -> tuple[int, ...]:
    """Real images, and complex ones where the term takes them."""
    return (1,) if name in ("least squares", "ball", "point", "poisson") else (1, 2)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + sum(shape)))


def unknown(t: Term, count: int, seed: int = 0) -> Tensor:
    return random(3, t.groups * count, *SIZE, seed=seed)


def steps(c: Tensor, *values: float) -> Tensor:
    return torch.tensor(values, dtype=c.dtype).reshape(-1, *[1] * (c.ndim - 1))


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


@pytest.mark.parametrize("name", NAMES)
def test_the_adjoint_is_exact_and_the_gram_is_their_product(name: str) -> None:
    t = term(name)
    for count in channels(name):
        x, other = unknown(t, count), unknown(t, count, seed=1)
        c = t.analysis(x)
        p = random(*c.shape, seed=2)
        assert torch.allclose(dot(c, p), dot(x, t.adjoint(p)), rtol=1e-10, atol=1e-10)
        assert torch.allclose(t.analysis(2 * x - other), 2 * c - t.analysis(other), atol=1e-12)
        assert torch.allclose(t.gram(x, c), t.adjoint(c), atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_norm_is_a_bound_and_not_a_loose_one(name: str) -> None:
    t = term(name)
    size = t.groups * math.prod(SIZE)
    units = torch.eye(size, dtype=torch.float64).reshape(size, t.groups, *SIZE)
    true = float(torch.linalg.matrix_norm(t.analysis(units).flatten(1), 2))
    assert true <= t.norm((1, *SIZE)) * (1 + 1e-6)
    assert t.norm((1, *SIZE)) <= 1.2 * true


@pytest.mark.parametrize("name", ["tv", "tv, anisotropic", "bounds", "slopes", "curvature", "basis", "frame"])
def test_the_spectrum_is_that_of_the_response_to_a_pixel_in_the_middle(name: str) -> None:
    t, size = term(name), (11, 14)
    spectrum = t.spectrum((1, *size))
    matrix = spectrum.reshape(t.groups, t.groups, *size)
    assert torch.allclose(matrix, matrix.transpose(0, 1).conj())  # Hermitian at each frequency
    for group in range(t.groups):
        pixel = torch.zeros(1, t.groups, *size, dtype=torch.float64)
        pixel[0, group, 5, 7] = 1
        response = t.gram(pixel, t.analysis(pixel))[0].roll((-5, -7), (1, 2))
        assert torch.allclose(torch.fft.ifft2(matrix[:, group]).real, response, atol=1e-12)
        assert torch.fft.ifft2(matrix[:, group]).imag.abs().max() < 1e-12


def test_spectra_of_data_are_the_operators() -> None:
    mask = torch.rand(8, 9) < 0.5
    A = FourierSampling(mask, complex_image=True)
    t = LeastSquares(A, torch.zeros(1, 2, 8, 9))
    x = random(1, 2, 8, 9)
    transform = torch.fft.fft2(torch.complex(x[:, 0], x[:, 1])) * t.spectrum(A.domain)
    expected = torch.view_as_real(torch.fft.ifft2(transform)).permute(0, 3, 1, 2)
    assert torch.allclose(t.gram(x, t.analysis(x)), expected, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_prox_takes_away_is_a_subgradient(name: str) -> None:
    """z = prox(v) if and only if g(w) ≥ g(z) + ⟨(v − z) / t, w − z⟩ for every w where g is finite."""
    t = term(name)
    for count in channels(name):
        v = 2 * t.analysis(unknown(t, count))
        step = steps(v, 0.3, 1.0, 20.0)
        z = t.prox(v, step)
        p = (v - z) / step
        if name in CONSTRAINTS:
            assert (t.violation(z) < 1e-12).all()
            assert not t.value(z).any()
        for seed in range(20):
            w = random(*v.shape, seed=seed) * 10 ** (seed % 4 - 2) + (z if seed % 2 else 0)
            if name in CONSTRAINTS:
                w = t.prox(w, step)
            assert (t.value(w) >= t.value(z) + dot(p, w - z) - 1e-9).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_prox_of_an_image_does_not_see_the_others(name: str) -> None:
    A, y = projections()
    t = term(name)
    v = t.analysis(unknown(t, 1))
    step = steps(v, 0.1, 1.0, 3.0)
    together = t.prox(v, step)
    for k in range(3):
        alone = t
        if name in ("least squares", "ball", "point", "poisson"):
            kinds = {"least squares": LeastSquares, "poisson": TransmissionLikelihood}
            mine = y[k : k + 1]
            epsilon = 0.3 if name == "ball" else 0.0
            alone = kinds[name](A, mine) if name in kinds else MeasurementBall(A, mine, epsilon)
        assert torch.allclose(alone.prox(v[k : k + 1], step[k : k + 1]), together[k : k + 1], atol=1e-14)
        assert torch.allclose(alone.value(v[k : k + 1]), t.value(v)[k : k + 1])
        assert torch.allclose(alone.violation(v[k : k + 1]), t.violation(v)[k : k + 1])


numbers = st.lists(st.floats(-1e3, 1e3, allow_nan=False), min_size=12, max_size=12)


@settings(max_examples=40, deadline=None)
@given(numbers, numbers, st.floats(1e-3, 1e3), st.sampled_from(NAMES))
def test_every_prox_is_firmly_non_expansive(a: list[float], b: list[float], step: float, name: str) -> None:
    t = term(name)
    shape = t.analysis(unknown(t, 1)).shape
    seeds = random(*shape), random(*shape, seed=1)
    p, q = (
        torch.tensor(values, dtype=torch.float64).repeat(-(-seed.numel() // 12))[: seed.numel()].reshape(shape) + seed
        for values, seed in zip((a, b), seeds, strict=True)
    )
    moved = t.prox(p, steps(p, step, step, step)) - t.prox(q, steps(q, step, step, step))
    assert (moved.flatten(1).square().sum(1) <= dot(moved, p - q) * (1 + 1e-9) + 1e-9).all()


def test_total_variation_shrinks_lengths() -> None:
    c = torch.tensor([[3.0, 0.1], [4.0, -0.2]], dtype=torch.float64).reshape(
        1, 2, 1, 1, 2
    )  # gradients (3, 4), (.1, −.2)
    half = steps(c, 2.0)
    isotropic = TotalVariationTerm(0.5).prox(c, half).flatten().tolist()
    assert isotropic == pytest.approx([3 * 0.8, 0, 4 * 0.8, 0])
    assert TotalVariationTerm(0.5, False).prox(c, half).flatten().tolist() == pytest.approx([2, 0, 3, 0])
    assert float(TotalVariationTerm(0.5).value(c)) == pytest.approx(0.5 * (5 + math.hypot(0.1, 0.2)))
    assert float(TotalVariationTerm(0.5, False).value(c)) == pytest.approx(0.5 * (7 + 0.3))
    # A complex image has one length for both of its parts, so that phases do not matter.
    x = random(1, 2, *SIZE)
    turned = torch.complex(x[:, 0], x[:, 1]) * np.exp(0.7j)
    other = torch.stack([turned.real, turned.imag], 1)
    for t in (TotalVariationTerm(0.5), TotalVariationTerm(0.5, False), WaveletTerm(0.5, "db2", 1)):
        assert float(t.value(t.analysis(x))) == pytest.approx(float(t.value(t.analysis(other))))


def test_bounds_clip() -> None:
    c = torch.tensor([-2.0, 0.5, 3.0]).reshape(1, 1, 1, 3)
    assert Bounds(0.0, 1.0).prox(c, steps(c, 7.0)).flatten().tolist() == [0, 0.5, 1]
    assert Bounds().prox(c, steps(c, 7.0)).flatten().tolist() == [0, 0.5, 3]
    assert Bounds(None, 1.0).prox(c, steps(c, 7.0)).flatten().tolist() == [-2, 0.5, 1]
    assert float(Bounds(0.0, 1.0).violation(c)) == pytest.approx(math.sqrt(8 / 13.25))
    with pytest.raises(ValueError, match="expected low < high"):
        Bounds(1.0, 0.0)
    with pytest.raises(ValueError, match="neither low nor high"):
        Bounds(None, None)


def test_the_ball_is_that_of_the_measurement() -> None:
    A, y = projections()
    t = MeasurementBall(A, y, 0.25)
    centre, radius = y / A.norm, 0.25 * (y / A.norm).flatten(1).norm(dim=1)
    direction = random(*y.shape)
    direction /= direction.flatten(1).norm(dim=1)[:, None, None, None]
    length = radius[:, None, None, None]
    inside, outside = centre + 0.9 * length * direction, centre + 5 * length * direction
    assert torch.equal(t.prox(inside, steps(y, 1.0)), inside)
    assert torch.allclose(t.prox(outside, steps(y, 1.0)), centre + length * direction)
    assert torch.allclose(t.violation(outside), torch.full((3,), 4 * 0.25, dtype=torch.float64))
    assert not t.violation(inside).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_prox_of_the_poisson_likelihood_is_lamberts_function(dtype: torch.dtype) -> None:
    """s ω (1 − e^−d) + d = v has the solution d = v − s ω + W(s ω e^(s ω − v)); thick and thin objects, far guesses."""
    A = Radon(ParallelBeam(views(4), 9), SIZE)
    thickness = torch.linspace(0, 12, 36).reshape(1, 1, 4, 9).to(dtype)
    t = TransmissionLikelihood(A, thickness)
    for step in (1e-3, 1.0, 1e3, 1e6):
        # The last ones are as large as the weights, where most of the photons of a thick object are missing.
        for far in (-8.0, -0.1, 0.0, 0.1, 30.0, 0.999 * step * torch.exp(-thickness), step * torch.exp(-thickness)):
            c = (thickness + far) / A.norm
            d = (t.prox(c, steps(c, step)) * A.norm - thickness).double().numpy().ravel()
            weight = step * np.exp(-thickness.double().numpy().ravel())
            v = (c * A.norm - thickness).double().numpy().ravel()
            with np.errstate(over="ignore"):
                q = lambertw(weight * np.exp(weight - v)).real
            large = ~np.isfinite(q) | (weight - v > 500)  # there W is by its own Newton's method, in logarithms
            log = np.log(weight) + weight - v
            near = np.maximum(log, 1.0)
            for _ in range(20):
                near = np.maximum(near - (near + np.log(near) - log) / (1 + 1 / near), 0.5)
            expected = v - weight + np.where(large, near, q)
            exact = 1e-5 if dtype == torch.float32 else 1e-9
            # What rounding of weights this large leaves of the expected difference.
            slack = exact * (1 + np.abs(v)) + (
                1e-15 * weight if dtype == torch.float64 else 2e-7 * np.minimum(weight, 1)
            )
            assert (np.abs(d - expected) <= slack + 1e-13 * weight).all()


def test_no_photon_behind_an_opaque_object_is_no_reason_for_nan() -> None:
    A = Radon(ParallelBeam(views(4), 9), SIZE)
    opaque = torch.full((1, *A.range), 120.0)  # e^−120 is zero in float32
    c = opaque / A.norm + torch.tensor([-1.0, 0.0, 1.0]).repeat(12).reshape(opaque.shape)
    z = TransmissionLikelihood(A, opaque).prox(c, torch.ones(1, 1, 1, 1))
    assert z.isfinite().all()
    torch.testing.assert_close(z[c >= opaque / A.norm], c[c >= opaque / A.norm])  # nothing holds them


def test_the_poisson_likelihood_is_that_of_counts() -> None:
    """Differences of g are those of −log p for n photons of N, divided by N ‖A‖²; its minimum is where they are met."""
    A, y = projections()
    t, photons = TransmissionLikelihood(A, y), 1e4
    counts = photons * torch.exp(-y)
    lines = [y + 0.3 * random(*y.shape, seed=seed) for seed in (5, 6)]
    # −log p = N e^−l + n l + constant
    exact = [dot(photons * torch.exp(-line) + counts * line, torch.ones_like(line)) for line in lines]
    ours = [t.value(line / A.norm) for line in lines]
    assert torch.allclose(ours[0] - ours[1], (exact[0] - exact[1]) / (photons * A.norm**2), rtol=1e-9)
    assert not t.value(y / A.norm).abs().gt(1e-15).any()
    # Weak objects, small deviations: least squares.
    thin = TransmissionLikelihood(A, 1e-6 * y)
    off = 1e-6 * random(*y.shape)
    squares = LeastSquares(A, 1e-6 * y).value((1e-6 * y + off) / A.norm)
    assert torch.allclose(thin.value((1e-6 * y + off) / A.norm), squares, rtol=1e-4)


def test_the_poisson_prox_bears_rays_that_nothing_passes() -> None:
    A = Radon(ParallelBeam(views(4), 9), SIZE)
    opaque = torch.full((1, 1, 4, 9), 80.0)  # e^−80 is next to the smallest number of float32
    t = TransmissionLikelihood(A, opaque)
    for guess in (80.0, 160.0):
        c = torch.full_like(opaque, guess / A.norm)
        assert torch.allclose(t.prox(c, steps(c, 1.0)), c)  # as dark as they can be
    clear = torch.zeros_like(opaque)  # l = e^−l
    assert torch.allclose(t.prox(clear, steps(clear, 1.0)), clear + lambertw(1).real / A.norm)


def test_affine_images_cost_no_generalised_variation() -> None:
    h, w = SIZE
    rows, columns = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
    x = (2.0 + 0.3 * rows - 0.7 * columns)[None, None]
    field = torch.tensor([0.3, -0.7], dtype=torch.float64).reshape(1, 2, 1, 1).expand(1, 2, h, w)
    u = torch.cat([x, field], 1)
    objective = Objective(Identity((1, h, w)), x, [SlopeTerm(1.0), CurvatureTerm(2.0)])
    assert float(objective.value(u)) < 1e-12
    assert float(objective.value(objective.lift(x))) > 10  # which is its total variation


def test_generalised_variation_of_a_parabola_and_of_an_edge() -> None:
    h, w = SIZE
    line = torch.arange(h).double()
    parabola = (line * (line - 1) / 2)[:, None].expand(h, w)[None, None]  # forward differences 0, 1, 2, …
    slopes = line[:, None].expand(h, w)[None, None]
    u = torch.cat([parabola, slopes, torch.zeros_like(slopes)], 1)
    slope, curvature = SlopeTerm(0.5), CurvatureTerm(1.5)
    assert float(slope.value(slope.analysis(u))) < 1e-12
    assert float(curvature.value(curvature.analysis(u))) == pytest.approx(1.5 * (h - 1) * w)
    # A field that shears, v = (column, row), has the mixed derivative 1 everywhere but at the edges: √2 in Frobenius'.
    shear = torch.stack([torch.arange(w).double().expand(h, w), torch.zeros(h, w)])[None]
    u = torch.cat([torch.zeros(1, 1, h, w), shear], 1)
    assert float(curvature.value(curvature.analysis(u))) == pytest.approx(1.5 * math.sqrt(0.5) * h * (w - 1))
    # An edge costs what it does in total variation where the field is zero.
    edge = torch.zeros(1, 1, h, w, dtype=torch.float64)
    edge[..., 3:] = 4.0
    u = torch.cat([edge, torch.zeros(1, 2, h, w)], 1)
    assert float(slope.value(slope.analysis(u))) == pytest.approx(0.5 * 4.0 * h)


def test_a_stack_is_its_terms() -> None:
    terms = [TotalVariationTerm(0.3), WaveletTerm(0.2, "haar", 1), Bounds()]
    stack, x = Stack(terms), random(2, 1, *SIZE)
    rho = torch.tensor([[0.5, 2.0, 1.0], [3.0, 0.1, 0.2]], dtype=torch.float64)
    c = stack.analysis(x)
    parts = stack.split(c)
    for t, part, each in zip(terms, parts, rho.unbind(1), strict=True):
        assert torch.equal(part, t.analysis(x))
        proxes = stack.split(stack.prox(c, rho))
        assert torch.equal(proxes[terms.index(t)], t.prox(part, steps(part, *each.tolist())))
    each = zip(terms, parts, rho.unbind(1), strict=True)
    expected = sum(t.adjoint(part) * steps(x, *values.tolist()) for t, part, values in each)
    assert torch.allclose(stack.gram(rho, x, c), expected)
    assert torch.allclose(stack.weighted_adjoint(rho, c), expected)
    assert torch.allclose(stack.adjoint(stack.spread(rho, c) * c), expected)
    assert torch.allclose(dot(c, c), dot(stack.adjoint(c), x))


def test_penalties_follow_the_scale_of_image_and_weight() -> None:
    c = random(2, 2, 1, *SIZE)
    rho = balance(0.3, c)
    assert torch.allclose(balance(3.0, 100 * c), rho / 10)
    assert torch.allclose(rho, 0.3 / c.abs().mean((1, 2, 3, 4)))
    assert torch.equal(balance(0.3, 0 * c), torch.ones(2, dtype=torch.float64))
    assert torch.equal(relative(0 * c, 0 * c), torch.zeros(2, dtype=torch.float64))
