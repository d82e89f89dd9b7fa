"""Tables of a report, each written once and rendered thrice: HTML on the page, CSV and LaTeX beside it."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bootstrap import Interval
from .hounsfield import RMSE_HU
from .judgement import Judgement
from .metrics import MEASURES, RAISED
from .plots import short
from .record import Task
from .statistics import Comparison
from .units import Scale
from .verdict import bracket, duration, factor, p_value, ranked

_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "·": r"$\cdot$",
        "×": r"$\times$",
        "∞": r"$\infty$",
        "Δ": r"$\Delta$",
        "÷": r"$\div$",
        "\n": " ",
    }
)
_LOWERED = {raised: lowered for lowered, raised in RAISED.items()}


@dataclass(frozen=True)
class Entry:
    """What is shown, by which it is sorted, a second line in small print, and whether it is the best of its column."""

    text: str
    sort: float = math.nan
    small: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Columns are a title and a hint; rows are a method and an entry for each column."""

    columns: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[str, list[Entry]]] = field(default_factory=list)


def scores_table(task: Task, result: Judgement) -> Table:
    """Quality, difference to the reference, rank and cost of every method."""
    summaries, judged, comparisons = result.summaries, result.judged, result.comparisons
    metric, title = result.measure.name, result.measure.title
    several = len(judged) > 1
    columns: list[tuple[str, str]] = []
    rows: dict[str, list[Entry]] = {s.method: [] for s in summaries}

    def add(title: str, hint: str, entries: Mapping[str, Entry]) -> None:
        columns.append((title, hint))
        for method, row in rows.items():
            row.append(entries.get(method, Entry("–")))

    relative = () if metric == "rmse" else ("nrmse",)  # it says the same
    for name in dict.fromkeys((metric, "psnr", "ssim", *relative, "haarpsi")):
        measure = MEASURES[name]
        best = ranked(judged, name)[:1]
        entries = {}
        for s in summaries:
            spread = "" if math.isnan(s.sd[name]) else f" ± {measure.spread(s.sd[name])}"
            entries[s.method] = Entry(
                measure.text(s.mean[name]) + spread,
                s.mean[name],
                bracket(s.interval[name], measure.text).strip(),
                several and s in judged and bool(best) and s.mean[name] == best[0].mean[name],
            )
        hint = "mean ± standard deviation over images; below, 95 % interval of the mean"
        add(measure.heading(result.units), hint, entries)
    hounsfield = task.mean(RMSE_HU)
    if hounsfield:  # CT alone
        least = min((hounsfield[s.method] for s in judged if s.method in hounsfield), default=math.nan)
        cells = {m: Entry(f"{e:.1f}", e, best=several and e == least) for m, e in hounsfield.items()}
        add("RMSE [HU]", "mean over images, inside the field of view", cells)

    heading = f"{title} ÷ ref." if result.measure.error else f"Δ {title}"
    reference = {s.method: Entry("reference", 0.0) for s in summaries if s.method not in comparisons}
    hint = "against the reference, paired per image, with its 95 % interval; bold where clearly better"
    add(heading, hint, {m: _gain(c) for m, c in comparisons.items()} | reference)
    wins = {
        m: Entry("–" if math.isnan(c.wins) else f"{100 * c.wins:.0f} %", c.wins, f"p {_relation(c.p)}")
        for m, c in comparisons.items()
    }
    add("Wins", "share of images better than the reference; below, Wilcoxon signed-rank test, Holm-corrected", wins)
    placed = {
        m: Entry(f"{a}" if a == b else f"{a}–{b}", (a + b) / 2) for m, r in result.ranks.items() if r for a, b in [r]
    }
    add("Rank", f"95 % interval of the place by mean {title}", placed)

    fits = {m: f"fit {duration(t)}" for m, t in task.largest("seconds_fit").items() if t >= 0.1}
    times = {s.method: Entry(duration(s.seconds), s.seconds, fits.get(s.method, "")) for s in summaries}
    add("Time", "median time per image; below, time of tuning or training, the longest over seeds", times)
    counts = {m: Entry(short(int(n)), n) for m, n in task.largest("parameters").items() if n > 0}
    add("Params", "number of learned or tuned numbers", counts)
    peaks = {m: Entry(f"{peak:.0f} MB", peak) for m, peak in task.largest("peak_memory_mb").items() if peak > 0}
    add("Memory", "peak of the process", peaks)
    if any(s.seeds > 1 for s in summaries):
        seeds = {s.method: s for s in summaries if s.seeds > 1}
        spreads = {
            m: Entry(f"± {result.measure.spread(s.seed_spread[metric])} ({s.seeds})", s.seed_spread[metric])
            for m, s in seeds.items()
        }
        add("Seeds", f"standard deviation of the mean {title} over training seeds, and their number", spreads)
    return Table(columns, list(rows.items()))


def _relation(p: float) -> str:
    """``< 0.001``, ``= 0.02``."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _gain(c: Comparison) -> Entry:
    clear = c.clear and c.gain > 0
    if not c.measure.error:
        return Entry(c.measure.text(c.gain, sign=True), c.gain, bracket(c.interval, c.measure.text).strip(), clear)
    return Entry(factor(-c.gain), -c.gain, bracket(c.interval and -c.interval, factor).strip(), clear)


def published_table(task: Task, result: Judgement, labels: Mapping[str, str]) -> list[dict[str, str]]:
    """Rows of the literature as text, each with our mean of the same method where we have one, both in shown units."""
    ours = {s.method: s for s in result.summaries}
    to_shown = Scale.of_values(task.info).factor
    rows = []
    for entry in task.info.get("published") or ():
        own = ours.get(entry.get("method"))
        row = {key: str(entry.get(key) or "") for key in ("label", "source", "note")}
        row |= {"own": labels[own.method] if own else "", "parameters": ""}
        if entry.get("parameters"):
            row["parameters"] = short(int(entry["parameters"]))
        for name in ("psnr", "ssim", "rmse"):
            known = entry.get(name) is not None
            times = to_shown if MEASURES[name].has_image_units else 1.0
            row[name] = MEASURES[name].text(times * float(entry[name])) if known else ""
            row[f"own_{name}"] = MEASURES[name].text(own.mean[name]) if own and known else ""
        rows.append(row)
    return rows


def write_scores(stem: Path, task: Task, result: Judgement, labels: Mapping[str, str]) -> None:
    """``stem.csv``: plain numbers, a row for each method; empty where there is none."""
    costs = ("seconds_fit", "parameters", "peak_memory_mb")
    largest = {name: task.largest(name) for name in costs}
    rows: list[dict[str, Any]] = []
    for s in result.summaries:
        row: dict[str, Any] = {"method": s.method, "label": labels[s.method], "group": result.groups.get(s.method, "")}
        row |= {"images": s.images, "patients": s.patients, "seeds": s.seeds}
        for name in MEASURES:
            row |= {name: s.mean[name], f"{name}_sd": s.sd[name], **_ends(name, s.interval[name])}
            row[f"{name}_seed_sd"] = s.seed_spread[name]
        row["units"] = result.units  # of rmse
        c, rank = result.comparisons.get(s.method), result.ranks.get(s.method)
        row |= {
            "reference": result.reference,
            "gain_in": ("log " if result.measure.error else "") + result.measure.name,
        }
        row |= {"gain": c.gain if c else math.nan, **_ends("gain", c.interval if c else None)}
        row |= {"p_holm": c.p if c else math.nan, "wins": c.wins if c else math.nan}
        row |= {"rank_low": rank[0] if rank else "", "rank_high": rank[1] if rank else ""}
        row |= {"seconds": s.seconds, **{name: largest[name].get(s.method, math.nan) for name in costs}}
        rows.append({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    with stem.with_name(stem.name + ".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_means(stem: Path, table: Table, labels: Mapping[str, str]) -> None:
    """``stem.csv``: the numbers of a table of one number for each method and column; empty where there is none."""
    with stem.with_name(stem.name + ".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "label", *(title for title, _ in table.columns)])
        for method, entries in table.rows:
            writer.writerow([method, labels[method], *("" if math.isnan(e.sort) else e.sort for e in entries)])


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    low, high = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
    return {f"{name}_low": low, f"{name}_high": high}


def write_latex(stem: Path, table: Table, labels: Mapping[str, str], caption: str) -> None:
    """``stem.tex``: a ``tabular`` without packages, the best of every column in bold."""
    lines = [f"% {' '.join(caption.split())}", rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\hline"]
    lines.append(" & ".join(["Method", *(latex(title) for title, _ in table.columns)]) + r" \\ \hline")
    for method, entries in table.rows:
        lines.append(" & ".join([latex(labels[method]), *map(_latex_entry, entries)]) + r" \\")
    lines += [r"\hline", r"\end{tabular}", ""]
    stem.with_name(stem.name + ".tex").write_text("\n".join(lines), encoding="utf-8")


def _latex_entry(entry: Entry) -> str:
    text = rf"\textbf{{{latex(entry.text)}}}" if entry.best else latex(entry.text)
    return rf"{text} {{\scriptsize {latex(entry.small)}}}" if entry.small else text


def latex(text: str) -> str:
    """Text with what is special to LaTeX written out; raised digits as exponents."""
    text = text.translate(_LATEX)
    return re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda raised: f"$^{{{raised[0].translate(_LOWERED)}}}$", text)
