"""Statistics against known answers: coverage by simulation, Holm by hand, and sentences that say what holds."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isocenter.benchmarks.bootstrap import intervals, rank_intervals
from isocenter.benchmarks.statistics import Scores, compare, holm, scores, summarise
from isocenter.benchmarks.verdict import choose_reference, duration, luck, verdict
from scipy.stats import bootstrap, wilcoxon

LABELS = {"fbp": "FBP", "tv": "TV", "unet": "U-Net", "admm": "ADMM-Net"}
GROUPS = {"fbp": "direct", "tv": "classical", "unet": "learned", "admm": "learned"}


def table(psnr: dict[str, np.ndarray], patients: list[str], rmse: dict[str, np.ndarray] | None = None) -> Scores:
    """Scores from PSNR, and from RMSE where it is given, by method, ``[images]`` or ``[seeds, images]``."""
    rows = [
        {
            "method": method,
            "seed": str(seed),
            "image": f"image-{i}",
            "patient": patients[i],
            "psnr": str(value),
            "ssim": "0.9",
            "rmse": "0.1" if rmse is None else str(np.atleast_2d(rmse[method])[seed, i]),
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


def test_intervals_of_independent_images_are_those_of_scipy() -> None:
    """With every image its own patient, many of them, this is the plain percentile bootstrap."""
    values = np.random.default_rng(5).gamma(2.0, size=150)
    (ours,) = intervals(values[None], [str(i) for i in range(150)], resamples=20_000)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx(
        (theirs.low, theirs.high), abs=0.02 * (theirs.high - theirs.low) + 5e-3
    )


def test_rank_intervals_of_known_orders() -> None:
    rng = np.random.default_rng(0)
    base = 10 * rng.standard_normal(40)  # what images differ by, the same for all methods
    noise = rng.standard_normal((4, 40))
    owners = [str(i) for i in range(40)]
    apart = np.array([3.0, 9.0, 0.0, 6.0])[:, None] + base + noise
    assert rank_intervals(apart, owners) == [(3, 3), (1, 1), (4, 4), (2, 2)]
    alike = base + noise - noise.mean(1, keepdims=True)
    alike[3] -= 5
    assert rank_intervals(alike, owners) == [(1, 3)] * 3 + [(4, 4)]
    ties = np.stack([base, base, base + 1])
    assert rank_intervals(ties, owners) == [(2, 3), (2, 3), (1, 1)]
    apart[1, 5:] = np.nan  # only the five images that all have count
    assert rank_intervals(apart, owners)[1] == (1, 1)
    assert rank_intervals(apart, ["p"] * 40) == [None] * 4
    assert rank_intervals(np.full((2, 3), np.nan), [*"abc"]) == [None, None]
    assert rank_intervals(np.zeros((0, 3)), [*"abc"]) == []


def test_rank_intervals_cover_the_true_rank() -> None:
    """Three methods with true means 0, 0.3, 0.6 and ten patients: the intervals hold 3, 2, 1 nearly always."""
    rng = np.random.default_rng(1)
    held = np.zeros(3)
    for _ in range(150):
        shared = rng.standard_normal(10)
        values = np.array([0.0, 0.3, 0.6])[:, None] + shared + 0.8 * rng.standard_normal((3, 10))
        found = rank_intervals(values.repeat(2, 1), [f"p{i // 2}" for i in range(20)], resamples=300)
        held += [r is not None and r[0] <= true <= r[1] for r, true in zip(found, (3, 2, 1), strict=True)]
    assert (held / 150 > 0.93).all()


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
    assert result.gain == pytest.approx(np.mean(other - base))
    assert result.p == pytest.approx(wilcoxon(other - base).pvalue)
    assert result.wins == 1.0
    assert result.clear
    assert result.interval is not None
    assert 0.4 < result.interval.low < result.gain < result.interval.high < 0.6


def test_wins_and_missing_images() -> None:
    nan, inf = math.nan, math.inf
    base = np.array([30.0, 30, 30, 30, inf, inf])
    other = np.array([31.0, 29, 30, nan, inf, 30])
    result = compare(table({"tv": base, "admm": other}, [*"abcdef"]), "tv")["admm"]
    assert (result.images, result.patients) == (4, 4)  # without the missing one, and without −∞
    assert result.wins == pytest.approx(0.5)  # one won, one lost, two ties
    assert result.gain == pytest.approx(0.0)


def test_errors_are_compared_by_their_ratio() -> None:
    """Images of one method differ a hundredfold, and the other's error is half of it on every one, within noise."""
    rng = np.random.default_rng(0)
    base = 10.0 ** rng.uniform(-5, -3, 12)
    other = base / 2 * np.exp(0.05 * rng.standard_normal(12))
    psnr = {"tv": -20 * np.log10(base), "admm": -20 * np.log10(other)}
    data = table(psnr, [f"p{i}" for i in range(12)], {"tv": base, "admm": other})
    result = compare(data, "tv", "rmse")["admm"]
    assert math.exp(result.gain) == pytest.approx(2, rel=0.05)
    assert result.clear
    assert result.wins == 1.0
    # 20 log10 of a ratio of errors is a difference of PSNR
    assert result.gain * 20 / math.log(10) == pytest.approx(compare(data, "tv")["admm"].gain)
    exact = table(psnr, [f"p{i}" for i in range(12)], {"tv": np.zeros(12), "admm": np.r_[np.zeros(6), base[6:]]})
    result = compare(exact, "tv", "rmse")["admm"]
    assert (result.gain, result.images, result.wins) == (0.0, 6, 0.5)  # exact on both is a tie, one alone no number
    summaries = summarise(data)
    chosen, _ = choose_reference(None, summaries, GROUPS, "rmse")
    sentence = verdict(data, summaries, chosen, LABELS, "rmse", "1/mm")
    assert re.match(r"ADMM-Net is clearly best: RMSE \S+·10⁻⁴ 1/mm, a factor 2\S* \[1\.9\d, 2\S*\] below TV", sentence)


@pytest.mark.parametrize("patients", [2, 5, 6])
def test_few_patients_are_never_called_clear(patients: int) -> None:
    rng = np.random.default_rng(0)
    owners = [f"p{i % patients}" for i in range(12)]
    base = 30 + rng.standard_normal(12)
    result = compare(table({"tv": base, "admm": base + 1 + 0.01 * rng.standard_normal(12)}, owners), "tv")["admm"]
    assert result.apart
    assert result.clear == (patients >= 6)
    assert result.p == pytest.approx(2.0 ** (1 - patients))  # the least that a signed-rank test can give


def test_one_image_has_a_mean_and_nothing_else() -> None:
    data = table({"tv": np.array([30.0]), "admm": np.array([31.0])}, ["a"])
    result = compare(data, "tv")["admm"]
    assert (result.gain, result.interval, result.wins, result.clear) == (1.0, None, 1.0, False)
    assert math.isnan(result.p)
    assert math.isnan(summarise(data)[0].sd["psnr"])


def test_seeds_are_averaged_per_image_and_their_spread_is_apart() -> None:
    runs = np.array([[30.0, 32, 34], [31, 33, 35], [32, 34, 36]])
    (summary,) = summarise(table({"admm": runs}, [*"abc"]))
    assert summary.mean["psnr"] == pytest.approx(33)
    assert summary.sd["psnr"] == pytest.approx(2)  # over images, of [31, 33, 35]
    assert summary.seed_spread["psnr"] == pytest.approx(1)  # of the means [32, 33, 34]
    assert (summary.seeds, summary.images) == (3, 3)
    (single,) = summarise(table({"tv": runs[0]}, [*"abc"]))
    assert math.isnan(single.seed_spread["psnr"])


def test_luck_of_training_is_said_apart() -> None:
    base = np.array([30.0, 31, 32])
    labels, groups = LABELS, GROUPS
    several = summarise(table({"tv": base, "admm": np.stack([base + 1, base + 1.4])}, [*"abc"]))
    assert luck(several, labels, groups, "psnr") == (
        "Training again moves the mean PSNR: ADMM-Net ± 0.28 over 2 seeds (standard deviation)."
    )
    once = summarise(table({"tv": base, "admm": base + 1}, [*"abc"]))
    assert "once each" in luck(once, labels, groups, "psnr")
    assert luck(once[:1], labels, groups, "psnr") == ""


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


def test_a_mean_that_single_images_contradict_is_not_called_best() -> None:
    """TV is exact but for one image, the network never: the smaller mean error belongs to the one that mostly loses."""
    tv = np.r_[1e-7 * np.linspace(1, 2, 11), 1e-3]
    admm = 1e-5 * np.linspace(1, 2, 12)
    psnr = {"tv": -20 * np.log10(tv), "admm": -20 * np.log10(admm)}
    data = table(psnr, [f"p{i}" for i in range(12)], {"tv": tv, "admm": admm})
    sentence = verdict(data, summarise(data), "tv", LABELS, "rmse", "cm⁻¹")
    assert re.fullmatch(
        r"Means and single images disagree: ADMM-Net has the lowest mean, RMSE 1\.50·10⁻⁵ cm⁻¹, but image by image "
        r"TV is a factor \d\d\.\d \[\S+, \S+\] below it\.",
        sentence,
    )
