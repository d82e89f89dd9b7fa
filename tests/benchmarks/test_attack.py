"""Worst-case perturbations: a known answer, gradients of solvers, and the table of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from isocenter.baselines import Direct, Options, PlugAndPlay, TotalVariation
from isocenter.baselines.method import Method
from isocenter.baselines.non_local_means import NonLocalMeans
from isocenter.benchmarks import report
from isocenter.benchmarks.attack import Attack, attacked
from isocenter.benchmarks.run_folder import read_csv, read_json
from isocenter.benchmarks.runner import run_suite
from isocenter.benchmarks.schema import load_suite
from isocenter.data.problem import Problem
from isocenter.physics import Blur, LinearOperator
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.masks import pseudo_radial
from torch import Tensor


class Exact(Problem):
    """An image that the direct reconstruction hits."""

    def __init__(self, physics: LinearOperator) -> None:
        self.physics, self.data_range, self.ids, self.patients = physics, 1.0, ("a",), ("a",)
        self.y = physics.A(torch.rand(1, *physics.domain, generator=torch.Generator().manual_seed(3)))

    def truth(self, i: int) -> Tensor:
        return self.physics.direct(self.y)[0]

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        return self.y[0]


class Recorded(Method):
    """The direct reconstruction; keeps what it is given."""

    group = "direct"

    def __init__(self) -> None:
        self.given: list[Tensor] = []

    def reconstruct(self, y: Tensor, physics: LinearOperator) -> Tensor:
        self.given.append(y.detach())
        return physics.direct(y)


def test_the_worst_error_of_a_linear_method_is_its_largest_singular_value() -> None:
    physics = Blur(torch.ones(3, 3) / 9, (12, 12), noise_to_signal=1e-2)
    test = Exact(physics)
    columns = physics.direct(torch.eye(144).reshape(144, 1, 12, 12)).reshape(144, 144)
    largest = float(torch.linalg.matrix_norm(columns, 2))
    rows = list(attacked(Direct(), test, physics, Attack((0.02, 0.1), steps=40), seed=0))
    assert [(row["strength"], row["perturbation"]) for row in rows] == [
        (0, "none"),
        (0.02, "random"),
        (0.02, "worst"),
        (0.1, "random"),
        (0.1, "worst"),
    ]
    for random, worst, strength in ((rows[1], rows[2], 0.02), (rows[3], rows[4], 0.1)):
        reached = worst["change"] * float(test.truth(0).norm()) / (strength * float(test.y.norm()))
        assert 0.97 * largest < reached < 1.0001 * largest
        assert random["change"] < 0.8 * worst["change"]


def test_perturbations_have_the_strength_asked_for_and_fall_on_what_is_measured() -> None:
    mask = pseudo_radial((16, 16), lines=5)
    physics = FourierSampling(mask)
    test, method = Exact(physics), Recorded()
    list(attacked(method, test, physics, Attack((0.05,), steps=5), seed=0))
    lengths = [float((y - test.y).norm() / test.y.norm()) for y in method.given]
    assert lengths[0] == 0
    assert lengths[1:] == pytest.approx([0.05] * 7, rel=1e-3)
    assert all(((y - test.y)[..., ~mask] == 0).all() for y in method.given)


@pytest.mark.filterwarnings("ignore::isocenter.baselines.ConvergenceWarning")
@pytest.mark.parametrize("algorithm", ["admm", "pdhg", "condat-vu"])
def test_the_gradient_through_a_solver_is_that_of_its_result(algorithm: str) -> None:
    physics = Blur(torch.ones(3, 3) / 9, (16, 16))
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    x[..., 4:11, 5:12] = 1
    y = physics.A(x) + 0.02 * torch.randn_like(x)
    method = TotalVariation(0.02, options=Options(tol=1e-9, max_iter=100, algorithm=algorithm))
    y.requires_grad_()
    (slope,) = torch.autograd.grad((method.reconstruct(y, physics) - x).square().sum(), y)
    step = 1e-3 * slope / slope.norm()
    with torch.no_grad():
        ends = [(method.reconstruct(y + sign * step, physics) - x).square().sum() for sign in (1, -1)]
    assert float(ends[0] - ends[1]) / 2e-3 == pytest.approx(float(slope.norm()), rel=0.1)


@pytest.mark.filterwarnings("ignore::isocenter.baselines.ConvergenceWarning")
def test_a_method_without_gradients_is_perturbed_at_random_alone() -> None:
    physics = Blur(torch.ones(3, 3) / 9, (12, 12))
    method = PlugAndPlay(NonLocalMeans(), noise_level=0.05, penalty=0.1, max_iter=3)
    with pytest.warns(UserWarning, match="this method has none"):
        rows = list(attacked(method, Exact(physics), physics, Attack(steps=2), seed=0))
    assert [row["perturbation"] for row in rows] == ["none", "random"]


SUITE = """\
name: shaken
data: {kind: phantoms, family: dival-ellipses, size: 16, train: 1, validation: 1, test: 2}
methods:
  - {kind: tv, regularisation: 0.01}
  - {kind: hybrid, stages: 1, widths: [4, 8], sparse_stages: 1, training: {steps: 1, batch: 1, validate_every: 1}}
tasks:
  ct:
    physics: {kind: radon, geometry: {kind: parallel, views: 8}}
    attack: {strengths: [0.02], steps: 4, images: 1}
"""


def test_a_run_keeps_the_attacks_of_its_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_report", lambda run: run / "report.html")
    (tmp_path / "shaken.yaml").write_text(SUITE)
    run = tmp_path / "run"
    assert run_suite(load_suite(tmp_path / "shaken.yaml"), run).failed == ()
    rows = {(row["method"], row["perturbation"]): row for row in read_csv(run / "attack.csv")}
    assert len(rows) == 6
    results = {row["method"]: row["psnr"] for row in read_csv(run / "results.csv") if row["image"].endswith("0000")}
    for method in ("tv", "hybrid"):
        none, random, worst = (float(rows[method, name]["psnr"]) for name in ("none", "random", "worst"))
        assert none == pytest.approx(float(results[method]), abs=1e-3)
        assert worst < random
    (cell,) = (run / "cells" / "ct").glob("tv-*")
    assert set(read_json(cell / "status.json")["sha256"]) >= {"attack.csv", "metrics.csv"}
    (cell / "attack.csv").unlink()
    assert run_suite(load_suite(tmp_path / "shaken.yaml"), run).failed == ()
    assert len(read_csv(run / "attack.csv")) == 6
