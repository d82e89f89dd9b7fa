"""PReLU is PyTorch's."""

from __future__ import annotations

import pytest
import torch
from isocenter.unrolled.prelu import PReLU
from torch import nn


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_pytorch(dtype: torch.dtype, layout: torch.memory_format) -> None:
    own, expected = PReLU(5), nn.PReLU(5)
    slopes = torch.tensor([-0.5, 0.0, 0.3, 1.0, 2.0])
    x = torch.randn(3, 5, 6, 7).to(dtype, memory_format=layout)
    x[:, :, 0] = 0
    weights = torch.randn(3, 5, 6, 7).to(dtype, memory_format=layout)
    results = []
    for module in (own, expected):
        module.load_state_dict({"weight": slopes})
        x = x.detach().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = module(x) if dtype != torch.float64 else module.double()(x)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=layout)
        y.backward(weights)
        results.append((y, x.grad, module.weight.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_is_that_of_finite_differences() -> None:
    module, x = PReLU(3).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    module.weight.data = torch.tensor([0.0, 0.4, -1.3], dtype=torch.float64)

    def function(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(function, (x, module.weight))
