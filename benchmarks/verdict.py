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
        return "No reconstruction has finished yet."
    best = ranked[0]
    name, level = labels[best.method], f"{best.mean['psnr']:.2f} dB"
    if len(ranked) == 1:
        return f"Only {name} has finished: {level}; there is nothing to compare it with."
    second = ranked[1].method
    lead = compare(table, second)[best.method]
    if best.method == reference:
        over = f"{amount(lead)} above {labels[second]}, the next best"
        if lead.clear:
            return f"{name}, the reference, is clearly best: {level}, {over}."
        return f"No method is clearly better than {name}, the reference: {level}, {over} ({doubt(lead)})."
    gain = compare(table, reference)[best.method]
    base = labels[reference]
    if not gain.clear:
        return (
            f"No method is clearly better than {base}, the reference: the highest mean, {level} of {name}, is "
            f"{amount(gain)} above it ({doubt(gain)})."
        )
    if second == reference:
        return f"{name} is clearly best: {level}, {amount(gain)} above {base}, the reference and next best."
    if lead.clear:
        return (
            f"{name} is clearly best: {level}, {amount(lead)} above {labels[second]}, the next best, and "
            f"{amount(gain)} above {base}, the reference."
        )
    return (
        f"{name} has the highest mean, {level}, {amount(gain)} above {base}, the reference, but is not clearly better "
        f"than {labels[second]}: {amount(lead)} ({doubt(lead)})."
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
    """``1.20 dB [0.90, 1.50]``; the difference alone where there is no interval."""
    return f"{number(comparison.difference)} dB{bracket(comparison.interval)}"


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
    """Why a difference is not clear."""
    if comparison.interval is None:
        return "a single test patient, hence no interval"
    if comparison.interval.low <= 0 <= comparison.interval.high:
        return "the 95 % interval contains zero"
    if comparison.patients < MIN_PATIENTS:
        return f"only {comparison.patients} test patients, too few to be sure"
    return f"corrected p = {p_value(comparison.p)}"


def p_value(p: float) -> str:
    """Two digits, or ``< 0.001``."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def duration(seconds: float) -> str:
    """Seconds for people: 4 ms, 1.3 s, 12 min, 3.2 h."""
    if math.isnan(seconds):
        return "–"
    for limit, unit, name in ((0.9995, 1e-3, "ms"), (99.5, 1, "s"), (5970, 60, "min")):
        if seconds < limit:
            return f"{_three(seconds / unit)} {name}"
    return f"{_three(seconds / 3600)} h"


def _three(value: float) -> str:
    """Two digits or more, without an exponent."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}" if value >= 9.95 else f"{value:.1f}"
