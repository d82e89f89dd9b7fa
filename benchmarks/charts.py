"""The charts of a report. Each returns a figure and a caption that says what is drawn and by which rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .metrics import Measure
from .plots import INK, MUTED, STYLE, WIDTH, Look, frame, legend, logarithmic, of_errors, plain, short, wrap
from .statistics import Comparison

Drawn = tuple[Figure, str]
Point = tuple[float, float, float, float]  # value, mean, and the ends of its interval
_PAIRED_LINES = 60
_BOXED = 5  # images, from which on quartiles say something
_NONE = 0.25  # where zero parameters are drawn on a logarithmic axis, left of one


def forest(columns: Sequence[tuple[str, Mapping[str, Comparison]]], looks: Mapping[str, Look]) -> Drawn:
    """Gain of every method over the reference with its interval; one panel per task.

    Args:
        columns: the title of each task, and its comparisons by method.
        looks: of the methods.
    """
    methods = [m for m in looks if any(m in column for _, column in columns)]
    across = min(3, len(columns))
    down = math.ceil(len(columns) / across)
    with matplotlib.rc_context(STYLE):
        width = WIDTH * (0.4 + 0.2 * across)
        figure = Figure(figsize=(width, (0.8 + 0.3 * len(methods)) * down), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for ax in grid[len(columns) :]:
            ax.set_visible(False)
        for ax, (title, column) in zip(grid, columns, strict=False):
            frame(ax, "x")
            measure = next(iter(column.values())).measure
            ax.axvline(0, color=INK, lw=1)
            for y, method in enumerate(reversed(methods)):
                c = column.get(method)
                if c is None or not math.isfinite(c.gain):
                    continue
                look = looks[method]
                if c.interval is not None:
                    ax.plot([c.interval.low, c.interval.high], [y, y], color=look.colour, lw=2.2, solid_capstyle="butt")
                face = look.colour if c.clear else "none"
                ax.plot(c.gain, y, marker=look.marker, ms=7, mfc=face, mec=look.colour, mew=1.5, ls="")
            ax.set_title(wrap(title, 44), fontsize=9, weight="bold")
            if measure.error:
                ticks = _factors(*ax.get_xlim())
                ax.set_xticks(np.log(ticks), [f"{plain(float(f'{tick:.3g}'))} ×" for tick in ticks])
                ax.set_xlabel(f"{measure.title} smaller by a factor", fontsize=8.5)
            else:
                unit = f" [{measure.unit}]" if measure.unit else ""
                ax.set_xlabel(f"{measure.title} gained over the reference{unit}", fontsize=8.5)
            ax.set_yticks(range(len(methods)), [wrap(looks[m].label, 30) for m in reversed(methods)])
            ax.set_ylim(-0.6, len(methods) - 0.4)
            ax.tick_params(axis="y", length=0)
    return figure, (
        "Difference of each method to the reference (the upright line), paired per image, with 95 % intervals over "
        "patients. Right of the line is better; filled marks are clear differences."
    )


def distributions(
    values: Mapping[str, np.ndarray],
    methods: Sequence[str],
    looks: Mapping[str, Look],
    patients: int,
    measures: Sequence[Measure],
    units: str,
) -> Drawn:
    """Scores of every image, a dot each, joined across methods when they are few, with boxes.

    Args:
        values: ``[methods, images]`` by measure.
        methods: the rows of ``values``.
        looks: of the methods.
        patients: their number, for the caption.
        measures: one panel each; errors that span more than a decade are drawn on a logarithmic axis.
        units: of errors of the images.
    """
    images = values[measures[0].name].shape[1]
    joined = 1 < images <= _PAIRED_LINES and len(methods) > 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.85 + 0.42 * max(len(methods), 2)), layout="constrained")
        for measure, ax in zip(measures, figure.subplots(1, len(measures), sharey=True, squeeze=False)[0], strict=True):
            frame(ax, "x")
            rows = np.where(np.isfinite(values[measure.name]), values[measure.name], np.nan)
            if measure.error:
                rows = np.where(rows > 0, rows, np.nan)
            y = np.arange(len(methods))[::-1]
            if joined:
                ax.plot(rows, y, color=MUTED, lw=0.6, alpha=min(0.6, 6 / images), zorder=1)
            for row, place, method in zip(rows, y, methods, strict=True):
                known = row[~np.isnan(row)]
                look = looks[method]
                spread = np.zeros(known.size) if joined else np.random.default_rng(0).uniform(-0.14, 0.14, known.size)
                alpha = 0.8 if known.size <= 100 else 0.3
                ax.scatter(known, place + spread, s=14, c=look.colour, marker=look.marker, lw=0, alpha=alpha, zorder=2)
                if known.size >= _BOXED:
                    line = {"color": look.colour, "lw": 1.4}
                    ax.boxplot(
                        [known],
                        positions=[place],
                        orientation="horizontal",
                        widths=0.55,
                        showfliers=False,
                        patch_artist=True,
                        manage_ticks=False,
                        boxprops={**line, "facecolor": look.colour + "26"},
                        whiskerprops=line,
                        capprops=line,
                        medianprops={"color": look.colour, "lw": 2.8},
                        zorder=3,
                    )
            ax.set(xlabel=measure.heading(units), ylim=(-0.6, len(methods) - 0.4))
            if measure.error and not np.isnan(rows).all():
                of_errors(ax.xaxis, [float(np.nanmin(rows)), float(np.nanmax(rows))])
            ax.set_yticks(y, [wrap(looks[method].label, 30) for method in methods])
    caption = (
        f"Dots are the {images} test image{'s'[: images != 1]} of {patients} patient{'s'[: patients != 1]}"
        f"{', lines join the same image' if joined else ''}"
        f"{'; boxes: quartiles and median, whiskers to 1.5 times the box' if images >= _BOXED else ''}."
    )
    return figure, caption


def pareto(
    points: Mapping[str, tuple[float, float, float]], looks: Mapping[str, Look], measure: Measure, units: str
) -> Drawn:
    """Mean score against seconds per image and against parameters, with the methods that no other beats in both.

    Args:
        points: (seconds, learned or tuned numbers, mean score) by method.
        looks: of the methods.
        measure: of the score.
        units: of errors of the images.
    """
    finite = {m: p for m, p in points.items() if np.isfinite(p[2]) and (p[2] > 0 or not measure.error)}
    timed = {m: (max(s, 1e-6), q) for m, (s, _, q) in finite.items() if np.isfinite(s)}
    counted = {m: (max(n, _NONE), q) for m, (_, n, q) in finite.items()}
    best = min if measure.error else max
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, max(3.3, 1.2 + 0.26 * len(points))), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        handles = {}
        for ax, shown in ((left, timed), (right, counted)):
            frame(ax, "both")
            front: list[tuple[float, float]] = []
            for x, q in sorted(shown.values(), key=lambda p: (p[0], p[1] if measure.error else -p[1])):
                if not front or (q != front[-1][1] and best(q, front[-1][1]) == q):
                    front.append((x, q))
            if len(front) > 1:
                ax.plot(*zip(*front, strict=True), color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
            for method, point in shown.items():
                look, on = looks[method], point in front
                face, edge = look.colour + ("ff" if on else "55"), INK if on else look.colour
                handles[method] = ax.scatter(*point, s=56, c=face, marker=look.marker, ec=edge, lw=1.1, zorder=2)
            if shown:
                logarithmic(ax.xaxis, [x for x, _ in shown.values()])
                ax.set_xlim(min(x for x, _ in shown.values()) / 2.2, max(x for x, _ in shown.values()) * 2.2)
            ax.margins(y=0.12)
        left.set(xlabel="seconds per image", ylabel=f"mean {measure.heading(units)}")
        right.set_xlabel("learned or tuned numbers")
        if counted:
            decades = range(math.ceil(math.log10(max(x for x, _ in counted.values()))) + 1)
            ticks = [x for x in (_NONE, *(10.0**d for d in decades)) if right.get_xlim()[0] < x < right.get_xlim()[1]]
            right.set_xticks(ticks, ["0" if x == _NONE else short(round(x)) for x in ticks])
        if measure.error and finite:
            of_errors(left.yaxis, [q for _, _, q in finite.values()])
        order = sorted(handles, key=lambda m: -points[m][2] if not measure.error else points[m][2])
        legend(figure, {m: handles[m] for m in order}, looks)
    return figure, (
        f"Mean {measure.title} over the test images against the median time for one of them, and against the number of "
        "learned or tuned parameters. Outlined marks and the dashed line mark the Pareto front: no other method is at "
        "least as good for less."
    )


def tuning(curves: Mapping[str, Mapping[str, Any]], looks: Mapping[str, Look]) -> Drawn:
    """Validation PSNR over the parameter values tried, or over training; one panel per fit.

    Args:
        curves: by method, a ``fit.json`` with a ``curve`` and what its ``axis`` is.
        looks: of the methods.
    """
    columns = min(4, len(curves))
    rows = math.ceil(len(curves) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 4 * columns, 2.35 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in grid[len(curves) :]:
            ax.set_visible(False)
        for ax, (method, fit) in zip(grid, curves.items(), strict=False):
            frame(ax, "both")
            look = looks[method]
            points = sorted((float(r["x"]), float(r["validation_psnr"])) for r in fit["curve"])
            x, y = np.array(points).T
            ax.plot(x, y, color=look.colour, lw=1.5, marker="o" if x.size <= 40 else "", ms=3.5)
            if np.isfinite(y).any():
                best = np.nanargmax(y)
                ax.plot(x[best], y[best], marker="o", ms=8, mfc="none", mec=INK, mew=1.2)
            if x[0] > 0 and x[-1] / x[0] > 30 and np.median(x) < 0.2 * x[-1]:  # tried on a logarithmic scale
                logarithmic(ax.xaxis, x.tolist())
            ax.set_title(wrap(look.label, 30), fontsize=9, weight="bold")
            ax.set_xlabel(str(fit.get("axis") or "value tried"), fontsize=8.5)
            ax.tick_params(labelsize=8)
        for row in range(rows):
            grid[row * columns].set_ylabel("validation PSNR [dB]", fontsize=8.5)
    return (
        figure,
        "Validation PSNR during tuning and training; the ring marks the best value. Test images play no part.",
    )


def convergence(traces: Mapping[str, Mapping[str, np.ndarray]], looks: Mapping[str, Look], image: str) -> Drawn:
    """PSNR and certified gap of one test image along the iterations of its solvers, and PSNR along their seconds.

    Args:
        traces: columns of ``trace.csv`` by method.
        looks: of the methods.
        image: whose they are.
    """
    certified = any((trace["gap"] > 0).any() for trace in traces.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        axes = figure.subplots(1, 2 + certified)
        panels = [("iteration", "psnr", "iterations", "PSNR [dB]"), ("seconds", "psnr", "seconds", "PSNR [dB]")]
        panels += [("iteration", "gap", "iterations", "gap")] * certified
        handles = {}
        for ax, (x, y, across, up) in zip(axes, panels, strict=True):
            frame(ax, "both")
            drawn = []
            for method, trace in traces.items():
                known = np.isfinite(trace[y]) & (trace[x] > 0) & ((trace[y] > 0) | (y == "psnr"))
                if not known.any():
                    continue
                look = looks[method]
                line = {"color": look.colour, "lw": 1.5, "marker": look.marker, "ms": 6, "markevery": [-1]}
                (handles[method],) = ax.plot(trace[x][known], trace[y][known], **line)
                drawn += [trace[x][known][0], trace[x][known][-1]]
            if drawn:
                logarithmic(ax.xaxis, drawn)
            ax.set(xlabel=across, ylabel=up)
        if certified:
            gaps = np.concatenate([trace["gap"] for trace in traces.values()])
            logarithmic(axes[2].yaxis, gaps[gaps > 0].tolist())
        legend(figure, handles, looks)
    gap = "; gap: the certified relative distance to the optimum, or a solver's own residual" if certified else ""
    return figure, (
        f"Image {image} along the iterations of the solvers, with the parameters that tuning chose{gap}. The mark is "
        "where the solver stopped. Seconds are those of the first, cold run."
    )


def sweep(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    looks: Mapping[str, Look],
    across: str,
    measure: Measure,
    units: str,
    named: Mapping[int, str],
) -> Drawn:
    """Mean score over a swept value, with the 95 % interval.

    Args:
        panels: points by method, by title.
        looks: of the methods.
        across: what is swept.
        measure: of the score.
        units: of errors of the images.
        named: names of the values where they are no numbers but places.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * (0.4 + 0.2 * columns), 3.4 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True).ravel()
        for ax in grid[len(panels) :]:
            ax.set_visible(False)
        handles = {}
        for ax, (title, panel) in zip(grid, panels.items(), strict=False):
            frame(ax, "both")
            for method, curve in panel.items():
                look, (x, mean, low, high) = looks[method], np.array(sorted(curve)).T
                if named:  # nothing lies between two places
                    ax.vlines(x, low, high, color=look.colour, alpha=0.5)
                else:
                    ax.fill_between(x, low, high, color=look.colour, alpha=0.18, lw=0)
                joined = "none" if named else "-"
                (handles[method],) = ax.plot(x, mean, color=look.colour, marker=look.marker, ms=5, lw=1.6, ls=joined)
            ax.set_title(wrap(title, 44), fontsize=9, weight="bold")
            ax.set_xlabel(across)
        values = sorted({point[0] for panel in panels.values() for curve in panel.values() for point in curve})
        if named:
            grid[0].set_xticks(list(named), list(named.values()))
        elif values[0] > 0 and values[-1] / values[0] > 8:
            logarithmic(grid[0].xaxis, values)
        else:
            grid[0].set_xticks(values if len(values) <= 8 else values[:: math.ceil(len(values) / 8)])
        if measure.error:
            of_errors(grid[0].yaxis, [point[1] for panel in panels.values() for c in panel.values() for point in c])
        for row in range(rows):
            grid[row * columns].set_ylabel(f"mean {measure.heading(units)}")
        legend(figure, handles, looks)
    return figure, (
        f"Mean {measure.title} over the test images of each task; bands are 95 % intervals over patients, absent for a "
        "single one."
    )


def _factors(low: float, high: float) -> list[float]:
    """Round factors whose logarithms lie between the ends, at least three where there are any."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.2, 1.5, 2, 3, 5, 7), (1, *np.arange(1.05, 10, 0.05))):
        above = [step * 10.0**k for k in range(13) for step in steps]  # and as many below, so that 1 is in the middle
        ticks = [t for t in (*(1 / t for t in above[:0:-1]), *above) if low <= math.log(t) <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: math.ceil(len(ticks) / 7)]
