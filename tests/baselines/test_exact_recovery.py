"""The paper's point against CNNs: without noise, constrained total variation recovers sparse-view images exactly."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from isocenter.baselines import ConstrainedTotalVariation, Options
from isocenter.data.breast import FIELD_MM, breast
from isocenter.physics import FanBeam, Radon, views


def recovered(size: int, count: int, detectors: int, index: int) -> float:
    """RMSE in 1/cm of the breast phantom of Sidky et al. (2021, §III) after 200 iterations."""
    width = 2 * 1000 * math.tan(math.asin(FIELD_MM / 2 / 500))
    scan = FanBeam(views(count, 0, 2 * math.pi), detectors, width / detectors, source_axis=500, source_detector=1000)
    A = Radon(scan, (size, size), FIELD_MM / size, kernel="line")
    truth = torch.as_tensor(breast(0, index, size, specks=15)).double()[None, None]
    method = ConstrainedTotalVariation(epsilon=0.0, options=Options(tol=1e-3, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a solver that stops early
        x = method.reconstruct(A.A(truth), A)
    return 10 * float((x - truth).square().mean().sqrt())


def test_sparse_views_without_noise_are_recovered() -> None:
    assert recovered(128, 32, 256, index=0) < 1e-6


@pytest.mark.slow
def test_sparse_views_without_noise_are_recovered_at_twice_the_size() -> None:
    assert recovered(256, 64, 512, index=1) < 1e-6
