"""Deep equilibrium: Tikhonov's solution at the start, and the gradient of the fixed point."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from isocenter.baselines.anderson import anderson
from isocenter.baselines.method import ConvergenceWarning
from isocenter.physics import Blur, FourierSampling, LinearOperator, Normalised, ParallelBeam, Radon, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.unrolled.deep_equilibrium import SCALE, DeepEquilibrium
from torch import Tensor, nn

OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "complex k-space": lambda: FourierSampling(cartesian_uniform((8, 9), 2, 3), complex_image=True),
    "reflecting blur": lambda: Blur(torch.rand(3, 3) / 9, (6, 7), boundary="reflect"),
    "tomography": lambda: Radon(ParallelBeam(views(5), detectors=11), (6, 7)),
}


def network(physics: LinearOperator, disturbance: float = 0.0, iterations: int = 300) -> DeepEquilibrium:
    made = DeepEquilibrium(physics.domain[0], depth=3, width=4, iterations=iterations, tol=1e-11).double()
    with torch.no_grad():
        for weight in made.parameters():
            weight += disturbance * torch.randn_like(weight)
    return made


@pytest.mark.parametrize("name", OPERATORS)
def test_untrained_it_is_tikhonovs_solution(name: str, dense: Callable) -> None:
    physics = Normalised(OPERATORS[name]())
    y = torch.randn(2, *physics.range, dtype=torch.float64)
    y = y if physics.support is None else y * physics.support
    x = network(physics).eval()(y, physics)
    matrix = dense(physics)
    normal = matrix.T @ matrix + 0.05 * torch.eye(matrix.shape[1], dtype=torch.float64)
    expected = torch.linalg.solve(normal, matrix.T @ y.flatten(1).T).T
    torch.testing.assert_close(x.flatten(1), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_gradient_is_that_of_as_many_iterations_as_it_takes(name: str) -> None:
    physics = Normalised(OPERATORS[name]())
    y = torch.randn(2, *physics.range, dtype=torch.float64)
    y = y if physics.support is None else y * physics.support
    made = network(physics, disturbance=0.05)
    made.shrinkage.data.fill_(-1.0)  # β = 0.3, so that few iterations are enough
    weights = torch.randn(2, *physics.domain, dtype=torch.float64)
    implicit = torch.autograd.grad((made(y, physics) * weights).sum(), tuple(made.parameters()))

    step, shrinkage = 2 * made.step.sigmoid(), nn.functional.softplus(made.shrinkage)
    x = torch.zeros_like(weights)
    for _ in range(100):
        v = x - step * physics.A_adjoint(physics.A(x) - y)
        x = (v + SCALE * made.correction(v)) / (1 + shrinkage)
    unrolled = torch.autograd.grad((x * weights).sum(), tuple(made.parameters()))
    for mine, exact in zip(implicit, unrolled, strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


def test_memory_does_not_grow_with_the_iterations() -> None:
    physics = Normalised(OPERATORS["tomography"]())
    y = torch.randn(2, *physics.range, dtype=torch.float64)

    def kept(iterations: int) -> int:
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(physics, iterations=iterations)(y, physics)
        return total

    assert kept(2) == kept(20)


def test_an_equilibrium_that_was_not_reached_is_a_warning_when_evaluated() -> None:
    physics = Normalised(OPERATORS["tomography"]())
    y = torch.randn(1, *physics.range, dtype=torch.float64)
    with pytest.warns(ConvergenceWarning, match="after 2 iterations, tolerance .* raise iterations"):
        network(physics, iterations=2).eval()(y, physics)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(physics, iterations=2).train()(y, physics)
        network(physics).eval()(y, physics)


def test_kernels_never_have_a_norm_above_one() -> None:
    made = DeepEquilibrium(depth=3, width=4)
    with torch.no_grad():
        for weight in made.parameters():
            weight += torch.randn_like(weight)
    for layer in made.correction.modules():
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2) <= 1 + 1e-5


def test_anderson_finds_the_fixed_point_of_the_cosine() -> None:
    x, residual = anderson(torch.cos, torch.rand(3, 4, dtype=torch.float64), tol=1e-12, max_iter=50)
    torch.testing.assert_close(x, torch.full_like(x, 0.7390851332151607))
    assert (residual <= 1e-12).all()


def test_anderson_solves_a_linear_system_of_few_unknowns_at_once_where_the_iteration_alone_crawls() -> None:
    matrix = torch.diag(torch.tensor([0.99, 0.9, -0.5, 0.2], dtype=torch.float64))
    right = torch.randn(3, 4, dtype=torch.float64)
    x, _ = anderson(lambda v: v @ matrix + right, torch.zeros_like(right), tol=1e-10, max_iter=12)
    torch.testing.assert_close(x, right / (1 - matrix.diagonal()), rtol=1e-4, atol=1e-4)


def test_anderson_treats_every_image_alone() -> None:
    rates = torch.tensor([[0.1], [0.9], [0.99]], dtype=torch.float64)
    start, right = torch.zeros(3, 5, dtype=torch.float64), torch.rand(3, 5, dtype=torch.float64)

    def f(v: Tensor, rate: Tensor, b: Tensor) -> Tensor:
        return rate * v.tanh() + b

    together, _ = anderson(lambda v: f(v, rates, right), start, tol=1e-3, max_iter=30)
    for image in range(3):
        one = slice(image, image + 1)
        alone, _ = anderson(lambda v, s=one: f(v, rates[s], right[s]), start[one], tol=1e-3, max_iter=30)
        torch.testing.assert_close(together[one], alone)


def test_anderson_keeps_the_best_of_an_iteration_that_diverges() -> None:
    x, residual = anderson(lambda v: v.square() + 1, torch.ones(1, 1, dtype=torch.float64), tol=1e-6, max_iter=40)
    assert x.isfinite().all()
    assert residual > 1e-6


def test_states_what_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="0 iterations"):
        DeepEquilibrium(iterations=0)
