"""MoDL: the proximal point iteration without its network, and the implicit gradient of its solves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from isocenter.physics import Blur, FourierSampling, Inpaint, LinearOperator, Normalised, ParallelBeam, Radon, views
from isocenter.unrolled.modl import MoDL, TikhonovSolve

OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "complex k-space": lambda: FourierSampling(torch.arange(6).lt(4).expand(7, 6), complex_image=True),
    "circular blur": lambda: Blur(torch.ones(3, 3) / 9, (6, 7)),
    "reflecting blur": lambda: Blur(torch.rand(3, 3) / 9, (6, 7), boundary="reflect"),
    "inpainting": lambda: Inpaint(torch.rand(6, 7) > 0.4),
    "tomography": lambda: Radon(ParallelBeam(views(5), detectors=11), (6, 7)),
}


def test_parameter_count_of_the_paper() -> None:
    assert sum(w.numel() for w in MoDL(channels=2).parameters()) == 113_154 + 1  # and λ


@pytest.mark.parametrize("name", OPERATORS)
def test_without_its_network_it_is_the_proximal_point_iteration(name: str, dense: Callable) -> None:
    physics = Normalised(OPERATORS[name]())
    y = physics.A(torch.randn(2, *physics.domain, dtype=torch.float64)) + 0.1
    network = MoDL(physics.domain[0], iterations=4, width=4, cg_iterations=60).double()
    with torch.no_grad():
        x = network(y, physics)
    matrix, weight = dense(physics).numpy(), float(physics.normal_spectrum.mean())
    normal = matrix.T @ matrix + weight * np.eye(matrix.shape[1])
    for image in range(2):
        expected = physics.direct(y)[image].numpy().ravel()
        for _ in range(4):
            expected = np.linalg.solve(normal, matrix.T @ y[image].numpy().ravel() + weight * expected)
        np.testing.assert_allclose(x[image].numpy().ravel(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["tomography", "reflecting blur", "inpainting"])
def test_implicit_gradient(name: str) -> None:
    physics = Normalised(OPERATORS[name]())
    right = torch.randn(2, *physics.domain, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(0.07, dtype=torch.float64, requires_grad=True)
    start = torch.zeros_like(right)

    def solve(b: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return TikhonovSolve.apply(b, w, physics, start, 200)

    assert torch.autograd.gradcheck(solve, (right, weight), fast_mode=True)


def test_memory_does_not_grow_with_the_iterations_of_a_solve() -> None:
    physics = Normalised(OPERATORS["tomography"]())
    y = torch.randn(2, *physics.range)

    def kept(cg_iterations: int) -> int:
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            MoDL(iterations=2, width=4, cg_iterations=cg_iterations)(y, physics)
        return total

    assert kept(3) == kept(30)


def test_states_what_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MoDL(iterations=0)
    with pytest.raises(ValueError, match="at least 2"):
        MoDL(depth=1)
