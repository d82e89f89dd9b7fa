"""Measurements and weights at their extremes, for every convex method: nothing, too little, too much, no numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from isocenter.baselines import (
    ConstrainedTotalVariation,
    ConvergenceWarning,
    LeastSquares,
    Options,
    PlugAndPlay,
    PriorImage,
    ReweightedTotalVariation,
    Tikhonov,
    TotalGeneralisedVariation,
    TotalVariation,
    TotalVariationWavelet,
    Wavelet,
)
from isocenter.baselines.denoisers import WaveletDenoiser
from isocenter.baselines.direct import Direct
from isocenter.baselines.gradient import total_variation
from isocenter.baselines.non_local_means import NonLocalMeans
from isocenter.baselines.sirt import SIRT
from isocenter.baselines.tuned import TunedMethod, unit_of
from isocenter.data.problem import Problem
from isocenter.physics import (
    FourierSampling,
    Identity,
    Inpaint,
    LinearOperator,
    MultiCoilSampling,
    ParallelBeam,
    Radon,
    views,
)
from isocenter.physics.coil_maps import simulated_coil_maps
from isocenter.physics.masks import cartesian_variable_density
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

SIZE = (12, 12)
MASK = cartesian_variable_density(SIZE, 2.0, 4, seed=1)
OPERATORS: dict[str, LinearOperator] = {
    "radon": Radon(ParallelBeam(views(8), 17), SIZE),
    "multi-coil": MultiCoilSampling(MASK, simulated_coil_maps(SIZE, 4, 0)),
    "inpaint": Inpaint(torch.arange(144).reshape(SIZE) % 3 > 0),
}

# λ ↦ the method; λ scales with the image.
PENALISED: dict[str, Callable[..., TunedMethod]] = {
    "tv": lambda weight, **o: TotalVariation(weight, options=Options(**o)),
    "tv, anisotropic": lambda weight, **o: TotalVariation(weight, False, Options(**o)),
    "tgv": lambda weight, **o: TotalGeneralisedVariation(weight, options=Options(**o)),
    "wavelet": lambda weight, **o: Wavelet(weight, "db2", 2, False, Options(**o)),
    "wavelet, invariant": lambda weight, **o: Wavelet(weight, "db2", 2, True, Options(**o)),
    "tv + wavelet": lambda weight, **o: TotalVariationWavelet(weight, weight, "db2", 2, options=Options(**o)),
}
METHODS: dict[str, Callable[..., TunedMethod]] = {
    **PENALISED,
    "constrained tv": lambda weight, **o: ConstrainedTotalVariation(0.05, options=Options(**o)),
    "reweighted tv": lambda weight, **o: ReweightedTotalVariation(None, weight, weight, options=Options(**o)),
    "reweighted tv, constrained": lambda weight, **o: ReweightedTotalVariation(
        None, None, weight, 0.05, 1, Options(**o)
    ),
    "prior image, constrained": lambda weight, **o: PriorImage(Direct(), None, 3.0, 0.05, Options(**o)),
    "tv, pdhg": lambda weight, **o: TotalVariation(weight, options=Options(algorithm="pdhg", **o)),
    "tv, condat-vu": lambda weight, **o: TotalVariation(weight, options=Options(algorithm="condat-vu", **o)),
    "wavelet, fista": lambda weight, **o: Wavelet(weight, "db2", 2, False, Options(algorithm="fista", **o)),
}


@pytest.fixture(autouse=True)
def _converged() -> Iterator[None]:
    """A solver that stops before its tolerance fails here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@cache
def scene(channels: int) -> Tensor:
    x = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    x[..., 3:9, 4:10] = 1.0
    x[..., 6:, :6] += 0.5
    return torch.cat([x, 0.7 * x.flip(-1)], 1)[:, :channels]


def measured(A: LinearOperator, noise: float = 0.03) -> Tensor:
    y = A.A(scene(A.domain[0]))
    y = y + noise * y.abs().mean() * torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.dtype)
    return y if A.support is None else y * A.support


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("method", METHODS)
def test_nothing_measured_gives_nothing(method: str, operator: str) -> None:
    A = OPERATORS[operator]
    for dtype in (torch.float32, torch.float64):
        x = METHODS[method](0.01).reconstruct(torch.zeros(2, *A.range, dtype=dtype), A)
        assert torch.equal(x, torch.zeros(2, *A.domain, dtype=dtype))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("tv, pdhg", "tv, condat-vu")])  # slow
def test_constant_images_are_kept(method: str, operator: str) -> None:
    """They cost nothing; beside one that costs much they are as they are alone."""
    A = OPERATORS[operator]
    x = torch.full((1, *A.domain), 0.7, dtype=torch.float64)
    solver = METHODS[method](0.01, tol=1e-3, max_iter=2000)
    alone = solver.reconstruct(A.A(x), A)
    slack = 0.1 if "constrained" in method else 1e-2  # whose ball of 5 % holds others
    assert (alone - x).norm() < slack * x.norm()
    both = solver.reconstruct(torch.cat([measured(A), A.A(x)]), A)
    assert torch.allclose(both[1:], alone, atol=1e-9)


@pytest.mark.parametrize(("operator", "exponent"), [("radon", 110), ("multi-coil", -90)])
@pytest.mark.parametrize("method", METHODS)
def test_results_scale_with_the_data(method: str, operator: str, exponent: int) -> None:
    """From 1e-27 to 1e33, whose squares float32 cannot hold: the same bits but for the exponent."""
    A, scale = OPERATORS[operator], 2.0**exponent
    y = measured(A).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = METHODS[method](0.01, max_iter=50).reconstruct(y, A)
        scaled = METHODS[method](0.01 * scale, max_iter=50).reconstruct(y * scale, A)
    assert expected.abs().max() > 0.5
    assert torch.equal(scaled, expected * scale)


def test_bounds_scale_with_the_data() -> None:
    A, scale = OPERATORS["radon"], 2.0**100
    y = measured(A, 0.2).float()
    expected = TotalVariation(1e-3, options=Options(low=0.0, high=1.0)).reconstruct(y, A)
    assert expected.min() == 0
    assert expected.max() == 1
    scaled = TotalVariation(1e-3 * scale, options=Options(low=0.0, high=scale)).reconstruct(y * scale, A)
    assert torch.equal(scaled, expected * scale)


@pytest.mark.parametrize("algorithm", ["hqs", "admm", "red"])
@pytest.mark.parametrize("denoiser", [NonLocalMeans(3, 3), WaveletDenoiser("haar", 2)])
def test_plug_and_play_scales_with_the_data(denoiser, algorithm) -> None:
    A, scale = OPERATORS["radon"], 2.0**100
    y = measured(A).float()

    def method(scale: float) -> PlugAndPlay:
        return PlugAndPlay(denoiser, algorithm, 0.1 * scale, 0.1, 1e-2, 40)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = method(1).reconstruct(y, A)
        assert torch.equal(method(scale).reconstruct(y * scale, A), expected * scale)


def test_the_unit_is_a_power_of_two_and_no_number_overflows_in_it() -> None:
    for largest in (1.0, 1.5, 3e-38, 3.4e38, 1e-44):
        y = torch.tensor([0.0, -largest])
        assert 1 <= (y / unit_of(y)).abs().max() < 2
        assert torch.equal(y / unit_of(y) * unit_of(y), y)
    assert unit_of(torch.zeros(3)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_mask_of_zeros_is_refused(method: str) -> None:
    for A in (Inpaint(torch.zeros(SIZE)), FourierSampling(torch.zeros(SIZE), complex_image=True)):
        with pytest.raises(ValueError, match="does its mask sample anything") as error:
            METHODS[method](0.01).reconstruct(torch.zeros(1, *A.range), A)
        assert "\n" not in str(error.value)


class Broken(Problem):
    """Validation images one of which was not measured well."""

    def __init__(self, value: float) -> None:
        self.physics, self.data_range, self.value = Identity((1, *SIZE)), 1.0, value
        self.ids = self.patients = ("a", "b")

    def truth(self, i: int) -> Tensor:
        return scene(1)[0].float()

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        y = self.truth(i).clone()
        y[0, 3, 3] = self.value if i else 0.0
        return y


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_no_numbers_are_refused(method: str, value: float) -> None:
    A = OPERATORS["inpaint"]
    y = measured(A).repeat(2, 1, 1, 1)
    y[1, 0, 2, 3] = value
    with pytest.raises(ValueError, match="1 of 288 measured values are NaN or infinity; leave out or repair") as error:
        METHODS[method](0.01).reconstruct(y, A)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "method", [TotalVariation(), ConstrainedTotalVariation(), TotalGeneralisedVariation(), Wavelet(), Tikhonov()]
)
def test_no_numbers_are_refused_by_tuning(method: TunedMethod) -> None:
    with pytest.raises(ValueError, match="1 of 288 measured values are NaN or infinity"):
        method.fit(Broken(0.0), Broken(float("nan")))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_weights_that_are_none_are_refused(value: float) -> None:
    for method in PENALISED.values():
        with pytest.raises(ValueError, match="expected a finite number ≥ 0"):
            method(value)


@pytest.mark.parametrize("method", [name for name in METHODS if "wavelet" not in name])
def test_an_image_of_one_pixel_is_one(method: str) -> None:
    y = torch.full((1, 1, 1, 1), 0.7)
    x = METHODS[method](0.01, max_iter=2000).reconstruct(y, Identity((1, 1)))
    assert float((x - y).abs()) <= 0.06  # the ball of the constraints


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Options(algorithm="amdm"), "algorithm is 'amdm', expected one of admm, pdhg, condat-vu, fista"),
        (lambda: Options(likelihood="normal"), "likelihood is 'normal', expected one of gaussian, poisson"),
        (lambda: Options(low=1.0, high=1.0), "low is 1.0 and high 1.0, expected low < high"),
        (lambda: Options(low=float("nan")), "low is nan"),
        (lambda: ReweightedTotalVariation(epsilon=-0.1), "epsilon is -0.1, expected a finite number ≥ 0"),
        (lambda: PriorImage(Direct(), epsilon=float("nan")), "epsilon is nan"),
        (lambda: TotalGeneralisedVariation(ratio=-1.0), "ratio is -1.0, expected a positive number"),
        (lambda: Tikhonov(0.1, "laplace"), "penalty is 'laplace', expected one of identity, gradient"),
        (lambda: PlugAndPlay(NonLocalMeans(), "pgd"), "algorithm is 'pgd', expected one of hqs, admm, red"),
        (lambda: PlugAndPlay(NonLocalMeans(), max_iter=0), "expected both positive"),
    ],
)
def test_choices_that_are_none_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "method", [TotalVariation(0.1), SIRT(5), Tikhonov(0.1), PlugAndPlay(NonLocalMeans(), "hqs", 0.1, 0.1)]
)
def test_measurements_of_another_shape_or_precision_are_refused(method: TunedMethod) -> None:
    A = Identity(SIZE)
    with pytest.raises(ValueError, match="expected batch × 1 × 12 × 12"):
        method.reconstruct(torch.ones(2, 1, 12, 1), A)
    with pytest.raises(ValueError, match=r"measurements are torch\.float16, expected float32 or float64"):
        method.reconstruct(torch.ones(2, 1, 12, 12, dtype=torch.float16), A)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("method", PENALISED)
def test_without_weight_it_is_least_squares(method: str, operator: str) -> None:
    """The data are met as well as they can be; what they do not see is anything."""
    A = OPERATORS[operator]
    y = measured(A)
    best = (A.A(LeastSquares(tol=1e-9).reconstruct(y, A)) - y).norm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nothing bounds how ill-posed that is
        x = PENALISED[method](0.0, max_iter=100).reconstruct(y, A)
    assert x.isfinite().all()
    assert (A.A(x) - y).norm() ** 2 <= best**2 + 1e-4 * y.norm() ** 2


def free(method: str, domain: tuple[int, ...]) -> Tensor:
    """A basis ``[N, *domain]`` of the images that cost nothing: constant, affine, or the coarsest approximation."""
    h, w = SIZE
    plane = torch.ones(1, *SIZE, dtype=torch.float64)
    if method == "tgv":
        rows = torch.arange(h, dtype=torch.float64)[:, None].expand(1, h, w)
        columns = torch.arange(w, dtype=torch.float64).expand(1, h, w)
        plane = torch.cat([plane, rows, columns])
    channels = torch.eye(domain[0], dtype=torch.float64)
    return (channels[:, None, :, None, None] * plane[None, :, None]).flatten(0, 1)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("method", ["tv", "tv, anisotropic", "tgv", "tv + wavelet"])
def test_endless_weight_leaves_the_best_of_what_costs_nothing(method: str, operator: str) -> None:
    A = OPERATORS[operator]
    y = measured(A)
    basis = free(method, A.domain)
    columns = A.A(basis).flatten(1).T
    best = torch.linalg.lstsq(columns, y.flatten()[:, None]).solution
    expected = (basis.flatten(1).T @ best).reshape(1, *A.domain)
    x = PENALISED[method](1e6, max_iter=2000, tol=1e-3).reconstruct(y, A)
    assert (x - expected).norm() < 1e-2 * expected.norm()


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_ball_that_holds_zero_leaves_nothing_to_vary(operator: str) -> None:
    A = OPERATORS[operator]
    y = measured(A)
    for epsilon in (1.0, 1e3):
        x = ConstrainedTotalVariation(epsilon).reconstruct(y, A)
        assert float(total_variation(x)) < 1e-3 * float(total_variation(A.direct(y)))
        assert float((A.A(x) - y).norm() / y.norm()) <= epsilon * 1.01


@pytest.mark.parametrize("epsilon", [0.0, 1e-4, 1e-2])
def test_noise_that_no_image_explains_leaves_an_image_for_every_ball(epsilon: float) -> None:
    """Four coils with half of k-space each are twice as many equations as unknowns."""
    A = OPERATORS["multi-coil"]
    y = measured(A, noise=1.0)
    best = A.A(LeastSquares(tol=1e-6).reconstruct(y, A))
    left = float((best - y).norm() / y.norm())
    assert left > 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = ConstrainedTotalVariation(epsilon).reconstruct(y, A)
    assert float((A.A(x) - y).norm() / y.norm()) < 1.15 * left + epsilon


def test_a_ball_that_bounds_rule_out_is_a_warning_that_says_so() -> None:
    A = OPERATORS["radon"]
    with pytest.warns(ConvergenceWarning, match="raise epsilon, if no image fits the data that well"):
        ConstrainedTotalVariation(0.01, options=Options(low=1.0, max_iter=50)).reconstruct(-measured(A).abs(), A)


@pytest.mark.parametrize("method", ["tv", "tv, anisotropic"])
def test_one_view_leaves_images_without_edges_along_its_rays(method: str) -> None:
    """Then it is total variation denoising of the profile, whose differences count once for each row."""
    h, w = SIZE
    A = Radon(ParallelBeam(views(1), w), SIZE)
    y, weight = measured(A), 0.02
    ray_sums = A.A(torch.eye(w, dtype=torch.float64)[:, None, None].expand(w, 1, h, w)).flatten(1)
    assert torch.allclose(ray_sums, h * torch.eye(w, dtype=torch.float64), atol=1e-5)
    x = PENALISED[method](weight, tol=1e-5, max_iter=2000).reconstruct(y, A)
    # ½ Σ (h m_j − y_j)² / ‖A‖² + λ h Σ |m_{j+1} − m_j| with ‖A‖² = h is h times ½ Σ (m_j − y_j / h)² + λ Σ |…|.
    assert A.norm**2 == pytest.approx(h, rel=1e-4)
    profile = denoise_tv_chambolle(y.flatten().numpy() / h, weight=weight, eps=1e-12, max_num_iter=20000)
    assert np.abs(x[0, 0].numpy() - profile).max() < 2e-3


@pytest.mark.parametrize("method", ["tv", "tv, anisotropic", "wavelet, invariant", "tv + wavelet", "constrained tv"])
def test_one_view_and_one_line_are_enough_to_converge(method: str) -> None:
    line = torch.zeros(SIZE)
    line[SIZE[0] // 2] = 1
    for A in (Radon(ParallelBeam((0.3,), 17), SIZE), FourierSampling(line, complex_image=True)):
        y = measured(A)
        x = METHODS[method](1e-2, max_iter=2000).reconstruct(y, A)
        assert x.isfinite().all()
        assert (A.A(x) - y).norm() < 0.2 * y.norm()
