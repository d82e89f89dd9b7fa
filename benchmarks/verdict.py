"""What the statistics of a task mean, in a sentence or two that a sceptical reader can sign."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from .bootstrap import MIN_PATIENTS, Interval
from .metrics import MEASURES, Measure, significant
from .statistics import Comparison, Scores, Summary, compare


def ranked(summaries: Sequence[Summary], metric: str) -> list[Summary]:
    """Those that have a mean, the best first."""
    measure = MEASURES[metric]
    scored = [s for s in summaries if not math.isnan(s.mean[metric])]
    return sorted(scored, key=lambda s: s.mean[metric], reverse=not measure.error)


def choose_reference(
    named: str | None, summaries: Sequence[Summary], groups: Mapping[str, str], metric: str = "psnr"
) -> tuple[str | None, str]:
    """The method that the others are compared with, and why it is that one.

    It is the one that the task names, or else the classical method with the best mean, or else the direct one, or else
    the best of all.
    """
    scored = [s.method for s in ranked(summaries, metric)]
    if not scored:
        return None, ""
    if named in scored:
        return named, "named by the suite"
    missing = f"; {named}, named by the suite, has no results" if named else ""
    for group, why in (("classical", "the best classical method"), ("direct", "no classical method finished")):
        members = [method for method in scored if groups.get(method) == group]
        if members:
            return members[0], why + missing
    return scored[0], "the best method, none of them classical" + missing


def verdict(
    table: Scores,
    summaries: Sequence[Summary],
    reference: str | None,
    labels: Mapping[str, str],
    metric: str = "psnr",
    units: str = "",
) -> str:
    """Who has the best mean, by how much over the next and over the reference, and whether that is clear.

    Args:
        table: scores of the task.
        summaries: of the methods that are judged.
        reference: one of them, or None where nothing has finished.
        labels: names of methods for people.
        metric: the measure that leads.
        units: of errors of the images.
    """
    order = ranked(summaries, metric)
    if not order or reference is None:
        return "No reconstruction has finished."
    measure, best = MEASURES[metric], order[0]
    name, level = labels[best.method], with_unit(measure, best.mean[metric], units)
    mean = "lowest mean" if measure.error else "highest mean"
    if len(order) == 1:
        return f"Only {name} has finished: {level}; there is nothing to compare it with."
    second = order[1].method
    lead = compare(table, second, metric)[best.method]
    few = "" if lead.patients >= MIN_PATIENTS else f"; {lead.patients} test patients make this an indication, no more"
    others = compare(table, best.method, metric)
    better = [c for s in order[1:] if (c := others[s.method]).apart and c.gain > 0]
    if better:  # a few large errors can make a mean of many small ones
        c = max(better, key=lambda c: c.gain)
        return (
            f"Means and single images disagree: {name} has the {mean}, {level}, but image by image "
            f"{labels[c.method]} is {amount(c)} it{few}."
        )
    if best.method == reference:
        over = f"{name}, the reference: {level}, {amount(lead)} {labels[second]}, the next best"
        if not lead.apart:
            return f"No method is clearly better than {over} ({doubt(lead)})."
        return f"{'Clearly best is' if lead.clear else f'The {mean} is that of'} {over}{few}."
    gain = compare(table, reference, metric)[best.method]
    base = f"{labels[reference]}, the reference"
    if not gain.apart:
        return (
            f"No method is clearly better than {base}: the {mean}, {level} of {name}, is {amount(gain)} it "
            f"({doubt(gain)})."
        )
    first = f"{name} {'is clearly best' if gain.clear and lead.clear else f'has the {mean}'}: {level}"
    if second == reference:
        return f"{first}, {amount(gain)} {base} and next best{few}."
    if lead.apart:
        return f"{first}, {amount(lead)} {labels[second]}, the next best, and {amount(gain)} {base}{few}."
    return (
        f"{first}, {amount(gain)} {base}, but it is not clearly better than {labels[second]}: {amount(lead)} it "
        f"({doubt(lead)}){few}."
    )


def second_opinion(summaries: Sequence[Summary], labels: Mapping[str, str], metric: str = "psnr") -> str:
    """Where other measures put another method first than the leading one does; empty where they agree."""
    order = ranked(summaries, metric)
    if len(order) < 2:
        return ""
    parts = []
    for other in ("psnr", "ssim", "haarpsi"):
        measure, first = MEASURES[other], ranked(order, other)[:1]
        if first and first[0].mean[other] > order[0].mean[other]:
            figures = f"{measure.text(first[0].mean[other])} against {measure.text(order[0].mean[other])}"
            parts.append(f"{measure.title} puts {labels[first[0].method]} first ({figures})")
    return "; ".join(parts) + "." if parts else ""


def luck(summaries: Sequence[Summary], labels: Mapping[str, str], groups: Mapping[str, str], metric: str) -> str:
    """What training seeds weigh, which no interval over test images holds; empty where nothing was trained."""
    trained = [s for s in ranked(summaries, metric) if groups.get(s.method) == "learned"]
    if not trained:
        return ""
    measure, several = MEASURES[metric], [s for s in trained if s.seeds > 1]
    if not several:
        return "Networks were trained once each: how far another training seed would move them is not in any interval."
    spread = ", ".join(
        f"{labels[s.method]} ± {measure.spread(s.seed_spread[metric])} over {s.seeds} seeds" for s in several
    )
    return f"Training again moves the mean {measure.title}: {spread} (standard deviation)."


def cost(
    summaries: Sequence[Summary],
    reference: str | None,
    labels: Mapping[str, str],
    fits: Mapping[str, float],
    metric: str = "psnr",
) -> str:
    """What the two best and the reference cost; ``fits`` holds seconds of tuning or training."""
    order = ranked(summaries, metric)
    parts = []
    for s in [*order[:2], *(s for s in order[2:] if s.method == reference)]:
        fitted = f" after {duration(fits[s.method])} of fitting" if fits.get(s.method, 0) >= 0.1 else ""
        if not math.isnan(s.seconds):
            parts.append(f"{labels[s.method]} {duration(s.seconds)}{fitted}")
    return f"Time per image: {'; '.join(parts)}." if parts else ""


def with_unit(measure: Measure, value: float, units: str) -> str:
    """``34.20 dB``, ``SSIM 0.912``, ``RMSE 6.37·10⁻⁶ cm⁻¹``."""
    unit = measure.unit_in(units)
    name = "" if measure.name == "psnr" else f"{measure.title} "
    return f"{name}{measure.text(value)}{f' {unit}' if unit else ''}"


def amount(c: Comparison) -> str:
    """``1.20 dB [0.90, 1.50] above`` or ``a factor 3.1 [2.7, 3.4] below``; the other way round where it is worse.

    The corrected p is given where the interval leaves out zero but p does not agree.
    """
    p = f" (corrected p = {p_value(c.p)})" if c.clear and c.p >= 0.05 else ""
    worse = c.gain < 0
    gain, interval = (-c.gain, c.interval and -c.interval) if worse else (c.gain, c.interval)
    where = "above" if c.measure.error == worse else "below"
    if c.measure.error:
        return f"a factor {factor(gain)}{bracket(interval, factor)}{p} {where}"
    unit = f" {c.measure.unit}" if c.measure.unit else ""
    return f"{c.measure.text(gain)}{unit}{bracket(interval, c.measure.text)}{p} {where}"


def factor(gain: float) -> str:
    """e^gain with three digits."""
    return "–" if math.isnan(gain) else significant(math.exp(gain)) if gain < 100 else "∞"


def bracket(interval: Interval | None, text: Callable[[float], str]) -> str:
    """`` [0.90, 1.50]``, or nothing."""
    return "" if interval is None else f" [{text(interval.low)}, {text(interval.high)}]"


def doubt(comparison: Comparison) -> str:
    """Why a difference is not told apart from zero."""
    if comparison.interval is None:
        return "a single test patient, hence no interval"
    return f"the interval contains {'one' if comparison.measure.error else 'zero'}"


def p_value(p: float) -> str:
    """Two digits, or ``< 0.001``."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def duration(seconds: float) -> str:
    """Seconds for people: 4 ms, 1.3 s, 12 min, 3.2 h."""
    if math.isnan(seconds):
        return "–"
    for limit, unit, name in ((0.0995, 1e-3, "ms"), (99.5, 1, "s"), (5970, 60, "min")):
        if seconds < limit:
            return f"{_two(seconds / unit)} {name}"
    return f"{_two(seconds / 3600)} h"


def _two(value: float) -> str:
    """Two digits, without an exponent."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"
