"""Paired statistics of a task: what each method scores, and by how much two methods differ on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

from .bootstrap import MIN_PATIENTS, Interval, intervals
from .metrics import MEASURES, NAMES, Measure

SETTINGS = (
    "Means and standard deviations are over test images; several training seeds are averaged per image first and "
    "their own spread is given apart. Intervals are 95 % bootstrap intervals of the mean that resample patients and "
    "keep each patient's images together (4000 resamples, fixed seed; percentiles widened for few patients after "
    "Hesterberg 2015). Differences are paired per image; errors, which run over orders of magnitude, are compared by "
    "the geometric mean of their ratios instead. p: Wilcoxon signed-rank test, two-sided, on one mean difference (of "
    "errors: of logarithms) per patient, corrected after Holm over the methods of the task. Wins: share of images on "
    "which the method is better than the reference, ties as half. Rank: 95 % bootstrap interval of the place among the "
    "methods, over the same samples of patients. A difference is called clear when its interval leaves out zero and it "
    "rests on 6 patients or more: with fewer no interval of this kind can reach 95 %, and p cannot fall below 0.05."
)


@dataclass(frozen=True)
class Scores:
    """The per-image scores of one task, averaged over training seeds.

    ``values[metric]`` is ``[methods, images]``, NaN where a method has no number for an image; ``seed_spread`` is
    the standard deviation over seeds of the mean over images, NaN for a single seed.
    """

    methods: tuple[str, ...]
    images: tuple[str, ...]
    patients: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    seeds: Mapping[str, int]
    seed_spread: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Summary:
    """One method on one task; the mappings are by metric."""

    method: str
    images: int
    patients: int
    mean: Mapping[str, float]
    sd: Mapping[str, float]
    interval: Mapping[str, Interval | None]
    seconds: float
    seeds: int
    seed_spread: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """How much better ``method`` is than ``reference``, paired per image.

    Attributes:
        measure: what is compared.
        gain: the mean of ``method`` − ``reference``; of an error, of log ``reference`` − log ``method``.
        interval: of the gain.
        p: corrected after Holm over the task's methods.
        wins: share of images with a gain.
        images, patients: that both have numbers for.
    """

    method: str
    reference: str
    measure: Measure
    gain: float
    interval: Interval | None
    p: float
    wins: float
    images: int
    patients: int

    @property
    def apart(self) -> bool:
        """Whether there is an interval and it leaves out zero."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero and rests on enough patients to be trusted."""
        return self.apart and self.patients >= MIN_PATIENTS


def scores(rows: Iterable[Mapping[str, str]]) -> Scores:
    """Scores of one task from its rows of ``results.csv``; an image without a patient is its own patient."""
    rows = list(rows)
    methods = tuple(dict.fromkeys(row["method"] for row in rows))
    patients = {row["image"]: row.get("patient") or row["image"] for row in rows}
    images = tuple(patients)
    seeds = {method: tuple(dict.fromkeys(r["seed"] for r in rows if r["method"] == method)) for method in methods}
    place = {image: i for i, image in enumerate(images)}
    values: dict[str, np.ndarray] = {}
    spread: dict[str, dict[str, float]] = {method: {} for method in methods}
    for name in (*NAMES, "seconds"):
        cube = {method: np.full((len(seeds[method]), len(images)), np.nan) for method in methods}
        for row in rows:
            cube[row["method"]][seeds[row["method"]].index(row["seed"]), place[row["image"]]] = _number(row.get(name))
        values[name] = np.array([_mean(cube[method], axis=0) for method in methods]).reshape(len(methods), len(images))
        for method in methods:
            spread[method][name] = _sd(_mean(cube[method], axis=1))
    counts = {method: len(seeds[method]) for method in methods}
    return Scores(methods, images, tuple(patients.values()), values, counts, spread)


def summarise(table: Scores) -> list[Summary]:
    """Mean, standard deviation and interval of every method, in the order of ``table.methods``; median seconds."""
    bounds = {name: intervals(table.values[name], table.patients) for name in NAMES}
    patients = np.array(table.patients)
    summaries = []
    for i, method in enumerate(table.methods):
        scored = ~np.isnan(table.values["psnr"][i])
        seconds = table.values["seconds"][i]
        summaries.append(
            Summary(
                method=method,
                images=int(scored.sum()),
                patients=len(set(patients[scored])),
                mean={name: float(_mean(table.values[name][i])) for name in NAMES},
                sd={name: _sd(table.values[name][i]) for name in NAMES},
                interval={name: bounds[name][i] for name in NAMES},
                seconds=float(np.median(seconds[~np.isnan(seconds)])) if not np.isnan(seconds).all() else math.nan,
                seeds=table.seeds[method],
                seed_spread=table.seed_spread[method],
            )
        )
    return summaries


def compare(table: Scores, reference: str, metric: str = "psnr") -> dict[str, Comparison]:
    """Every other method against ``reference``, over the images that both have.

    Raises:
        ValueError: if the task has no scores of ``reference``.
    """
    if reference not in table.methods:
        raise ValueError(f"compare: no scores of {reference!r}; the task has {', '.join(table.methods) or 'none'}")
    others = [i for i, method in enumerate(table.methods) if method != reference]
    gains = _gains(table.values[metric][others], table.values[metric][table.methods.index(reference)], metric)
    bounds = intervals(gains, table.patients)
    corrected = holm([_wilcoxon(row, table.patients) for row in gains])
    result = {}
    for k, i in enumerate(others):
        row = gains[k][~np.isnan(gains[k])]
        result[table.methods[i]] = Comparison(
            method=table.methods[i],
            reference=reference,
            measure=MEASURES[metric],
            gain=float(_mean(row)),
            interval=bounds[k],
            p=float(corrected[k]),
            wins=float(_mean((row > 0) + 0.5 * (row == 0))),
            images=row.size,
            patients=len({p for p, d in zip(table.patients, gains[k], strict=True) if not np.isnan(d)}),
        )
    return result


def _gains(values: np.ndarray, base: np.ndarray, metric: str) -> np.ndarray:
    """Gains ``[methods, images]`` over ``base [images]``: two perfect images tie, one has no number."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if MEASURES[metric].error:
            values, base = -np.log(values), -np.log(base)
        gains = np.where(np.isposinf(values) & np.isposinf(base), 0.0, values - base)
    gains[np.isinf(gains)] = np.nan
    return gains


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction: the k-th smallest of m values times m − k + 1, made monotone, at most 1.

    NaN, a test that could not be made, stays NaN and does not count (Holm 1979).
    """
    values = np.asarray(p, dtype=float)
    corrected = np.full(values.shape, np.nan)
    order = np.argsort(values)[: int((~np.isnan(values)).sum())]
    factors = np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return corrected


def _wilcoxon(differences: np.ndarray, patients: Sequence[str]) -> float:
    """Two-sided p of one mean difference per patient: images of a patient are not independent draws."""
    known = ~np.isnan(differences)
    names = np.asarray(patients)[known]
    means = np.array([differences[known][names == name].mean() for name in np.unique(names)])
    if means.size < 2:
        return math.nan
    if not means.any():
        return 1.0
    return float(wilcoxon(means).pvalue)


def _mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean without NaN; NaN, and no warning, where nothing is left."""
    values = np.asarray(values, dtype=float)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis) / known.sum(axis)


def _sd(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.std(known, ddof=1)) if known.size > 1 else math.nan


def _number(text: str | None) -> float:
    return float(text) if text not in (None, "") else math.nan
