"""Variational network: counts, gradient descent without regulariser, its filters, and its activations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isocenter.physics import Normalised
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.geometry import ParallelBeam, views
from isocenter.physics.radon import Radon
from isocenter.unrolled.large_filters import convolve, correlate
from isocenter.unrolled.radial_basis import RadialBasis
from isocenter.unrolled.variational_network import VariationalNetwork
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

SHAPE = (10, 12)


def tomography() -> Normalised:
    return Normalised(Radon(ParallelBeam(views(7), detectors=17), SHAPE))


def test_parameter_counts_of_the_paper() -> None:
    for filters, expected in ((24, 65_530), (48, 131_050)):
        assert sum(weight.numel() for weight in VariationalNetwork(2, filters=filters).parameters()) == expected


@pytest.mark.parametrize(
    "physics",
    [tomography(), Normalised(FourierSampling(torch.rand(SHAPE) > 0.5, complex_image=True))],
    ids=["tomography", "complex k-space"],
)
def test_without_regulariser_it_is_gradient_descent(physics: Normalised) -> None:
    network = VariationalNetwork(physics.domain[0], stages=5, filters=3, kernel=3)
    with torch.no_grad():
        for stage in network.stages:
            stage.activation.weights.zero_()
    y = physics.A(torch.randn(2, *physics.domain))
    x = physics.direct(y)
    for _ in range(5):
        x = x - physics.A_adjoint(physics.A(x) - y)
    torch.testing.assert_close(network(y, physics), x, rtol=1e-4, atol=1e-5)


def test_a_stage_descends_the_gradient_of_its_energy() -> None:
    """With images that vanish near the border, where the paper's padding makes K and its transpose no exact pair."""
    physics = tomography()
    stage = VariationalNetwork(stages=1, filters=4, kernel=3).double().stages[0]
    with torch.no_grad():
        stage.activation.weights.normal_(std=0.1)
        stage.data_weight.fill_(0.4)
    u = torch.zeros(1, 1, *SHAPE, dtype=torch.float64)
    u[..., 3:-3, 3:-3] = torch.rand(4, 6)
    y = physics.A(torch.rand_like(u))
    centres, spacing = torch.linspace(-1, 1, 31).double(), 2 / 30

    def energy(u: Tensor) -> Tensor:
        response = conv2d(pad(u, (2,) * 4), stage.filters())[..., None]
        # ρ' = φ: the integral of a Gaussian is an error function
        integrals = spacing * math.sqrt(math.pi / 2) * torch.erf((response - centres) / (spacing * math.sqrt(2)))
        regulariser = (integrals * stage.activation.weights.view(4, 1, 1, 31)).sum() / 4
        return regulariser + math.log1p(math.exp(0.4)) / 2 * (physics.A(u) - y).square().sum()

    point = u.clone().requires_grad_()
    (slope,) = torch.autograd.grad(energy(point), point)
    moved = u - stage(u, y, physics)
    torch.testing.assert_close(moved.detach(), slope.detach(), rtol=0, atol=1e-3 * float(slope.abs().max()))


def test_filters_have_zero_mean_and_norm_at_most_one_whatever_training_does() -> None:
    stage = VariationalNetwork(2, stages=1, filters=5, kernel=5).stages[0]
    with torch.no_grad():
        stage.free_filters.mul_(torch.tensor([0.01, 0.5, 1.0, 3.0, 100.0]).view(-1, 1, 1, 1)).add_(0.3)
        filters = stage.filters()
    assert filters.mean((-2, -1)).abs().max() < 1e-6
    norms = filters.flatten(1).norm(dim=1)
    assert norms.max() <= 1 + 1e-6
    assert norms[0] < 0.05  # inside of the ball they are left as they are
    torch.testing.assert_close(norms[3:], torch.ones(2))


def test_large_filters_are_convolutions() -> None:
    x, z = torch.randn(2, 3, 13, 11, dtype=torch.float64), torch.randn(2, 4, 13, 11, dtype=torch.float64)
    filters = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(correlate(x, filters), conv2d(x, filters))
    torch.testing.assert_close(convolve(pad(z, (4,) * 4), filters), conv_transpose2d(z, filters))
    dot = (correlate(x, filters) * z[..., :9, :7]).sum()
    back = convolve(pad(z[..., :9, :7], (4,) * 4), filters)
    torch.testing.assert_close(dot, (x * back).sum())


def gaussians(v: np.ndarray, weights: np.ndarray) -> np.ndarray:
    centres = np.linspace(-1, 1, weights.shape[1])
    spacing = centres[1] - centres[0]
    return np.einsum("lj,bl...j->bl...", weights, np.exp(-(((v[..., None] - centres) / spacing) ** 2) / 2))


@given(st.integers(2, 40), st.integers(0, 2**31))
def test_activation_is_the_sum_of_gaussians(centres: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    function = RadialBasis(3, centres).double()
    function.weights.data.normal_(generator=generator)
    v = 1.5 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    expected = gaussians(v.numpy(), function.weights.detach().numpy())
    bound = 5e-4 * float(function.weights.detach().abs().max())
    np.testing.assert_allclose(function(v).detach().numpy(), expected, atol=bound)


def test_activation_starts_as_the_line_of_the_paper() -> None:
    v = torch.linspace(-0.7, 0.7, 301).expand(1, 2, -1)
    torch.testing.assert_close(RadialBasis(2)(v), 0.04 * v, atol=1e-5, rtol=0)


def test_activation_has_exact_gradients() -> None:
    function = RadialBasis(3, 7).double()
    function.weights.data.normal_()
    v = (1.5 * torch.randn(2, 3, 6, dtype=torch.float64)).requires_grad_()

    def call(v: Tensor, weights: Tensor) -> Tensor:
        return torch.func.functional_call(function, {"weights": weights}, (v,))

    assert torch.autograd.gradcheck(call, (v, function.weights), eps=1e-7, atol=1e-5)


def test_far_away_the_activation_is_zero_and_nan_stays() -> None:
    function = RadialBasis(1)
    function.weights.data.normal_()
    result = function(torch.tensor([[[math.nan, math.inf, -math.inf, 1e6, -3.0]]]))
    assert result[0, 0, 0].isnan()
    assert (result[0, 0, 1:] == 0).all()


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        VariationalNetwork(kernel=4)
    with pytest.raises(ValueError, match="at least 2"):
        RadialBasis(1, centres=1)
