"""Post-processing in the image, and before it in the measurement."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from isocenter.physics import FourierSampling, Identity, LinearOperator, MultiCoilSampling, Normalised
from isocenter.physics.masks import cartesian_uniform
from isocenter.unrolled.dual_domain import DualDomain
from isocenter.unrolled.postprocessing import DnCNNPostProcessing
from torch import Tensor, nn

SHAPE = (12, 15)
MASK = cartesian_uniform(SHAPE, 2, 4)


def coils() -> MultiCoilSampling:
    return MultiCoilSampling(MASK, torch.randn(2, 3, *SHAPE))


SAMPLINGS: dict[str, Callable[[], LinearOperator]] = {
    "real": lambda: FourierSampling(MASK),
    "complex": lambda: FourierSampling(MASK, complex_image=True),
    "coils": coils,
}


class Oracle(nn.Module):
    """Knows what was not measured."""

    def __init__(self, missing: Tensor) -> None:
        super().__init__()
        self.missing = missing

    def forward(self, planes: Tensor) -> Tensor:
        return self.missing


@pytest.mark.parametrize("name", SAMPLINGS)
def test_what_the_first_network_fills_into_kspace_reaches_the_image(name: str) -> None:
    operator = SAMPLINGS[name]()
    physics = Normalised(operator)
    x = torch.randn(2, *physics.domain)
    everything = (
        MultiCoilSampling(torch.ones(SHAPE), operator.coil_maps)
        if isinstance(operator, MultiCoilSampling)
        else FourierSampling(torch.ones(SHAPE), complex_image=physics.domain[0] == 2)
    )
    y = physics.A(x)
    missing = everything.A(x) / physics.scale - y
    size = y.square().mean(tuple(range(1, y.ndim)), keepdim=True).sqrt()
    network = DualDomain(physics.domain[0], widths=(4, 8))
    network.measurement = Oracle((missing / size).movedim(1, -3).reshape(-1, 2, *SHAPE))  # type: ignore[assignment]
    torch.testing.assert_close(network(y, physics), x, rtol=1e-3, atol=1e-3)
    assert (physics.direct(y) - x).norm() > 0.1 * x.norm()


def test_coils_are_treated_alike() -> None:
    operator, order = coils(), [2, 0, 1]
    network = DualDomain(2, width=4, widths=(4, 8))
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.05 * torch.randn_like(weight)
        y = operator.A(torch.randn(2, 2, *SHAPE))
        other = MultiCoilSampling(MASK, operator.coil_maps[:, order])
        torch.testing.assert_close(network(y[:, :, order], other), network(y, operator), rtol=1e-2, atol=1e-2)
        assert not torch.allclose(network(y, operator), operator.direct(y), atol=1e-2)


def test_a_real_measurement_is_the_first_plane_of_a_complex_one() -> None:
    x, y = torch.randn(2, 3, 1, *SHAPE)
    size = y.square().mean((1, 2, 3), keepdim=True).sqrt()
    network = DualDomain(1, widths=(4, 8))
    network.measurement = Oracle(torch.cat(((x - y) / size, torch.randn_like(y)), dim=1))  # type: ignore[assignment]
    torch.testing.assert_close(network(y, Identity(SHAPE)), x)


def test_dncnn_has_the_layers_of_the_paper() -> None:
    network = DnCNNPostProcessing()
    weights = [w.numel() for w in network.parameters()]
    assert sum(weights) == (9 * 64 + 64) + 15 * (9 * 64 * 64 + 64) + (9 * 64 + 1)
    with pytest.raises(ValueError, match="at least 2"):
        DnCNNPostProcessing(depth=1)


def test_dncnn_sees_as_far_as_it_says() -> None:
    network = DnCNNPostProcessing(depth=3, width=4)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.3 * torch.randn_like(weight)
    x = torch.rand(1, 1, 15, 15, requires_grad=True)
    network(x, Identity((15, 15)))[0, 0, 7, 7].backward()
    assert x.grad is not None
    rows = x.grad[0, 0].abs().sum(1) > 0
    assert rows.nonzero().flatten().tolist() == list(range(4, 11))
