"""``trace.csv``: what a method shows on its way is judged as its results are."""

from __future__ import annotations

import math

import pytest
import torch
from isocenter.baselines.direct import Direct
from isocenter.baselines.watching import show
from isocenter.benchmarks.cells import _warm_up


class Steps(Direct):
    """Shows two images whose errors are 0.1 and, above the clip, 0.5."""

    def reconstruct(self, y, physics):
        show(5, y + 0.1, torch.tensor([0.25]))
        show(10, y + 0.5)
        return y


class One:
    """A single test image of zeros, data range 2."""

    data_range = 2.0

    def __len__(self):
        return 1

    def truth(self, index):
        return torch.zeros(1, 4, 4)

    measurement = truth


@pytest.mark.parametrize("clip", [None, (0.0, 0.2)])
def test_rows_hold_the_quality_of_every_image_shown(clip: tuple[float, float] | None) -> None:
    first, second = _warm_up(Steps(), One(), None, clip)
    assert (first["iteration"], first["gap"], second["gap"]) == (5, 0.25, "")
    assert 0 <= first["seconds"] <= second["seconds"]
    assert first["psnr"] == pytest.approx(20 * math.log10(2 / 0.1), abs=1e-4)
    assert second["psnr"] == pytest.approx(20 * math.log10(2 / (0.5 if clip is None else 0.2)), abs=1e-4)
