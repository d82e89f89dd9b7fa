"""Methods that iterate show their way: it ends at what they return, and being looked at changes nothing."""

from __future__ import annotations

import pytest
import torch
from isocenter.baselines import (
    SIRT,
    ConstrainedTotalVariation,
    Direct,
    LeastSquares,
    PlugAndPlay,
    RichardsonLucy,
    TotalGeneralisedVariation,
    TotalVariation,
)
from isocenter.baselines.denoisers import TotalVariationDenoiser
from isocenter.baselines.watching import watched
from isocenter.physics import Blur
from torch import Tensor

DENOISER = TotalVariationDenoiser(tol=1e-2)  # a solver itself, which is not looked at
METHODS = {
    "tv": TotalVariation(2.0),
    "constrained tv": ConstrainedTotalVariation(0.05),
    "tgv": TotalGeneralisedVariation(2.0),
    "hqs": PlugAndPlay(DENOISER, "hqs", 10.0, 0.1, max_iter=6),
    "red": PlugAndPlay(DENOISER, "red", 10.0, 0.1),
    "sirt": SIRT(7),
    "richardson–lucy": RichardsonLucy(7),
    "least squares": LeastSquares(7),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_way_ends_at_the_result(name: str) -> None:
    A = Blur(torch.ones(3, 3) / 9, (16, 16))
    x = torch.zeros(1, 1, 16, 16)
    x[..., 4:11, 5:12] = 200.0  # far from 1: images are shown in their own unit
    y = A.A(x) + torch.randn(A.A(x).shape, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, Tensor]] = []
    with watched(lambda iteration, images, gap: seen.append((iteration, images))):
        result = METHODS[name].reconstruct(y, A)
    counts = [iteration for iteration, _ in seen]
    assert counts == sorted(set(counts))
    assert len(counts) > 1
    torch.testing.assert_close(seen[-1][1], result)
    torch.testing.assert_close(METHODS[name].reconstruct(y, A), result, rtol=0, atol=0)
    assert len(counts) == len(seen)


def test_a_direct_method_has_no_way_to_show() -> None:
    A = Blur(torch.ones(3, 3) / 9, (16, 16))
    with watched(lambda *_: pytest.fail("it does not iterate")):
        Direct().reconstruct(torch.ones(1, 1, 16, 16), A)
