"""Learned TV maps: the optimality conditions of the convex problem, whatever the map and the steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from isocenter.baselines.gradient import gradient, gradient_adjoint, joint_length
from isocenter.baselines.steps import PrimalDualState
from isocenter.physics import FourierSampling, Identity, LinearOperator, Normalised, ParallelBeam, Radon, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.unrolled.operator_facts import mean_eigenvalue
from isocenter.unrolled.regularisation_maps import RegularisationMaps, _Problem

SHAPE = (10, 12)
OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "identity": lambda: Identity(SHAPE),
    "complex k-space": lambda: FourierSampling(cartesian_uniform(SHAPE, 2, 4), complex_image=True),
    "tomography": lambda: Radon(ParallelBeam(views(9), detectors=17), SHAPE),
}


def boxes(physics: LinearOperator) -> torch.Tensor:
    x = torch.zeros(2, *physics.domain, dtype=torch.float64)
    x[0, :, 2:7, 3:9], x[1, :, 4:, :6] = 1, 0.5
    return x


@pytest.mark.parametrize(
    ("name", "tau", "share"), [("identity", 1.0, 0.5), ("complex k-space", 2.0, 0.3), ("tomography", 8.0, 0.5)]
)
def test_the_iterations_converge_to_the_minimiser_for_a_weight_that_varies(name: str, tau: float, share: float) -> None:
    physics = Normalised(OPERATORS[name]())
    x = boxes(physics)
    y = physics.A(x + 0.05 * torch.randn_like(x))
    radius = (0.002 + 0.03 * torch.rand(2, 1, 1, *SHAPE, dtype=torch.float64)) * mean_eigenvalue(physics)
    problem = _Problem(y, physics)
    state = PrimalDualState(physics.direct(y), problem.pack(torch.zeros_like(y), torch.zeros_like(gradient(x))))
    for _ in range(1000):
        state = problem.step(state, radius, torch.tensor(tau), torch.tensor(share))
    q, p = problem.unpack(state.p)
    slopes = gradient(state.x)
    torch.testing.assert_close(q, physics.A(state.x) - y, rtol=0, atol=1e-4)
    torch.testing.assert_close(physics.A_adjoint(q), -gradient_adjoint(p), rtol=0, atol=1e-5)
    assert (joint_length(p) <= radius[:, 0, 0] * (1 + 1e-9)).all()
    variation = (radius[:, 0, 0] * joint_length(slopes)).sum()
    torch.testing.assert_close((p * slopes).sum(), variation, rtol=1e-2, atol=1e-5)


def test_untrained_the_weight_is_constant_and_small() -> None:
    physics = Normalised(OPERATORS["complex k-space"]())
    weight = RegularisationMaps(widths=(4, 8)).weights(torch.randn(2, *physics.domain), mean_eigenvalue(physics))
    torch.testing.assert_close(weight, torch.full((2, 1, *SHAPE), 0.05 * mean_eigenvalue(physics)))


def test_the_phase_of_a_complex_image_does_not_matter() -> None:
    physics = OPERATORS["complex k-space"]()
    network = RegularisationMaps(iterations=8, widths=(4, 8))
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn_like(weight)

        def turned(x: torch.Tensor) -> torch.Tensor:
            c, s = math.cos(1.1), math.sin(1.1)
            return torch.stack((c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]), 1)

        y = physics.A(torch.randn(2, *physics.domain))
        torch.testing.assert_close(network(turned(y), physics), turned(network(y, physics)), rtol=1e-3, atol=1e-3)


def test_states_what_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="0 iterations"):
        RegularisationMaps(iterations=0)
