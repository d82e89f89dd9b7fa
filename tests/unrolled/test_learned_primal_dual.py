"""Learned primal-dual and its simpler forms: counts, what they are by hand, and planes of any measurement."""

from __future__ import annotations

import pytest
import torch
from isocenter.physics import MultiCoilSampling, Normalised
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.geometry import ParallelBeam, views
from isocenter.physics.pointwise import Identity
from isocenter.physics.radon import Radon
from isocenter.unrolled import full_precision
from isocenter.unrolled.learned_gradient import LearnedGradient
from isocenter.unrolled.learned_pdhg import LearnedPDHG
from isocenter.unrolled.learned_primal import LearnedPrimal
from isocenter.unrolled.learned_primal_dual import LearnedPrimalDual
from isocenter.unrolled.planes import from_planes, to_planes
from torch import Tensor, nn

SHAPE = (10, 12)


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def tomography() -> Normalised:
    return Normalised(Radon(ParallelBeam(views(7), detectors=17), SHAPE))


def test_parameter_counts_of_the_papers() -> None:
    assert count(LearnedPrimalDual()) == 253_220
    assert count(LearnedPrimal()) == 125_170  # 1.2e5 in the paper
    assert count(LearnedPDHG()) == 20_133  # 2.4e4 in the paper, which does not say how it counts
    assert count(LearnedGradient()) == 13_318
    assert count(LearnedGradient(dirichlet=False)) == 13_030


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 3, 5, 6), (2, 3, 4, 5, 6)])
def test_planes_come_back(channels: int, shape: tuple[int, ...]) -> None:
    y = torch.randn(3, *shape)
    assert torch.equal(from_planes(to_planes(y, channels), shape), y)


def test_planes_keep_the_parts_of_complex_numbers_together() -> None:
    y = torch.randn(2, 2, 3, 5, 6)
    coils = [y[image, :, coil] for image in range(2) for coil in range(3)]
    assert torch.equal(to_planes(y, 2), torch.stack(coils))
    assert torch.equal(to_planes(y, 1), y.reshape(12, 1, 5, 6))


def test_a_network_of_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="network of 2 channel"):
        to_planes(torch.zeros(1, 1, 5, 6), 2)
    with pytest.raises(ValueError, match="height"):
        to_planes(torch.zeros(4, 5, 6), 1)


def zero(network: nn.Module) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()


def test_without_weights_it_returns_its_zero_start() -> None:
    physics = tomography()
    network = LearnedPrimalDual(iterations=3)
    zero(network)
    assert (network(torch.randn(2, *physics.range), physics) == 0).all()


class Linear(nn.Module):
    """A block that sums given multiples of its planes into given outputs."""

    def __init__(self, inputs: int, outputs: int, weights: dict[tuple[int, int], float]) -> None:
        super().__init__()
        self.matrix = torch.zeros(outputs, inputs)
        for place, value in weights.items():
            self.matrix[place] = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oi,bi...->bo...", self.matrix, x)


@pytest.mark.parametrize(
    ("physics", "channels"),
    [
        (tomography(), 1),
        (Normalised(FourierSampling(torch.rand(SHAPE) > 0.5)), 1),
        (Normalised(FourierSampling(torch.rand(SHAPE) > 0.5, complex_image=True)), 2),
        (Normalised(MultiCoilSampling(torch.rand(SHAPE) > 0.5, torch.randn(2, 3, *SHAPE))), 2),
    ],
)
def test_with_the_right_blocks_it_is_gradient_descent(physics: Normalised, channels: int) -> None:
    """h⁽⁰⁾ = A f − y and both f⁽⁰⁾, f⁽¹⁾ ← f − τ Aᵀ h⁽⁰⁾: which plane goes where, on measurements of any shape."""
    network = LearnedPrimalDual(channels, iterations=6, primal=2, dual=1)
    c = channels
    dual: dict[tuple[int, int], float] = {}
    primal: dict[tuple[int, int], float] = {}
    for part in range(c):
        dual |= {(part, part): -1.0, (part, c + part): 1.0, (part, 2 * c + part): -1.0}
        primal |= {(part, 2 * c + part): -0.9, (c + part, 2 * c + part): -0.9}
    for iteration in network.iterations:
        iteration.dual, iteration.primal = Linear(3 * c, c, dual), Linear(3 * c, 2 * c, primal)
    y = physics.A(torch.randn(2, *physics.domain))
    expected = torch.zeros(2, *physics.domain)
    for _ in range(6):
        expected = expected - 0.9 * physics.A_adjoint(physics.A(expected) - y)
    torch.testing.assert_close(network(y, physics), expected, rtol=1e-4, atol=1e-5)


def test_learned_primal_with_the_right_blocks_is_gradient_descent() -> None:
    physics = tomography()
    network = LearnedPrimal(iterations=6, primal=2)
    network.updates = nn.ModuleList([Linear(3, 2, {(0, 2): -0.9, (1, 2): -0.9})] * 6)
    y = physics.A(torch.randn(2, 1, *SHAPE))
    expected = torch.zeros(2, 1, *SHAPE)
    for _ in range(6):
        expected = expected - 0.9 * physics.A_adjoint(physics.A(expected) - y)
    torch.testing.assert_close(network(y, physics), expected, rtol=1e-4, atol=1e-5)


def test_learned_pdhg_with_the_right_blocks_is_pdhg() -> None:
    """½‖A x − y‖² + μ/2 ‖x‖² has the proximal maps (h − σ y) / (1 + σ) and x / (1 + τ μ)."""
    physics = tomography()
    network, mu = LearnedPDHG(iterations=400), 0.5
    sigma, tau = 0.9, 0.9
    with torch.no_grad():
        network.sigma.fill_(sigma)
        network.tau.fill_(tau)
    network.dual = Linear(2, 1, {(0, 0): 1 / (1 + sigma) - 1, (0, 1): -sigma / (1 + sigma)})
    network.primal = Linear(1, 1, {(0, 0): 1 / (1 + tau * mu) - 1})
    y = physics.A(torch.randn(2, 1, *SHAPE))
    x = network(y, physics).detach()
    torch.testing.assert_close(physics.A_adjoint(physics.A(x) - y), -mu * x, rtol=1e-3, atol=1e-5)


def test_learned_gradient_starts_from_the_direct_reconstruction() -> None:
    physics = tomography()
    y = physics.A(torch.rand(2, 1, *SHAPE))
    torch.testing.assert_close(LearnedGradient(iterations=3)(y, physics), physics.direct(y))


def test_learned_gradient_descends_the_regularised_functional() -> None:
    """With Λ = −τ (its second input + μ its third) it minimises ½‖A x − y‖² + μ/2 ‖∇x‖²."""
    physics = tomography()
    network = LearnedGradient(iterations=7, memory=1)
    network.update = Linear(4, 2, {(0, 1): -0.4, (0, 2): -0.4 * 0.3})
    y = physics.A(torch.rand(1, 1, *SHAPE))

    def functional(x: Tensor) -> Tensor:
        rows, columns = x.diff(dim=-2), x.diff(dim=-1)
        return (physics.A(x) - y).square().sum() / 2 + 0.15 * (rows.square().sum() + columns.square().sum())

    x = physics.direct(y)
    for _ in range(7):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(functional(x), x)
        x = x - 0.4 * slope
    torch.testing.assert_close(network(y, physics), x.detach(), rtol=1e-4, atol=1e-5)


def test_learned_gradient_without_dirichlet_does_not_see_the_image_gradient() -> None:
    network = LearnedGradient(iterations=2, dirichlet=False)
    seen = []
    network.update.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    with full_precision():
        network(torch.rand(1, 1, *SHAPE), Identity(SHAPE))
    assert seen == [7, 7]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="1 primal"):
        LearnedPrimalDual(primal=1)
    with pytest.raises(ValueError, match="with 1 images"):
        LearnedPrimal(primal=1)
    with pytest.raises(ValueError, match="0 iterations"):
        LearnedPDHG(iterations=0)
    with pytest.raises(ValueError, match="0 images of memory"):
        LearnedGradient(memory=0)
