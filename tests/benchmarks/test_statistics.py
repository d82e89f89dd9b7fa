"""Statistics against known answers: coverage by simulation, Holm by hand, and sentences that say what holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.benchmarks.statistics import Scores, compare, holm, intervals, scores, summarise
from isocenter.benchmarks.verdict import choose_reference, duration, verdict
from scipy.stats import wilcoxon

LABELS = {"fbp": "FBP", "tv": "TV", "unet": "U-Net", "admm": "ADMM-Net"}
GROUPS = {"fbp": "direct", "tv": "classical", "unet": "learned", "admm": "learned"}


def table(psnr: dict[str, np.ndarray], patients: list[str], seeds: int = 1) -> Scores:
    """Scores from PSNR by method, ``[images]`` or ``[seeds, images]``."""
    rows = [
        {
            "method": method,
            "seed": str(seed),
            "image": f"image-{i}",
            "patient": patients[i],
            "psnr": str(value),
            "ssim": "0.9",
            "nrmse": "0.1",
            "haarpsi": "0.8",
            "seconds": "0.5",
        }
        for method, values in psnr.items()
        for seed, row in enumerate(np.atleast_2d(values))
        for i, value in enumerate(row)
    ]
    return scores(rows)


@pytest.mark.parametrize(("patients", "images", "expected"), [(8, 4, 0.935), (15, 1, 0.94), (40, 3, 0.95)])
def test_intervals_cover_the_mean_of_new_patients(patients: int, images: int, expected: float) -> None:
    """Patients differ more than their images do; the interval must be about new patients."""
    rng = np.random.default_rng(3)
    owners = np.repeat(np.arange(patients), images)
    draws = rng.standard_normal((1200, patients)).repeat(images, 1) + 0.5 * rng.standard_normal((1200, owners.size))
    found = intervals(draws, owners.astype(str), resamples=1000)
    covered = np.mean([i is not None and i.low <= 0 <= i.high for i in found])
    assert covered == pytest.approx(expected, abs=0.02)


def test_ignoring_patients_would_have_failed() -> None:
    """The same data with every image as its own patient: far too narrow. This is why patients are resampled."""
    rng = np.random.default_rng(3)
    draws = rng.standard_normal((400, 10)).repeat(8, 1) + 0.5 * rng.standard_normal((400, 80))
    found = intervals(draws, [str(i) for i in range(80)], resamples=500)
    assert np.mean([i is not None and i.low <= 0 <= i.high for i in found]) < 0.7


def test_intervals_are_the_same_every_time_and_absent_for_one_patient() -> None:
    values = np.random.default_rng(0).standard_normal((2, 12))
    owners = [f"p{i % 4}" for i in range(12)]
    assert intervals(values, owners) == intervals(values, owners)
    assert intervals(values, ["p"] * 12) == [None, None]
    values[0, [i % 4 != 0 for i in range(12)]] = np.nan
    assert intervals(values, owners)[0] is None


def test_patients_weigh_by_their_images() -> None:
    """Twins of every image change nothing; unequal patients keep the mean over images inside."""
    values = np.random.default_rng(0).standard_normal(9)
    owners = [*"aabbbcdef"]
    (once,), (twice,) = intervals(values[None], owners), intervals(np.tile(values, 2)[None], owners * 2)
    assert once is not None
    assert twice is not None
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    assert once.low < values.mean() < once.high


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04 times 4 3 2 1 gives .04 .06 .06 .04, made monotone .04 .06 .06 .06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert holm([]).size == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_none_and_bonferroni(p: list[float]) -> None:
    corrected = holm(p)
    assert np.all(corrected >= np.array(p) - 1e-15)
    assert np.all(corrected <= np.minimum(1, len(p) * np.array(p)) + 1e-15)
    assert np.array_equal(np.argsort(p, kind="stable"), np.lexsort((np.arange(len(p)), p, corrected)))


def test_comparison_is_paired() -> None:
    """Images differ by 10 dB, methods by 0.5 dB: only the pairs can tell."""
    rng = np.random.default_rng(0)
    base = 30 + 10 * rng.standard_normal(12)
    other = base + 0.5 + 0.1 * rng.standard_normal(12)
    owners = [f"p{i}" for i in range(12)]
    result = compare(table({"tv": base, "admm": other}, owners), "tv")["admm"]
    assert result.difference == pytest.approx(np.mean(other - base))
    assert result.p == pytest.approx(wilcoxon(other - base).pvalue)
    assert result.wins == 1.0
    assert result.clear
    assert result.interval is not None
    assert 0.4 < result.interval.low < result.difference < result.interval.high < 0.6


def test_wins_and_missing_images() -> None:
    nan, inf = math.nan, math.inf
    base = np.array([30.0, 30, 30, 30, inf, inf])
    other = np.array([31.0, 29, 30, nan, inf, 30])
    result = compare(table({"tv": base, "admm": other}, [*"abcdef"]), "tv")["admm"]
    assert (result.images, result.patients) == (4, 4)  # without the missing one, and without −∞
    assert result.wins == pytest.approx(0.5)  # one won, one lost, two ties
    assert result.difference == pytest.approx(0.0)


def test_seeds_are_averaged_per_image_and_their_spread_is_apart() -> None:
    runs = np.array([[30.0, 32, 34], [31, 33, 35], [32, 34, 36]])
    (summary,) = summarise(table({"admm": runs}, [*"abc"]))
    assert summary.mean["psnr"] == pytest.approx(33)
    assert summary.sd["psnr"] == pytest.approx(2)  # over images, of [31, 33, 35]
    assert summary.seed_spread["psnr"] == pytest.approx(1)  # of the means [32, 33, 34]
    assert (summary.seeds, summary.images) == (3, 3)
    (single,) = summarise(table({"tv": runs[0]}, [*"abc"]))
    assert math.isnan(single.seed_spread["psnr"])


def test_a_reference_without_scores_is_named() -> None:
    with pytest.raises(ValueError, match=r"'bm3d'; the task has tv"):
        compare(table({"tv": np.ones(3)}, [*"abc"]), "bm3d")


def test_reference_is_the_best_classical_method() -> None:
    data = table({"fbp": np.full(3, 20.0), "tv": np.full(3, 30.0), "unet": np.full(3, 33.0)}, [*"abc"])
    summaries = summarise(data)
    assert choose_reference(None, summaries, GROUPS) == ("tv", "the best classical method")
    assert choose_reference("unet", summaries, GROUPS)[0] == "unet"
    chosen, why = choose_reference("lpd", summaries, GROUPS)
    assert chosen == "tv"
    assert "lpd" in why
    assert choose_reference(None, [s for s in summaries if s.method == "unet"], GROUPS)[0] == "unet"
    assert choose_reference(None, [], GROUPS)[0] is None


def say(psnr: dict[str, np.ndarray], patients: list[str]) -> str:
    data = table(psnr, patients)
    summaries = summarise(data)
    return verdict(data, summaries, choose_reference(None, summaries, GROUPS)[0], LABELS)


def test_verdicts() -> None:
    rng = np.random.default_rng(1)
    owners = [f"p{i}" for i in range(12)]
    tv = 30 + rng.standard_normal(12)
    noise = 0.1 * rng.standard_normal(12)
    clear = say({"fbp": tv - 8, "tv": tv, "unet": tv + 1 + noise, "admm": tv + 2.2 - noise}, owners)
    assert clear.startswith("ADMM-Net is clearly best:")
    assert "above U-Net, the next best, and 2." in clear

    wide = rng.standard_normal(12)
    nothing = say({"fbp": tv - 8, "tv": tv, "admm": tv + wide - wide.mean() + 0.05}, owners)
    assert nothing.startswith("No method is clearly better than TV, the reference: the highest mean")
    assert "0.05 dB [−" in nothing
    assert "the interval contains zero" in nothing

    tied = say({"tv": tv, "unet": tv + 2 + noise, "admm": tv + 2.05 + wide - wide.mean()}, owners)
    assert "but it is not clearly better than U-Net" in tied or "No method is clearly better" in tied

    lead = say({"fbp": tv - 8 + noise, "tv": tv, "unet": tv - 1 + noise}, owners)
    assert lead.startswith("Clearly best is TV, the reference:")

    few = say({"fbp": tv - 8, "tv": tv, "admm": tv + 2 + noise}, [f"p{i % 4}" for i in range(12)])
    assert few.startswith("ADMM-Net has the highest mean:")
    assert "4 test patients make this an indication, no more" in few

    one = say({"tv": tv, "admm": tv + 2}, ["p"] * 12)
    assert "a single test patient, hence no interval" in one
    assert "[" not in one

    assert say({"tv": tv}, owners).startswith("Only TV has finished")
    assert say({}, []) == "No reconstruction has finished."


def test_durations() -> None:
    shown = [duration(s) for s in (0.0042, 0.042, 0.42, 1.31, 42, 730, 7200, 90_000)]
    assert shown == ["4.2 ms", "42 ms", "0.42 s", "1.3 s", "42 s", "12 min", "2.0 h", "25 h"]
