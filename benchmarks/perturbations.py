"""What ``attack.csv`` says: scores of every method under random and worst perturbations of the measurements."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .bootstrap import Interval
from .charts import Drawn
from .judgement import Judgement, in_shown_units
from .plots import INK, STYLE, WIDTH, Look, frame, legend, of_errors
from .record import Task
from .report_tables import Entry, Table
from .statistics import Comparison, compare, scores, summarise
from .units import Scale
from .verdict import factor

_LINES = {"worst": "-", "random": (0, (4, 2))}
_WIDE = 8  # times the least strength, from which on strengths are drawn on a logarithmic axis


@dataclass(frozen=True)
class Perturbed:
    """The leading measure of a method under perturbations of one kind and strength.

    Attributes:
        kind: ``"none"``, ``"random"`` or ``"worst"``.
        strength: ‖e‖ / ‖y‖.
        mean, interval: over the images that were perturbed.
        change: against the same images unperturbed; None for these.
        images, patients: their number.
    """

    kind: str
    strength: float
    mean: float
    interval: Interval | None
    change: Comparison | None
    images: int
    patients: int


def perturbed(task: Task, result: Judgement) -> dict[str, list[Perturbed]]:
    """By method, in the order of tables; without methods that were not attacked."""
    scale, metric = Scale.of_values(task.info), result.measure.name
    found: dict[str, list[Perturbed]] = {}
    for method in result.table.methods:
        own = [row for row in task.attacks if row["method"] == method]
        named = {f"{row['perturbation']} {row['strength']}": row for row in own}
        clean = next((name for name, row in named.items() if row["perturbation"] == "none"), None)
        if clean is None:
            continue
        # What is done to a method takes the place of methods: the same pairs of images, the same statistics.
        rows = [{**row, "method": f"{row['perturbation']} {row['strength']}"} for row in own]
        table = in_shown_units(scores(rows), scale)
        changes = compare(table, clean, metric)
        found[method] = [
            Perturbed(
                kind=named[s.method]["perturbation"],
                strength=float(named[s.method]["strength"]),
                mean=s.mean[metric],
                interval=s.interval[metric],
                change=changes.get(s.method),
                images=s.images,
                patients=s.patients,
            )
            for s in summarise(table)
        ]
    return found


def draw(found: Mapping[str, Sequence[Perturbed]], result: Judgement, looks: Mapping[str, Look]) -> Drawn:
    """Mean score against strength: solid under the worst perturbation, dashed under a random one, with bands."""
    measure = result.measure
    strengths = _strengths(found)
    drawn: list[float] = []
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.75 * WIDTH, max(3.6, 1.2 + 0.3 * len(found))), layout="constrained")
        ax = figure.subplots()
        frame(ax, "both")
        handles: dict[str, Artist] = {}
        for method, entries in found.items():
            look = looks[method]
            for kind, dashes in _LINES.items():
                curve = [p for p in entries if p.kind in ("none", kind) and math.isfinite(p.mean)]
                curve = sorted((p for p in curve if p.mean > 0 or not measure.error), key=lambda p: p.strength)
                if len(curve) < 2:
                    continue
                x, mean = [100 * p.strength for p in curve], [p.mean for p in curve]
                ends = [p.interval or Interval(p.mean, p.mean) for p in curve]
                ax.fill_between(x, [e.low for e in ends], [e.high for e in ends], color=look.colour, alpha=0.1, lw=0)
                (line,) = ax.plot(x, mean, color=look.colour, marker=look.marker, ms=5, lw=1.6, ls=dashes)
                handles.setdefault(method, line)
                drawn += mean
        if strengths[-1] / strengths[0] > _WIDE:
            ax.set_xscale("symlog", linthresh=100 * strengths[0], linscale=0.5)
        ax.set_xticks([0, *(100 * s for s in strengths)], ["0", *(f"{100 * s:g}" for s in strengths)])
        ax.minorticks_off()
        if measure.error and drawn:
            of_errors(ax.yaxis, drawn)
        ax.set(xlabel="size of the perturbation, ‖e‖ / ‖y‖ [%]", ylabel=f"mean {measure.heading(result.units)}")
        key = {f"{kind} perturbation": Line2D([], [], color=INK, lw=1.6, ls=ls) for kind, ls in _LINES.items()}
        legend(figure, handles, looks, key)
    images = max(p.images for entries in found.values() for p in entries)
    patients = max(p.patients for entries in found.values() for p in entries)
    bands = "; bands are 95 % intervals over patients" if patients > 1 else ""
    return figure, (
        f"Mean {measure.title} of {images} test image{'s'[: images != 1]} when a perturbation e is added to the "
        f"measurement y{bands}. Solid: the worst that gradient ascent has found, for every method in the same way; "
        "there may be worse. Dashed: a random one of the same size."
    )


def perturbation_table(found: Mapping[str, Sequence[Perturbed]], result: Judgement) -> Table:
    """Mean scores for every strength; below each its change against the same images unperturbed."""
    measure = result.measure
    kinds = [("none", 0.0), *((kind, s) for s in _strengths(found) for kind in ("random", "worst"))]
    judged = {s.method for s in result.judged}
    rows: list[tuple[str, list[Entry]]] = [(method, []) for method in found]
    columns = []
    for kind, strength in kinds:
        columns.append(("Unperturbed", "") if kind == "none" else (f"{100 * strength:g} % {kind}", ""))
        column = {m: p for m, entries in found.items() for p in entries if (p.kind, p.strength) == (kind, strength)}
        means = [p.mean for m, p in column.items() if m in judged and not math.isnan(p.mean)]
        best = (min if measure.error else max)(means) if len(means) > 1 else math.nan
        for method, row in rows:
            p = column.get(method)
            row.append(Entry("–") if p is None else _entry(p, result, method in judged and p.mean == best))
    return Table(columns, rows)


def write_perturbations(
    stem: Path, found: Mapping[str, Sequence[Perturbed]], result: Judgement, labels: Mapping[str, str]
) -> None:
    """``stem.csv``: plain numbers, a row for each method, kind and strength; empty where there is none."""
    measure = result.measure
    with stem.with_name(stem.name + ".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [measure.name, f"{measure.name}_low", f"{measure.name}_high", "change", "change_low", "change_high"]
        writer.writerow(["method", "label", "perturbation", "strength", "images", "patients", *names, "change_in"])
        for method, entries in found.items():
            for p in entries:
                change = (p.change.gain, p.change.interval) if p.change else (math.nan, None)
                numbers = [p.mean, *_ends(p.interval), change[0], *_ends(change[1])]
                known = ["" if math.isnan(number) else number for number in numbers]
                kind = ("log 1/" if measure.error else "") + measure.name
                writer.writerow([method, labels[method], p.kind, p.strength, p.images, p.patients, *known, kind])


def _entry(p: Perturbed, result: Judgement, best: bool) -> Entry:
    if p.change is None:
        small = ""
    elif result.measure.error:
        small = f"× {factor(-p.change.gain)}"
    else:
        small = result.measure.text(p.change.gain, sign=True)
    return Entry(result.measure.text(p.mean), p.mean, small, best)


def _strengths(found: Mapping[str, Sequence[Perturbed]]) -> list[float]:
    return sorted({p.strength for entries in found.values() for p in entries if p.kind != "none"})


def _ends(interval: Interval | None) -> tuple[float, float]:
    return (math.nan, math.nan) if interval is None else (interval.low, interval.high)
