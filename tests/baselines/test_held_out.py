"""Held-out measurements: which are withheld, and that nothing of them reaches the rest."""

from __future__ import annotations

import pytest
import torch
from isocenter.baselines.held_out import hold_out
from isocenter.physics import (
    Blur,
    Downsample,
    FourierSampling,
    Identity,
    Inpaint,
    LinearOperator,
    MultiCoilSampling,
    ParallelBeam,
    Radon,
    views,
)
from isocenter.physics.masks import cartesian_random, pseudo_radial
from torch import Tensor

SCANS: dict[str, LinearOperator] = {
    "identity": Identity((2, 12, 12)),
    "inpaint": Inpaint(torch.arange(144).reshape(12, 12) % 3 > 0),
    "blur": Blur(torch.ones(3, 3) / 9, (12, 12), "valid"),
    "downsample": Downsample((12, 12), 2),
    "radon": Radon(ParallelBeam(views(20), 17), (12, 12)),
    "columns": FourierSampling(cartesian_random((32, 30), 2.0, 8, seed=1)),
    "rows": FourierSampling(cartesian_random((30, 32), 2.0, 8, seed=1).T.contiguous(), complex_image=True),
    "radial": FourierSampling(pseudo_radial((32, 32), lines=8)),
    "coils": MultiCoilSampling(cartesian_random((16, 32), 2.0, 8, seed=1), torch.randn(2, 3, 16, 32)),
}


@pytest.mark.parametrize("name", SCANS)
def test_a_tenth_is_withheld_and_the_rest_is_measured_as_before(name: str) -> None:
    physics = SCANS[name]
    rest, withheld = hold_out(physics)
    seen = torch.ones(physics.range, dtype=torch.bool)
    if physics.support is not None:
        seen = physics.support.expand(physics.range)
    assert 0.05 < float(withheld.sum() / seen.sum()) < 0.15
    assert not (withheld & ~seen).any()
    x = torch.randn(2, *physics.domain, generator=torch.Generator().manual_seed(0))
    y = physics.A(x)
    torch.testing.assert_close(rest.A(x), y * ~withheld)
    torch.testing.assert_close(rest.A_adjoint(y), physics.A_adjoint(y * ~withheld))
    assert rest.support is not None
    assert torch.equal(rest.support.expand(physics.range), seen & ~withheld)
    spoilt = torch.where(withheld, torch.full_like(y, 1e3), y) * ~withheld
    torch.testing.assert_close(rest.direct(spoilt), rest.direct(y * ~withheld))
    assert torch.equal(hold_out(physics)[1], withheld)


def test_views_and_lines_are_withheld_as_a_whole() -> None:
    def kinds(name: str) -> tuple[Tensor, Tensor]:
        part = hold_out(SCANS[name])[1].flatten(0, -3).any(0)
        return part.any(1), part.any(0)

    in_view, _ = kinds("radon")
    assert int(in_view.sum()) == 2
    assert torch.equal(hold_out(SCANS["radon"])[1][0], in_view[:, None].expand(20, 17))
    for name, axis in (("columns", 0), ("rows", 1), ("coils", 0)):
        scan, part = SCANS[name], hold_out(SCANS[name])[1].flatten(0, -3).any(0)
        mask: Tensor = scan.mask  # type: ignore[assignment]
        assert torch.equal(part.any(axis), (part | ~mask).all(axis) & part.any(axis))  # all of a line that is measured
    rest, first = hold_out(SCANS["columns"])
    second = hold_out(rest)[1]
    assert not (first & second).any()  # of what is left, whole lines again
    assert torch.equal(second.any(-2, keepdim=True) & rest.support, second)
    radial = hold_out(SCANS["radial"])[1]
    assert not radial[:, 14:19, 14:19].any()  # the centre of k-space stays
    with pytest.raises(ValueError, match="choose another rule"):
        hold_out(Radon(ParallelBeam(views(1), 17), (12, 12)))
