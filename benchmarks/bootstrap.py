"""Bootstrap intervals of means and of ranks over test images, with patients as the units that are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata, t

MIN_PATIENTS = 6
"""Two-sided 5 % is out of reach below: n patients whose differences all agree have p = 2^(1−n), and the means of
their bootstrap samples stay between their own extremes, which hold the true median with probability 1 − 2^(1−n)."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float

    def __neg__(self) -> Interval:
        """Of the opposite."""
        return Interval(-self.high, -self.low)


def intervals(
    values: np.ndarray, patients: Sequence[str], *, resamples: int = 4000, seed: int = 0
) -> list[Interval | None]:
    """Bootstrap 95 % intervals of the mean of each row of ``values [rows, images]``, NaN left out.

    Patients are drawn with replacement and bring all their images. The percentiles are those of Hesterberg (2015,
    "What teachers should know about the bootstrap", The American Statistician 69(4)): Φ(±√(n/(n−1)) t) with t
    the 97.5 % point of Student's distribution with n − 1 degrees of freedom, which corrects the narrowness of plain
    percentiles for few patients. A row with fewer than two patients has no interval.
    """
    drawn, cluster = _draws(patients, resamples, seed)
    result: list[Interval | None] = []
    for row in values:
        known = np.isfinite(row)
        count = np.bincount(cluster[known], minlength=drawn.shape[1])
        n = int((count > 0).sum())
        if n < 2:
            result.append(None)
            continue
        total = np.bincount(cluster[known], weights=row[known], minlength=drawn.shape[1])
        images = drawn @ count
        means = (drawn @ total)[images > 0] / images[images > 0]
        low, high = np.quantile(means, [_tail(n), 1 - _tail(n)])
        result.append(Interval(float(low), float(high)))
    return result


def rank_intervals(
    values: np.ndarray, patients: Sequence[str], *, resamples: int = 4000, seed: int = 0
) -> list[tuple[int, int] | None]:
    """Bootstrap 95 % intervals of the rank of each row's mean, 1 for the largest, by the rule of :func:`intervals`.

    Only images count for which every row has a finite value. Rows that tie hold all ranks that they share. None
    without two patients.
    """
    known = np.isfinite(values).all(0) if len(values) else np.zeros(0, dtype=bool)
    owners = np.asarray(patients)[known]
    n = np.unique(owners).size
    if n < 2:
        return [None] * len(values)
    drawn, cluster = _draws(owners.tolist(), resamples, seed)
    totals = np.stack([np.bincount(cluster, weights=row, minlength=n) for row in values[:, known]], axis=1)
    means = (drawn @ totals) / (drawn @ np.bincount(cluster, minlength=n))[:, None]
    # Sums of the same numbers in another order differ by rounding, which is no difference of rank.
    means = np.round(means, 12 - math.ceil(math.log10(max(np.abs(means).max(), 1e-300))))
    best, worst = (rankdata(-means, method=rule, axis=1) for rule in ("min", "max"))
    low = np.quantile(best, _tail(n), axis=0, method="inverted_cdf")
    high = np.quantile(worst, 1 - _tail(n), axis=0, method="inverted_cdf")
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def _draws(patients: Sequence[str], resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each patient is drawn, ``[resamples, patients]``, and the patient of every image, ``[images]``."""
    names, cluster = np.unique(np.asarray(patients), return_inverse=True)
    size = names.size
    if not size:
        return np.zeros((resamples, 0), dtype=int), cluster
    return np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples), cluster


def _tail(n: int) -> float:
    """Probability under each end of the interval, for n patients."""
    return float(norm.cdf(math.sqrt(n / (n - 1)) * t.ppf(0.025, n - 1)))
