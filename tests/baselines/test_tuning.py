"""Tuning: the search against known optima, and each rule against what it must choose by algebra."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from isocenter.baselines import tuned
from isocenter.baselines.held_out import hold_out
from isocenter.baselines.tuned import Estimate, Parameter, RuleName, TunedMethod, Tuning
from isocenter.baselines.tuning import Axis, Search
from isocenter.baselines.tuning_rules import SURE, Images
from isocenter.benchmarks.charts import tuning as tuning_figure
from isocenter.benchmarks.classical_specs import TuningSpec
from isocenter.benchmarks.plots import looks
from isocenter.data.problem import Problem
from isocenter.physics import (
    Blur,
    FourierSampling,
    Identity,
    LinearOperator,
)
from isocenter.physics.masks import pseudo_radial
from torch import Tensor


class Noisy(Problem):
    """Smooth images of mean one, and Gaussian noise on their measurements."""

    def __init__(self, physics: LinearOperator, count: int, sigma: float = 0.3, stated: bool = True) -> None:
        self.physics, self.data_range, self.sigma = physics, 1.0, sigma
        self.noise_level = sigma if stated else None
        self.ids = self.patients = tuple(map(str, range(count)))

    def truth(self, i: int) -> Tensor:
        _, height, width = self.physics.domain
        rows, columns = torch.linspace(0, 3, height), torch.linspace(0, 2 + i, width)
        return (1 + rows.sin()[:, None] * columns.cos()).expand(self.physics.domain).clone()

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        clean = self.physics.A(self.truth(i)[None])[0]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(i + 1))
        support = self.physics.support
        return clean + self.sigma * (noise if support is None else noise * support)


class WithoutTruth(Noisy):
    """Measurements of images that nobody knows."""

    def truth(self, i: int) -> Tensor:
        raise AssertionError("the truth was asked for")

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        return Noisy(self.physics, len(self), self.sigma).measurement(i, draw)


class Shrinkage(TunedMethod):
    """x̂ = Aᵀ y / (1 + λ)."""

    searched = (Parameter("regularisation", 1e-3, 1e3),)

    def __init__(self, tuning: Tuning | None = None) -> None:
        super().__init__({"regularisation": None}, tuning)

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        return Estimate(physics.A_adjoint(y) / (1 + values["regularisation"]))


def shrinkage(fit: Any) -> float:
    return 1 / (1 + fit.chosen["regularisation"])


def search(
    figure: Callable[[Mapping[str, float]], float], axes: list[Axis], budget: int, kept: int = 3, starts: Any = None
) -> Search:
    def evaluate(values: Mapping[str, float], start: Any) -> tuple[float, Any]:
        if starts is not None:
            starts.append((dict(values), start))
        return figure(values), dict(values)

    result = Search(axes, evaluate, lambda f: f, budget, kept)
    result.run()
    return result


A, B, C = Axis("a", 1e-4, 1e2), Axis("b", 1e-2, 1e1), Axis("c", 1.0, 1e3)
OPTIMUM = {"a": 0.02, "b": 0.7, "c": 40.0}


def bowl(values: Mapping[str, float]) -> float:
    logs = [math.log(values[name] / OPTIMUM[name]) for name in values]
    return sum(log**2 for log in logs) + sum(logs) ** 2 / 2


@pytest.mark.parametrize(("axes", "budget", "within"), [([A], 12, 0.01), ([A, B], 50, 0.05), ([A, B, C], 120, 0.05)])
def test_a_quadratic_bowl_in_log_space(axes: list[Axis], budget: int, within: float) -> None:
    found = search(bowl, axes, budget)
    for name, value in found.best.values.items():
        assert value == pytest.approx(OPTIMUM[name], rel=within)
    assert len(found.trials) <= budget
    assert not found.warnings()


def test_a_second_lower_valley_is_found() -> None:
    def valleys(values: Mapping[str, float]) -> float:
        log = math.log10(values["a"])
        return min(1 + (log + 2.3) ** 2, 3 * (log - 1.2) ** 2)

    assert search(valleys, [A], 15).best.values["a"] == pytest.approx(10**1.2, rel=0.02)


@pytest.mark.parametrize("budget", [1, 2, 3, 7])
@pytest.mark.parametrize("axes", [[A], [A, B], [A, B, C]])
def test_the_budget_is_kept_and_nothing_is_tried_twice(axes: list[Axis], budget: int) -> None:
    found = search(bowl, axes, budget)
    tried = [tuple(trial.values.values()) for trial in found.trials]
    assert len(tried) == len(set(tried)) == budget


def test_whole_numbers_are_tried_once_each() -> None:
    counts = Axis("iterations", 1, 200, integer=True)
    found = search(lambda v: math.log(v["iterations"] / 17) ** 2, [counts], 30)
    tried = [trial.values["iterations"] for trial in found.trials]
    assert found.best.values == {"iterations": 17}
    assert all(isinstance(value, int) for value in tried)
    assert len(tried) == len(set(tried))
    few = search(lambda v: -v["iterations"], [Axis("iterations", 1, 3, integer=True)], 30)
    assert sorted(trial.values["iterations"] for trial in few.trials)[-1] == 3
    assert any("iterations 3 is at the end 3" in warning for warning in few.warnings())
    both = search(lambda v: bowl({"a": v["a"]}) + (v["n"] - 5) ** 2, [A, Axis("n", 1, 50, integer=True)], 60)
    assert both.best.values["n"] == 5
    assert both.best.values["a"] == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("optimum", [1, 2, 13, 77, 150])
def test_the_best_whole_number_is_found(optimum: int) -> None:
    result = search(lambda v: math.log(v["k"] / optimum) ** 2, [Axis("k", 1, 200, integer=True)], 16)
    assert result.best.values["k"] == optimum


def test_an_optimum_at_the_end_of_any_range_is_a_warning() -> None:
    found = search(lambda v: math.log(v["a"]) + math.log(v["b"] / 0.5) ** 2, [A, B], 60)
    assert [warning.split()[0] for warning in found.warnings()] == ["a"]
    assert "1e-04 of its search range; the optimum may lie beyond" in found.warnings()[0]
    assert [w.split()[0] for w in search(lambda v: -v["a"], [A], 15).warnings()] == ["a"]


def test_failures_never_win() -> None:
    def broken(values: Mapping[str, float]) -> float:
        if values["a"] > 0.5:
            return math.nan
        if values["a"] < 1e-3:
            raise torch.linalg.LinAlgError("singular")
        return bowl(values)

    found = search(broken, [A], 16)
    assert found.best.values["a"] == pytest.approx(0.02, rel=0.05)
    assert any("gave no finite result (singular)" in warning for warning in found.warnings())
    with pytest.raises(ValueError, match="none of 5 values tried gave a finite result"):
        search(lambda v: math.nan, [A], 5)
    with pytest.raises(TypeError):  # a mistake in the code of a method is no failure at a value
        search(lambda v: v["a"] + "", [A], 5)  # type: ignore[operator]


def test_a_trial_starts_from_the_nearest_state_that_is_kept() -> None:
    starts: list[tuple[dict[str, float], dict[str, float] | None]] = []
    search(bowl, [A], 12, kept=99, starts=starts)
    assert starts[0][1] is None
    for i, (values, start) in enumerate(starts[1:], start=1):
        assert start is not None
        distances = [abs(math.log(other["a"] / values["a"])) for other, _ in starts[:i]]
        assert abs(math.log(start["a"] / values["a"])) == pytest.approx(min(distances))
    few = search(bowl, [A], 12, kept=2)
    assert len(few._states) == 2
    assert (few.best.values["a"],) in few._states  # states far from the best are dropped


def test_impossible_searches_are_refused() -> None:
    with pytest.raises(ValueError, match="give 0 < low < high"):
        search(bowl, [Axis("a", 0.0, 1.0)], 5)
    with pytest.raises(ValueError, match="4 parameters are free, at most 3"):
        search(bowl, [A, B, C, Axis("d", 1, 2)], 5)
    with pytest.raises(ValueError, match="expected one of validation, discrepancy"):
        Tuning(rule="guess")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no validation images"):
        Shrinkage().fit(Noisy(Identity((8, 8)), 0), Noisy(Identity((8, 8)), 0))


def test_validation_finds_the_least_error() -> None:
    problem = Noisy(Identity((16, 16)), 1)
    x, y = problem.batch([0])
    method = Shrinkage()
    fit = method.fit(problem, problem)
    assert shrinkage(fit) == pytest.approx(float((x * y).sum() / y.square().sum()), rel=2e-3)
    assert fit.budget == f"{len(fit.curve)} values of regularisation on 1 validation images"
    assert fit.axis == "regularisation"
    assert [set(row) for row in fit.curve] == [{"x", "validation_psnr"}] * len(fit.curve)
    assert [row["x"] for row in fit.curve] == sorted(row["x"] for row in fit.curve)
    assert method.values == fit.chosen


def test_discrepancy_leaves_a_misfit_as_large_as_the_noise() -> None:
    problem = WithoutTruth(Identity((16, 16)), 3)
    y = torch.stack([problem.measurement(i) for i in range(3)])
    fit = Shrinkage(Tuning(20, "discrepancy")).fit(problem, problem)
    expected = 1 - math.sqrt(y.numel() * 0.3**2 / float(y.square().sum()))  # (1 − s)² ‖y‖² = m σ²
    assert shrinkage(fit) == pytest.approx(expected, rel=2e-3)
    assert fit.budget.endswith("on 3 validation images, discrepancy principle, σ = 0.3")
    assert set(fit.curve[0]) == {"x", "discrepancy"}


def test_discrepancy_counts_what_is_measured_only() -> None:
    problem = WithoutTruth(FourierSampling(pseudo_radial((16, 16), lines=6), complex_image=True), 2)
    y = torch.stack([problem.measurement(i) for i in range(2)])
    fit = Shrinkage(Tuning(20, "discrepancy")).fit(problem, problem)
    count = 2 * 2 * int(problem.physics.support.expand(16, 16).sum())  # two images, real and imaginary part
    assert shrinkage(fit) == pytest.approx(1 - math.sqrt(count * 0.3**2 / float(y.square().sum())), rel=2e-3)


def test_sure_finds_steins_shrinkage() -> None:
    problem = WithoutTruth(Identity((16, 16)), 3)
    y = torch.stack([problem.measurement(i) for i in range(3)])
    fit = Shrinkage(Tuning(20, "sure")).fit(problem, problem)
    # ‖y − s y‖² + 2 σ² m s is least at s = 1 − m σ² / ‖y‖², the positive-part James–Stein factor but for m − 2.
    assert shrinkage(fit) == pytest.approx(1 - y.numel() * 0.3**2 / float(y.square().sum()), rel=2e-3)
    assert "Stein's unbiased risk estimate, σ = 0.3" in fit.budget


def soft(y: Tensor, physics: LinearOperator, start: Any) -> Estimate:
    """Soft thresholding of Aᵀ y: neither linear nor smooth."""
    x = physics.A_adjoint(y)
    return Estimate(x.sign() * (x.abs() - 0.4).clamp_min(0))


@pytest.mark.parametrize(
    "physics",
    [
        Identity((64, 64)),
        Blur(torch.ones(3, 3) / 9, (64, 64)),
        FourierSampling(pseudo_radial((64, 64), lines=24), complex_image=True),
    ],
    ids=["identity", "blur", "k-space"],
)
def test_sure_is_near_the_true_risk(physics: LinearOperator) -> None:
    problem = Noisy(physics, 8)
    x, y = problem.batch(range(8))
    figures, _ = SURE(problem, 0.3).figures(Images(range(8), y, None), soft, None)
    error = physics.A(soft(y, physics, None).x) - physics.A(x)
    measured = math.prod(physics.range) if physics.support is None else int(physics.support.sum()) * 2
    risk = error.flatten(1).square().sum(1) / measured
    assert float(figures.mean()) == pytest.approx(float(risk.mean()), rel=0.05)
    alone, _ = SURE(problem, 0.3).figures(Images(range(5, 6), y[5:6], None), soft, None)
    assert float(alone) == pytest.approx(float(figures[5]), rel=1e-4)  # no matter what else is in the batch


class Level(TunedMethod):
    """Every pixel is the mean of what is measured, times s."""

    searched = (Parameter("factor", 1e-2, 1e2),)

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        seen = torch.ones(physics.range) if physics.support is None else physics.support.expand(physics.range)
        mean = y.flatten(1).sum(1) / seen.sum()
        return Estimate(values["factor"] * mean.reshape(-1, 1, 1, 1).expand(-1, *physics.domain))


def test_held_out_predicts_what_it_has_not_seen() -> None:
    problem = WithoutTruth(Identity((16, 16)), 1)
    fit = Level({"factor": None}, Tuning(20, "held-out")).fit(problem, problem)
    y, (_, withheld) = problem.measurement(0), hold_out(problem.physics)
    # The best constant for the withheld pixels is their own mean, whatever the mean of the others.
    assert fit.chosen["factor"] == pytest.approx(float(y[withheld].mean() / y[~withheld].mean()), rel=0.01)
    assert "error of withheld measurements" in fit.budget


def test_rules_say_what_they_need() -> None:
    silent = Noisy(Identity((8, 8)), 1, stated=False)
    for rule in ("discrepancy", "sure"):
        with pytest.raises(ValueError, match="give noise_level, in the unit of the measurements"):
            Shrinkage(Tuning(rule=rule)).fit(silent, silent)
        Shrinkage(Tuning(rule=rule, noise_level=0.3)).fit(silent, silent)
    clean = Noisy(Identity((8, 8)), 1, sigma=0.0)
    with pytest.raises(ValueError, match="noise level is 0"):
        Shrinkage(Tuning(rule="sure")).fit(clean, clean)
    with pytest.raises(ValueError, match="discrepancy chooses one parameter, 2 are free"):
        Filter(tuning=Tuning(rule="discrepancy")).fit(silent, Noisy(Identity((8, 8)), 1))


class Filter(TunedMethod):
    """Wiener filter x̂ = F⁻¹ F y / (1 + (k / cutoff)^power), with k from 0 to 1."""

    searched = (Parameter("cutoff", 1e-2, 1e1), Parameter("power", 0.5, 20.0))

    def __init__(self, cutoff: float | None = None, power: float | None = None, tuning: Tuning | None = None) -> None:
        super().__init__({"cutoff": cutoff, "power": power}, tuning)

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        rows, columns = (torch.fft.fftfreq(n)[:, None] for n in y.shape[-2:])
        k = 2 * (rows**2 + columns.T**2).sqrt()
        response = 1 / (1 + (k / values["cutoff"]) ** values["power"])
        return Estimate(torch.fft.ifft2(torch.fft.fft2(y) * response).real)


def error(problem: Problem, method: TunedMethod) -> float:
    x, y = problem.batch(range(len(problem)))
    return float((method.reconstruct(y, problem.physics) - x).square().mean())


def test_two_parameters_are_tuned_together(tmp_path: Path) -> None:
    problem = Noisy(Identity((32, 32)), 2)
    method = Filter()
    fit = method.fit(problem, problem)
    assert len(fit.curve) <= 24
    grid = [(c, p) for c in np.geomspace(1e-2, 10, 24) for p in np.geomspace(0.5, 20, 24)]
    best = min(error(problem, Filter(c, p)) for c, p in grid)
    assert error(problem, method) < 1.01 * best
    assert set(fit.chosen) == {"cutoff", "power"}
    assert fit.budget == f"{len(fit.curve)} values of cutoff and power on 2 validation images"
    assert set(fit.curve[0]) == {"x", "validation_psnr", "cutoff", "power"}
    assert [row["x"] for row in fit.curve] == list(range(1, len(fit.curve) + 1))
    tuning_figure({"filter": {"curve": fit.curve, "axis": fit.axis}}, looks({"filter": "Filter"}))
    method.save(tmp_path)
    again = Filter()
    again.load(tmp_path)
    assert again.values == method.values

    half = Filter(power=4.0, tuning=Tuning(15))
    alone = half.fit(problem, problem)
    assert set(alone.chosen) == {"cutoff"}
    assert half.values["power"] == 4.0
    assert error(problem, half) <= 1.005 * min(error(problem, Filter(c, 4.0)) for c in np.geomspace(1e-2, 10, 60))


class Landweber(TunedMethod):
    """x ← x − τ ((1 + λ) x − y) until it stands still; counts its iterations."""

    searched = (Parameter("regularisation", 1e-3, 1e1),)
    warm = True

    def __init__(self) -> None:
        super().__init__({"regularisation": None})
        self.iterations = 0

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        x = torch.zeros_like(y) if start is None or not self.warm else start
        assert x.shape == y.shape  # the state of the same images
        for _ in range(10_000):
            step = 0.05 * ((1 + values["regularisation"]) * x - y)
            x, self.iterations = x - step, self.iterations + 1
            if float(step.abs().max()) < 1e-5:
                break
        return Estimate(x, x)


def test_warm_starts_save_work_and_change_nothing() -> None:
    problem = Noisy(Identity((16, 16)), 3)
    warm, cold = Landweber(), Landweber()
    cold.warm = False
    first, second = warm.fit(problem, problem), cold.fit(problem, problem)
    assert warm.iterations < 0.8 * cold.iterations
    assert shrinkage(first) == pytest.approx(shrinkage(second), rel=1e-3)


@pytest.mark.parametrize("rule", ["validation", "sure", "held-out"])
def test_large_sets_are_reconstructed_in_groups(rule: RuleName, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, sizes = Noisy(Identity((8, 8)), 5), []

    class Counting(Landweber):
        def estimate(self, y: Tensor, *args: Any, **options: Any) -> Estimate:
            sizes.append(len(y))
            return super().estimate(y, *args, **options)

    def fit() -> Any:
        method = Counting()
        method.tuning = Tuning(rule=rule)
        return method.fit(problem, problem)

    together = fit()
    assert set(sizes) == {5}
    sizes.clear()
    monkeypatch.setattr(tuned, "TOGETHER", 2 * 64)
    groups = fit()
    assert set(sizes) == {1, 2}
    assert groups.chosen["regularisation"] == pytest.approx(together.chosen["regularisation"], rel=0.01)


def test_yaml_knows_the_same_rules() -> None:
    assert get_args(TuningSpec.model_fields["rule"].annotation) == get_args(RuleName)
    assert TuningSpec(budget=20, rule="sure", noise_level=0.1).build() == Tuning(20, "sure", 0.1)
