"""ItNet: data consistency, the iteration that it starts as, and its memory."""

from __future__ import annotations

import pytest
import torch
from isocenter.physics import FourierSampling, Normalised, ParallelBeam, Radon, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.unrolled.itnet import ItNet
from torch import nn


def disturbed(network: ItNet) -> ItNet:
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.15 * torch.randn_like(weight)
    return network


def test_a_last_step_of_one_keeps_what_was_measured_in_kspace() -> None:
    physics = FourierSampling(cartesian_uniform((12, 15), 2, 4), complex_image=True)
    network = disturbed(ItNet(2, iterations=2, widths=(4, 8)))
    network.iterations[-1].step_size.data.fill_(1.0)
    y = torch.randn(2, *physics.range) * physics.mask
    x = network(y, physics)
    torch.testing.assert_close(physics.A(x), y, rtol=1e-4, atol=1e-4)
    assert (x - physics.direct(y)).norm() > 0.01 * x.norm()


def test_untrained_it_repeats_filtered_back_projection_of_the_residual() -> None:
    physics = Normalised(Radon(ParallelBeam(views(20), detectors=25), (16, 16)))
    truth = torch.zeros(1, 1, 16, 16)
    truth[..., 4:11, 5:12] = 1
    y = physics.A(truth)
    x = ItNet(iterations=4, widths=(4, 8))(y, physics)
    expected = physics.direct(y)
    for step_size in (1, 1, 1, 0.1):
        expected = expected + step_size * physics.direct(y - physics.A(expected))
    torch.testing.assert_close(x, expected)
    assert (physics.A(x) - y).norm() < 0.5 * (physics.A(physics.direct(y)) - y).norm()


def test_memory_goes_from_iteration_to_iteration() -> None:
    network = disturbed(ItNet(iterations=3, memory=5, widths=(4, 8)))
    convolutions = [
        [m for m in it.correction.modules() if isinstance(m, nn.Conv2d)]
        for it in network.iterations  # type: ignore[union-attr]
    ]
    assert [layers[0].in_channels for layers in convolutions] == [1, 6, 6]
    last = [it.correction.body.Conv_1x1 for it in network.iterations]  # type: ignore[union-attr]
    assert [layer.out_channels for layer in last] == [6, 6, 1]

    physics = Normalised(Radon(ParallelBeam(views(9), detectors=15), (8, 8)))
    y = torch.randn(1, *physics.range)
    before = network(y, physics)
    with torch.no_grad():
        last[0].bias[1:] += 3  # what the first iteration writes
    assert (network(y, physics) - before).norm() > 1e-3 * before.norm()


def test_states_what_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="0 iterations"):
        ItNet(iterations=0)
