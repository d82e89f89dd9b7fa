"""A part of a scan is an operator of its own."""

from __future__ import annotations

import pytest
import torch
from isocenter.physics import (
    FourierSampling,
    Identity,
    LinearOperator,
    MultiCoilSampling,
    ParallelBeam,
    Radon,
    check_linear_operator,
    views,
)
from isocenter.physics.masks import cartesian_uniform
from isocenter.physics.subset import Subset

SHAPE = (12, 10)


def part(operator: LinearOperator) -> Subset:
    keep = torch.rand(operator.range[-2:], generator=torch.Generator().manual_seed(1)) < 0.6
    return Subset(operator, keep)


@pytest.mark.parametrize(
    "operator",
    [Identity(SHAPE), FourierSampling(cartesian_uniform(SHAPE, 2, 4), complex_image=True)],
    ids=["identity", "k-space"],
)
def test_it_keeps_the_laws(operator: LinearOperator) -> None:
    check_linear_operator(part(operator))  # the norm of these is that of the whole


@pytest.mark.parametrize("complex_image", [False, True])
def test_the_closed_forms_of_k_space_are_those_of_the_smaller_mask(complex_image: bool) -> None:
    subset = part(FourierSampling(cartesian_uniform(SHAPE, 2, 4), complex_image=complex_image))
    z, y = torch.randn(2, *subset.domain, dtype=torch.float64), torch.randn(2, *subset.range, dtype=torch.float64)
    torch.testing.assert_close(subset.normal(z), subset.A_adjoint(subset.A(z)))
    expected = LinearOperator.prox_l2(subset, z, subset.keep * y, 0.7, tol=1e-13)
    torch.testing.assert_close(subset.prox_l2(z, y, 0.7), expected, rtol=0, atol=1e-12)


def test_withheld_entries_change_nothing() -> None:
    subset = part(Radon(ParallelBeam(views(8), 17), SHAPE))
    y = subset.operator.A(torch.rand(2, *subset.domain))
    hidden = torch.where(subset.keep, y, torch.full_like(y, 1e3))
    z = torch.zeros(2, *subset.domain)
    for of in (subset.A_adjoint, subset.direct, lambda v: subset.prox_l2(z, v, 0.5)):
        torch.testing.assert_close(of(hidden), of(y))


def test_a_part_of_a_sinogram_still_gives_the_whole_image() -> None:
    """FBP of 60 % of the entries is 60 % of the image, unless it is scaled."""
    radon = Radon(ParallelBeam(views(60), 47), (32, 32), filter="hann")
    x = torch.zeros(1, 1, 32, 32)
    x[..., 8:24, 10:20] = 1
    y = radon.A(x)
    whole, subset = radon.direct(y), part(radon)
    scaled = subset.direct(y)
    assert float((scaled * x).sum() / (whole * x).sum()) == pytest.approx(1, abs=0.1)
    assert float((radon.direct(subset.keep * y) * x).sum() / (whole * x).sum()) < 0.7


@pytest.mark.parametrize("complex_image", [False, True])
def test_a_part_of_k_space_is_zero_filled_as_the_whole_is(complex_image: bool) -> None:
    mask, maps = cartesian_uniform(SHAPE, 2, 4), torch.randn(2, 3, *SHAPE)
    operator = MultiCoilSampling(mask, maps) if complex_image else FourierSampling(mask)
    everything = Subset(Subset(operator, torch.ones(SHAPE)), torch.ones(SHAPE))
    y = operator.A(torch.randn(2, *operator.domain))
    torch.testing.assert_close(everything.direct(y), operator.direct(y))


def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"keep is \(3, 3\), which does not broadcast against \(1, 12, 10\)"):
        Subset(Identity(SHAPE), torch.ones(3, 3))
    with pytest.raises(ValueError, match="0 and 1"):
        Subset(Identity(SHAPE), torch.full(SHAPE, 0.5))
