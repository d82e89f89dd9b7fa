"""ISTA-Net+: the published count, ISTA where its transforms are the identity, and the penalty on the transforms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from isocenter.physics import Normalised
from isocenter.physics.geometry import ParallelBeam, views
from isocenter.physics.radon import Radon
from isocenter.unrolled import full_precision
from isocenter.unrolled.ista_net import ISTANetPlus

SHAPE = (10, 12)
SCALE = 1e6


def tomography() -> Normalised:
    return Normalised(Radon(ParallelBeam(views(7), detectors=17), SHAPE))


def test_parameter_count_of_the_paper() -> None:
    assert sum(weight.numel() for weight in ISTANetPlus().parameters()) == 336_978


def centre(layer: torch.nn.Conv2d, matrix: list[list[float]]) -> None:
    """Make the convolution a matrix that acts on the channels of each pixel."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, :, 1, 1] = torch.tensor(matrix)


def ista(phases: int) -> ISTANetPlus:
    """Weights that make the network ISTA with the sparsity of the pixels themselves.

    D x = (x, −x, sx, −sx), and F and B carry such pairs unchanged through their ReLUs. Shrinkage does nothing to the
    second pair, which is large, so that G can subtract it: x = r + (soft(r) − soft(s r) / s) = soft(r) for large s.
    """
    network = ISTANetPlus(phases=phases, width=4)
    for phase in network.phases:
        transform = phase.transform
        centre(transform.to_features, [[1.0], [-1.0], [SCALE], [-SCALE]])
        for first, _, second in (transform.forwards, transform.backwards):
            centre(first, torch.eye(4).tolist())
            centre(second, torch.block_diag(*[torch.tensor([[1.0, -1.0], [-1.0, 1.0]])] * 2).tolist())
        centre(transform.to_image, [[0.5, -0.5, -0.5 / SCALE, 0.5 / SCALE]])
    return network


def test_with_identity_transforms_it_is_ista(dense: Callable) -> None:
    physics = tomography()
    network = ista(phases=3).double().eval()
    with torch.no_grad():
        for phase in network.phases:
            phase.step_size.fill_(0.3)
            phase.transform.threshold.fill_(0.02)
    y = physics.A(torch.rand(2, 1, *SHAPE, dtype=torch.float64))
    matrix = dense(physics).numpy()
    with torch.no_grad():
        x = network(y, physics)
    for image in range(2):
        expected, data = physics.direct(y)[image].numpy().ravel(), y[image].numpy().ravel()
        for _ in range(3):
            r = expected - 0.3 * matrix.T @ (matrix @ expected - data)
            expected = np.sign(r) * np.maximum(np.abs(r) - 0.02, 0)
        np.testing.assert_allclose(x[image].numpy().ravel(), expected, atol=1e-6)


def test_penalty_is_zero_where_b_inverts_f_and_the_definition_elsewhere() -> None:
    physics = tomography()
    y = physics.A(torch.rand(2, 1, *SHAPE))
    inverse, network = ista(phases=2), ISTANetPlus(phases=1, width=4)
    with full_precision(), torch.no_grad():
        inverse(y, physics)
        network(y, physics)
        x = physics.direct(y)
        transform = network.phases[0].transform
        d = transform.to_features(x - 0.5 * physics.A_adjoint(physics.A(x) - y))
        expected = 0.01 * (transform.backwards(transform.forwards(d)) - d).square().mean()
    assert inverse.penalty() == 0
    torch.testing.assert_close(network.penalty(), expected)


def test_penalty_is_of_training_alone() -> None:
    physics = tomography()
    network = ISTANetPlus(phases=2, width=4)
    network(physics.A(torch.rand(1, 1, *SHAPE)), physics)
    assert network.penalty() is not None
    network.eval()(physics.A(torch.rand(1, 1, *SHAPE)), physics)
    assert network.penalty() is None


def test_penalty_lowers_the_asymmetry() -> None:
    physics = tomography()
    network = ISTANetPlus(phases=2, width=4)
    y = physics.A(torch.rand(2, 1, *SHAPE))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    values = []
    for _ in range(30):
        network(y, physics)
        penalty = network.penalty()
        assert penalty is not None
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
        values.append(float(penalty.detach()))
    assert values[-1] < 0.3 * values[0]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="0 phases"):
        ISTANetPlus(phases=0)
