"""The paper's point against CNNs: without noise, compressed sensing recovers sparse-view images exactly."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from isocenter.baselines import ConstrainedTotalVariation, Options, ReweightedTotalVariation
from isocenter.baselines.method import Method
from isocenter.data.breast import FIELD_MM, breast
from isocenter.physics import FanBeam, LinearOperator, ParallelBeam, Radon, views
from torch import Tensor


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


class Shifted(Method):
    group = "direct"

    def __init__(self, truth: Tensor) -> None:
        self.image = truth.roll(1, -1) / 2

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        return self.image


def test_reweighting_recovers_from_fewer_views() -> None:
    """Candès, Wakin & Boyd (2008): edges that were found cost little, so that fewer measurements determine the rest."""
    truth = torch.zeros(1, 1, 24, 24)
    truth[..., 4:16, 5:18] = 1.0
    truth[..., 7:11, 8:13] = 0.4
    truth[..., 12:20, 14:20] = 0.7
    truth[..., 17:19, 4:8] = 0.5
    physics = Radon(ParallelBeam(views(5), 35), (24, 24))
    y, options = physics.A(truth), Options(tol=1e-3, max_iter=600)

    def error(method: Method) -> float:
        return float((method.reconstruct(y, physics) - truth).norm() / truth.norm())

    assert error(ConstrainedTotalVariation(0.0, options=options)) > 0.05
    assert error(ReweightedTotalVariation(edge=0.1, epsilon=0.0, rounds=3, options=options)) < 1e-5
    # Edges may come from elsewhere, and be wrong: the values are those of the measurements.
    assert error(ReweightedTotalVariation(Shifted(truth), edge=0.1, epsilon=0.0, rounds=3, options=options)) < 1e-5
