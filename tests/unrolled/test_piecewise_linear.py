"""Piecewise-linear functions against numpy's interpolation, and their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from isocenter.unrolled import piecewise_linear
from isocenter.unrolled.filter_bank import analyse, synthesise
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


@pytest.mark.parametrize("strip", [7, 84, 1000])
def test_strips_between_filters_change_neither_image_nor_gradients(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise_linear, "STRIP", strip)
    function = PiecewiseLinear(4, 11).double()
    function.values.data += 0.1 * torch.randn(4, 11, dtype=torch.float64)
    x = torch.randn(2, 6, 7, dtype=torch.float64, requires_grad=True)
    first, second = (torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    made = function.between_filters(x, first, bias, second)
    expected = synthesise(function(analyse(x, first) + bias.view(-1, 1, 1, 1)), second)
    torch.testing.assert_close(made, expected)
    weights = torch.randn_like(x)
    for_all = (x, first, bias, function.values, second)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), for_all) for y in (made, expected))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their)


def test_nan_and_infinity_pass_through() -> None:
    result = PiecewiseLinear(1)(torch.tensor([[math.nan, math.inf, -math.inf, 0.0]]))
    assert not result[0, :3].isfinite().any()
    assert result[0, 3] == 0
    image = torch.zeros(1, 4, 4)
    image[0, 0, 0] = math.nan
    filters = torch.ones(1, 3, 3)
    assert PiecewiseLinear(1).between_filters(image, filters, torch.zeros(1), filters).isnan().any()


def test_one_knot_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        PiecewiseLinear(1, knots=1)
