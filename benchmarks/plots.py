"""Figures of a report. One colour and one marker per method over all figures of a run; no state outside a figure."""

from __future__ import annotations

import base64
import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

WIDTH = 11.0  # inches at 96 dots each, the width of a report's column
INK, MUTED, GRID = "#212529", "#6c757d", "#dee2e6"

# Okabe and Ito's palette without black (lost on a dark page), its yellow darkened for a white one; grey comes first,
# for the direct reconstruction.
_COLOURS = ("#7f8790", "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8f5bbd", "#56b4e9", "#cc79a7", "#a59a00")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "h", "<", ">")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a label may contain a dollar sign
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "isocenter",  # equal data give equal files
}
_PAIRED_LINES = 60


@dataclass(frozen=True)
class Look:
    """How a method is named and drawn, everywhere."""

    label: str
    colour: str
    marker: str


def looks(labels: Mapping[str, str]) -> dict[str, Look]:
    """A look for every method of a run, from its label, in the order given."""
    return {
        method: Look(label, _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)])
        for i, (method, label) in enumerate(labels.items())
    }


def box_plot(
    values: Mapping[str, np.ndarray], methods: Sequence[str], looks: Mapping[str, Look], patients: int
) -> tuple[Figure, str]:
    """Distribution of PSNR and SSIM over the images, a dot per image, joined across methods when they are few.

    Args:
        values: ``[methods, images]`` for ``psnr`` and ``ssim``.
        methods: the rows of ``values``.
        patients: the number of patients, for the caption.
    """
    images = values["psnr"].shape[1]
    joined = 1 < images <= _PAIRED_LINES and len(methods) > 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.85 + 0.42 * max(len(methods), 2)), layout="constrained")
        for name, title, ax in zip(
            ("psnr", "ssim"), ("PSNR [dB]", "SSIM"), figure.subplots(1, 2, sharey=True), strict=True
        ):
            _frame(ax, "x")
            rows = np.where(np.isfinite(values[name]), values[name], np.nan)
            y = np.arange(len(methods))[::-1]
            if joined:
                ax.plot(rows, y, color=MUTED, lw=0.6, alpha=min(0.6, 6 / images), zorder=1)
            for row, place, method in zip(rows, y, methods, strict=True):
                known = row[~np.isnan(row)]
                look = looks[method]
                spread = np.zeros(known.size) if joined else np.random.default_rng(0).uniform(-0.14, 0.14, known.size)
                alpha = 0.8 if known.size <= 100 else 0.3
                ax.scatter(known, place + spread, s=14, c=look.colour, marker=look.marker, lw=0, alpha=alpha, zorder=2)
                if known.size > 1:
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
            ax.set(xlabel=title, ylim=(-0.6, len(methods) - 0.4))
            ax.set_yticks(y, [wrap(looks[method].label, 30) for method in methods])
    caption = (
        f"Dots are the {images} test image{'s'[: images != 1]} of {patients} patient{'s'[: patients != 1]}"
        f"{', lines join the same image' if joined else ''}; boxes: quartiles and median, whiskers to 1.5 times "
        "the box."
    )
    return figure, caption


def pareto(
    points: Mapping[str, tuple[float, float]], looks: Mapping[str, Look], parameters: Mapping[str, int]
) -> tuple[Figure, str]:
    """Mean PSNR against seconds per image; the marker's area grows with the number of parameters.

    Args:
        points: (seconds, PSNR) by method.
        parameters: learned or tuned numbers by method.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, max(3.2, 1.2 + 0.27 * len(points))), layout="constrained")
        ax = figure.subplots()
        _frame(ax, "both")
        shown = {m: (max(s, 1e-6), q) for m, (s, q) in points.items() if np.isfinite(s) and np.isfinite(q)}
        front = sorted(
            p
            for m, p in shown.items()
            if not any(o[0] <= p[0] and o[1] >= p[1] and o != p for n, o in shown.items() if n != m)
        )
        if len(front) > 1:
            ax.plot(*zip(*front, strict=True), color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
        for method in sorted(shown, key=lambda m: -shown[m][1]):
            look, count = looks[method], parameters.get(method, 0)
            size = 36 + 22 * max(math.log10(max(count, 1)) - 1, 0)
            label = f"{wrap(look.label, 30)}{f'  ({short(count)})' if count else ''}"
            face = look.colour + "cc"
            ax.scatter(*shown[method], s=size, c=face, marker=look.marker, ec=look.colour, lw=1, label=label, zorder=2)
        ax.set(xscale="log", xlabel="seconds per image", ylabel="mean PSNR [dB]")
        seconds = [s for s, _ in shown.values()] or [1.0]
        ax.set_xlim(min(seconds) / 2.2, max(seconds) * 2.2)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if max(seconds) / min(seconds) > 50 else (1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(y=0.15)
        legend = figure.legend(loc="outside right upper", frameon=False, fontsize=8.5, labelspacing=0.7)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_sizes([40])  # type: ignore[attr-defined]
    caption = (
        "Mean PSNR over the test images against the median time for one of them; in brackets the number of "
        "parameters, which the marker's area follows. The dashed line joins the methods that no other beats in both."
    )
    return figure, caption


def tuning(curves: Mapping[str, Mapping[str, Any]], looks: Mapping[str, Look]) -> tuple[Figure, str]:
    """Validation PSNR over the parameter values tried, or over training; one panel per fit.

    Args:
        curves: by method, a ``fit.json`` with a ``curve`` and what its ``axis`` is.
    """
    columns = min(4, len(curves))
    rows = math.ceil(len(curves) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 4 * columns, 2.35 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in grid[len(curves) :]:
            ax.set_visible(False)
        for ax, (method, fit) in zip(grid, curves.items(), strict=False):
            _frame(ax, "both")
            look = looks[method]
            points = sorted((float(r["x"]), float(r["validation_psnr"])) for r in fit["curve"])
            x, y = np.array(points).T
            ax.plot(x, y, color=look.colour, lw=1.5, marker="o" if x.size <= 40 else "", ms=3.5)
            if np.isfinite(y).any():
                best = np.nanargmax(y)
                ax.plot(x[best], y[best], marker="o", ms=8, mfc="none", mec=INK, mew=1.2)
            if x[0] > 0 and x[-1] / x[0] > 30 and np.median(x) < 0.2 * x[-1]:  # tried on a logarithmic scale
                ax.set_xscale("log")
                ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                ax.xaxis.set_minor_locator(NullLocator())
            ax.set_title(wrap(look.label, 30), fontsize=9, weight="bold")
            ax.set_xlabel(str(fit.get("axis") or "value tried"), fontsize=8.5)
            ax.tick_params(labelsize=8)
        for row in range(rows):
            grid[row * columns].set_ylabel("validation PSNR [dB]", fontsize=8.5)
    return (
        figure,
        "Validation PSNR during tuning and training; the ring marks the best value. Test images play no part.",
    )


def save(figure: Figure, stem: Path, *, raster: bool = False) -> None:
    """Write ``stem.svg``, and ``stem.png`` where asked for: charts are lines, image grids go into slides."""
    with matplotlib.rc_context(STYLE):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        stem.with_name(stem.name + ".svg").write_text(_compact(buffer.getvalue()), encoding="utf-8")
        if raster:
            figure.savefig(stem.with_name(stem.name + ".png"), dpi=150, facecolor="white")


def themed(svg: str) -> str:
    """The same picture with ink that follows the reader's light or dark page; for the report, not for other tools."""
    style = (
        f"<style>:root{{--ink:{INK};--muted:{MUTED};--grid:{GRID}}}@media(prefers-color-scheme:dark)"
        "{:root{--ink:#e9ecef;--muted:#9aa3ab;--grid:#3a4047}}</style>"
    )
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (GRID, "grid")):
        svg = svg.replace(f": {colour}", f": var(--{name})")
    # Only styles know variables: text without one is black by default.
    return re.sub(r"(<svg\b[^>]*>)", lambda tag: tag[1] + style, svg, count=1)


def short(count: int) -> str:
    """A count for people: 812, 12 k, 1.3 M."""
    if count < 1000:
        return str(count)
    return f"{count / 1e3:.3g} k" if count < 999_500 else f"{count / 1e6:.3g} M"


def _frame(ax: Axes, grid: str) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color=GRID, lw=0.7)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def wrap(label: str, width: int) -> str:
    """A label in at most two lines, the rest cut."""
    return "\n".join(textwrap.wrap(label, max(width, 6), max_lines=2, placeholder=" …"))


def _compact(svg: str) -> str:
    """Images as 8-bit palettes, which colour maps of 256 colours fill without loss, and scaled smoothly."""

    def repack(found: re.Match[str]) -> str:
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGBA"))
        colours, index = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
        if len(colours) > 256:
            return found[0]
        image = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8), "P")
        image.putpalette(colours.astype(np.uint8).tobytes(), "RGBA")
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        return f'"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"'

    svg = re.sub(r'"data:image/png;base64,\s*([^"]+)"', repack, svg)
    return svg.replace("image-rendering:crisp-edges;image-rendering:pixelated", "image-rendering:auto")
