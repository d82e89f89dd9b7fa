"""Piecewise-linear functions against numpy's interpolation, and their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isocenter.unrolled.piecewise_linear import PiecewiseLinear


def test_starts_as_the_soft_threshold() -> None:
    v = torch.linspace(-3, 3, 601).expand(4, -1)
    soft = v.sign() * (v.abs() - 0.06).clamp_min(0)  # its kinks are knots
    torch.testing.assert_close(PiecewiseLinear(4, 101, threshold=0.06)(v), soft, atol=1e-6, rtol=0)
    between = PiecewiseLinear(4, 101, threshold=0.05)(v) - v.sign() * (v.abs() - 0.05).clamp_min(0)
    assert between.abs().max() <= 0.01 / 2 + 1e-6  # a kink between two knots is cut by at most half their distance / 2


@given(st.integers(2, 40), st.integers(0, 2**31))
def test_is_numpys_interpolation_inside_and_has_slope_one_outside(knots: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    function = PiecewiseLinear(3, knots).double()
    function.values.data.normal_(generator=generator)
    v = 2 * torch.randn(3, 2, 5, generator=generator, dtype=torch.float64)
    result = function(v).detach().numpy()
    for channel, values in enumerate(function.values.detach().numpy()):
        inside = np.interp(v[channel], np.linspace(-1, 1, knots), values)
        expected = inside + (v[channel] - v[channel].clamp(-1, 1)).numpy()
        np.testing.assert_allclose(result[channel], expected, atol=1e-12)


def test_gradients_are_exact() -> None:
    function = PiecewiseLinear(3, 11).double()
    function.values.data += 0.1 * torch.randn(3, 11, dtype=torch.float64)
    v = torch.randn(3, 2, 7, dtype=torch.float64, requires_grad=True)
    assert (v.abs() > 1).any()
    assert (v.abs() < 1).any()

    def call(v: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(function, {"values": values}, (v,))

    assert torch.autograd.gradcheck(call, (v, function.values))


def test_nan_and_infinity_pass_through() -> None:
    result = PiecewiseLinear(1)(torch.tensor([[math.nan, math.inf, -math.inf, 0.0]]))
    assert not result[0, :3].isfinite().any()
    assert result[0, 3] == 0


def test_one_knot_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        PiecewiseLinear(1, knots=1)
