"""What the statistics of a task mean, in a sentence or two that a sceptical reader can sign."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .statistics import MIN_PATIENTS, Comparison, Interval, Scores, Summary, compare


def choose_reference(
    named: str | None, summaries: Sequence[Summary], groups: Mapping[str, str]
) -> tuple[str | None, str]:
    """The method that the others are compared with, and why it is that one.

    It is the one that the task names, or else the classical method with the highest mean PSNR, or else the direct
    one, or else the best of all.
    """
    scored = {s.method: s.mean["psnr"] for s in summaries if not math.isnan(s.mean["psnr"])}
    if not scored:
        return None, ""
    if named in scored:
        return named, "named by the suite"
    missing = f"; {named}, named by the suite, has no results" if named else ""
    for group, why in (("classical", "the best classical method"), ("direct", "no classical method finished")):
        members = [method for method in scored if groups.get(method) == group]
        if members:
            return max(members, key=scored.__getitem__), why + missing
    return max(scored, key=scored.__getitem__), "the best method, none of them classical" + missing


def verdict(table: Scores, summaries: Sequence[Summary], reference: str | None, labels: Mapping[str, str]) -> str:
    """Who is best by mean PSNR, by how much over the next and over the reference, and whether that is clear."""
    ranked = sorted(
        (s for s in summaries if not math.isnan(s.mean["psnr"])), key=lambda s: s.mean["psnr"], reverse=True
    )
    if not ranked or reference is None:
        return "No reconstruction has finished."
    best = ranked[0]
    name, level = labels[best.method], f"{best.mean['psnr']:.2f} dB"
    if len(ranked) == 1:
        return f"Only {name} has finished: {level}; there is nothing to compare it with."
    second = ranked[1].method
    lead = compare(table, second)[best.method]
    few = "" if lead.patients >= MIN_PATIENTS else f"; {lead.patients} test patients make this an indication, no more"
    if best.method == reference:
        over = f"{name}, the reference: {level}, {amount(lead)} above {labels[second]}, the next best"
        if not lead.apart:
            return f"No method is clearly better than {over} ({doubt(lead)})."
        return f"{'Clearly best is' if lead.clear else 'The highest mean is that of'} {over}{few}."
    gain = compare(table, reference)[best.method]
    base = f"{labels[reference]}, the reference"
    if not gain.apart:
        return (
            f"No method is clearly better than {base}: the highest mean, {level} of {name}, is {amount(gain)} above it "
            f"({doubt(gain)})."
        )
    first = f"{name} {'is clearly best' if gain.clear and lead.clear else 'has the highest mean'}: {level}"
    if second == reference:
        return f"{first}, {amount(gain)} above {base} and next best{few}."
    if lead.apart:
        return f"{first}, {amount(lead)} above {labels[second]}, the next best, and {amount(gain)} above {base}{few}."
    return (
        f"{first}, {amount(gain)} above {base}, but it is not clearly better than {labels[second]}: {amount(lead)} "
        f"({doubt(lead)}){few}."
    )


def second_opinion(summaries: Sequence[Summary], labels: Mapping[str, str]) -> str:
    """Where SSIM or HaarPSI put another method first than PSNR does; empty where they agree."""
    scored = [s for s in summaries if not math.isnan(s.mean["psnr"])]
    if len(scored) < 2:
        return ""
    best = max(scored, key=lambda s: s.mean["psnr"])
    parts = []
    for metric, title in (("ssim", "SSIM"), ("haarpsi", "HaarPSI")):
        first = max(scored, key=lambda s: -math.inf if math.isnan(s.mean[metric]) else s.mean[metric])
        if first.mean[metric] > best.mean[metric]:
            figures = f"{first.mean[metric]:.3f} against {best.mean[metric]:.3f}"
            parts.append(f"{title} puts {labels[first.method]} first ({figures})")
    return "; ".join(parts) + "." if parts else ""


def cost(
    summaries: Sequence[Summary], reference: str | None, labels: Mapping[str, str], fits: Mapping[str, float]
) -> str:
    """What the two best and the reference cost; ``fits`` holds seconds of tuning or training."""
    ranked = sorted(
        (s for s in summaries if not math.isnan(s.mean["psnr"])), key=lambda s: s.mean["psnr"], reverse=True
    )
    parts = []
    for s in [*ranked[:2], *(s for s in ranked[2:] if s.method == reference)]:
        fitted = f" after {duration(fits[s.method])} of fitting" if fits.get(s.method, 0) >= 0.1 else ""
        if not math.isnan(s.seconds):
            parts.append(f"{labels[s.method]} {duration(s.seconds)}{fitted}")
    return f"Time per image: {'; '.join(parts)}." if parts else ""


def amount(comparison: Comparison) -> str:
    """``1.20 dB [0.90, 1.50]``, with the corrected p where the interval leaves out zero but p does not agree."""
    disagrees = comparison.clear and comparison.p >= 0.05
    p = f" (corrected p = {p_value(comparison.p)})" if disagrees else ""
    return f"{number(comparison.difference)} dB{bracket(comparison.interval)}{p}"


def bracket(interval: Interval | None, digits: int = 2) -> str:
    """`` [0.90, 1.50]``, or nothing."""
    return "" if interval is None else f" [{number(interval.low, digits)}, {number(interval.high, digits)}]"


def number(value: float, digits: int = 2) -> str:
    """A number with a true minus sign; an en dash for NaN."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def doubt(comparison: Comparison) -> str:
    """Why a difference is not told apart from zero."""
    return "a single test patient, hence no interval" if comparison.interval is None else "the interval contains zero"


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
