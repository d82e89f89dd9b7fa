"""E2E-VarNet against its equations, and the coil maps that it estimates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from isocenter.physics import (
    FourierSampling,
    Identity,
    LinearOperator,
    MultiCoilSampling,
    Normalised,
    ParallelBeam,
    Radon,
    views,
)
from isocenter.physics.masks import cartesian_uniform
from isocenter.physics.subset import Subset
from isocenter.unrolled.blocks import full_precision
from isocenter.unrolled.coil_maps import CoilMapEstimation, calibration_region
from isocenter.unrolled.e2e_varnet import E2EVarNet
from torch import Tensor, nn

SHAPE = (12, 15)
MASK = cartesian_uniform(SHAPE, 2, 5)


def coils(count: int = 3, mask: Tensor = MASK) -> MultiCoilSampling:
    smooth = torch.fft.ifft2(torch.nn.functional.pad(torch.randn(2, count, 2, 2), (0, 13, 0, 10)), norm="forward").real
    return MultiCoilSampling(mask, smooth)


def disturbed(network: E2EVarNet) -> E2EVarNet:
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return network


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x + 0.1


def test_several_coils_follow_the_papers_iteration_in_kspace() -> None:
    physics = Normalised(coils())
    network = E2EVarNet(2, cascades=2, widths=(4, 4))
    for cascade, weight in zip(network.cascades, (0.7, 0.4), strict=True):
        cascade.correction = Half()
        cascade.weight.data.fill_(weight)
    y = torch.randn(1, *physics.range) * physics.support
    with torch.no_grad():
        result = network(y, physics)[0].numpy()

    maps = physics.operator.coil_maps.double().numpy()
    maps = maps[0] + 1j * maps[1]
    root = np.sqrt((np.abs(maps) ** 2).sum(0))
    measured = physics.scale * (y[0, 0].double() + 1j * y[0, 1].double()).numpy()
    centre = {"axes": (-2, -1)}
    k = measured
    for weight in (0.7, 0.4):
        images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, **centre), norm="ortho"), **centre)
        x = (maps.conj() / root * images).sum(0)
        correction = 0
        for part, unit in ((x.real, 1), (x.imag, 1j)):
            correction = correction + unit * (0.5 * (part - part.mean()) + 0.1 * part.std())
        expanded = np.fft.ifftshift(maps / root * correction, **centre)
        k = k - weight * MASK.numpy() * (k - measured)
        k = k - np.fft.fftshift(np.fft.fft2(expanded, norm="ortho"), **centre)
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, **centre), norm="ortho"), **centre)
    expected = (maps.conj() * images).sum(0) / root**2
    np.testing.assert_allclose(result[0] + 1j * result[1], expected, rtol=1e-3, atol=1e-4)


def test_with_one_coil_both_spaces_are_the_same() -> None:
    network = disturbed(E2EVarNet(2, cascades=3, widths=(4, 8)))
    single = FourierSampling(MASK, complex_image=True)
    one = MultiCoilSampling(MASK, torch.stack((torch.full((1, *SHAPE), 0.6), torch.full((1, *SHAPE), 0.8))))
    x = torch.randn(2, 2, *SHAPE)
    rotated = torch.stack((0.6 * x[:, 0] - 0.8 * x[:, 1], 0.8 * x[:, 0] + 0.6 * x[:, 1]), 1)
    with torch.no_grad(), full_precision():
        expected = network(single.A(x), single)
        result = network(one.A(x), one)
        assert not torch.allclose(expected, single.direct(single.A(x)), atol=1e-2)
    torch.testing.assert_close(one.A(x)[:, :, 0], single.A(rotated), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("maps", ["operator", "estimated"])
def test_untrained_it_is_the_direct_reconstruction_and_keeps_what_was_measured(maps: str) -> None:
    operator = coils()
    y = operator.A(torch.randn(2, 2, *SHAPE))
    x = E2EVarNet(2, cascades=2, widths=(4, 8), coil_maps=maps)(y, operator)  # type: ignore[arg-type]
    torch.testing.assert_close(x, operator.direct(y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("physics", "maps"),
    [
        (Identity(SHAPE), "operator"),
        (Radon(ParallelBeam(views(7), detectors=21), SHAPE), "operator"),
        (coils(), "operator"),
        (coils(), "estimated"),
    ],
)
def test_equivariant_to_scale(physics: LinearOperator, maps: str) -> None:
    physics = Normalised(physics)
    network = disturbed(E2EVarNet(physics.domain[0], cascades=2, widths=(4, 8), coil_maps=maps))  # type: ignore[arg-type]
    y = physics.A(torch.rand(2, *physics.domain))
    with torch.no_grad(), full_precision():
        torch.testing.assert_close(network(50 * y, physics), 50 * network(y, physics), rtol=1e-3, atol=1e-2)


def test_a_part_of_a_scan_is_not_filled_with_what_was_withheld() -> None:
    operator = coils()
    keep = torch.rand(SHAPE) > 0.3
    part = Normalised(Subset(operator, keep))
    network = disturbed(E2EVarNet(2, cascades=2, widths=(4, 8)))
    y = operator.A(torch.randn(1, 2, *SHAPE)) / part.scale
    with torch.no_grad():
        torch.testing.assert_close(network(y, part), network(y * keep, part))
        fewer = MultiCoilSampling(MASK & keep, operator.coil_maps)
        torch.testing.assert_close(network(y, part), network(y * keep * part.scale, fewer), rtol=1e-2, atol=1e-2)


def test_untrained_maps_are_those_of_the_coils_times_the_phase_of_the_image() -> None:
    operator = coils(mask=torch.ones(SHAPE))
    phase = torch.rand(1, *SHAPE) * 6
    x = torch.stack((phase.cos(), phase.sin()), 1) * (0.2 + torch.rand(1, 1, *SHAPE))
    maps = CoilMapEstimation((4, 8))(operator.A(x), operator.mask)
    true = operator.coil_maps
    root = true.square().sum((0, 1)).sqrt()
    s, turn = torch.complex(true[0], true[1]) / root, torch.polar(torch.ones_like(phase[0]), phase[0])
    torch.testing.assert_close(torch.complex(maps[0, 0], maps[0, 1]), s * turn, rtol=1e-3, atol=1e-4)


def test_maps_of_any_weights_have_unit_energy_and_finite_gradients() -> None:
    operator = coils()
    network = disturbed(E2EVarNet(2, cascades=2, widths=(4, 8), coil_maps="estimated"))
    y = operator.A(torch.randn(2, 2, *SHAPE))
    assert network.estimate is not None
    energy = network.estimate(y, operator.mask).square().sum((1, 2))
    torch.testing.assert_close(energy, torch.ones_like(energy))
    network(y, operator).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any() or name == "cascades.0.weight", name  # k = y has no misfit yet


@pytest.mark.parametrize("shape", [(8, 10), (9, 11)])
def test_calibration_region(shape: tuple[int, int]) -> None:
    row, column = shape[0] // 2, shape[1] // 2
    lines = torch.zeros(shape, dtype=torch.bool)
    lines[:, column - 2 : column + 3] = True
    torch.testing.assert_close(calibration_region(lines), lines)
    outside = lines.clone()
    outside[:, 0] = True
    torch.testing.assert_close(calibration_region(outside), lines)
    torch.testing.assert_close(calibration_region(lines | True), lines | True)
    hole = torch.ones(shape, dtype=torch.bool)
    hole[row, column + 2] = False
    expected = torch.zeros(shape, dtype=torch.bool)
    expected[:, column - 1 : column + 2] = True
    torch.testing.assert_close(calibration_region(hole), expected)


def test_says_what_it_cannot_do() -> None:
    network = E2EVarNet(1, cascades=1, widths=(4, 4), coil_maps="estimated")
    with pytest.raises(ValueError, match="Identity has no coils"):
        network(torch.zeros(1, 1, 8, 8), Identity((8, 8)))
    with pytest.raises(ValueError, match="zero frequency"):
        calibration_region(torch.zeros(8, 8))
    with pytest.raises(ValueError, match="cascades"):
        E2EVarNet(cascades=0)
