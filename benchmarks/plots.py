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
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator
from PIL import Image
from scipy.ndimage import uniform_filter

INK, MUTED, GRID = "#212529", "#6c757d", "#dee2e6"

# Okabe and Ito's palette without black (lost on a dark page), its yellow darkened for a white one; grey comes first,
# for the direct reconstruction.
_COLOURS = ("#7f8790", "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8f5bbd", "#56b4e9", "#cc79a7", "#a59a00")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "h", "<", ">")
_RC = {
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
_PANEL_PIXELS = 400
_PAIRED_LINES = 60


@dataclass(frozen=True)
class Look:
    """How a method is named and drawn, everywhere."""

    label: str
    colour: str
    marker: str


@dataclass(frozen=True)
class Panel:
    """A reconstruction ``[H, W]`` for the image grid, with its scores."""

    look: Look
    image: np.ndarray
    psnr: float
    ssim: float


def looks(labels: Mapping[str, str]) -> dict[str, Look]:
    """A look for every method of a run, from its label, in the order given."""
    return {
        method: Look(label, _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)])
        for i, (method, label) in enumerate(labels.items())
    }


def image_grid(
    truth: np.ndarray, panels: Sequence[Panel], display: tuple[float, float], units: str
) -> tuple[Figure, str]:
    """Truth and reconstructions with a zoom inset, and their absolute errors on one scale; and a caption.

    Args:
        truth: ``[H, W]``.
        display: values shown as black and as white.
        units: of the values, for the colour bar.
    """
    errors = [np.abs(panel.image - truth) for panel in panels]
    finite = [error[np.isfinite(error)] for error in errors]
    # The middle method's largest errors: one bad method must not turn the others' maps black.
    top = float(np.median([np.quantile(e, 0.995) if e.size else 0.0 for e in finite])) if panels else 0.0
    top = top or (display[1] - display[0]) / 100
    window = _zoom_window(np.clip(truth, *display))

    cells = 1 + len(panels)
    columns = math.ceil(cells / math.ceil(cells / 5))
    bands = math.ceil(cells / columns)
    width = min(2.6, 10.4 / columns)
    height = width * min(max(truth.shape[0] / truth.shape[1], 0.4), 1.6)
    gap, head, foot = 0.08, 0.58, 0.12
    band = head + 2 * height + gap + foot
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(columns * width, bands * band))

        def axes(column: int, left: float, top: float, w: float, h: float) -> Axes:
            """Axes by inches, ``left`` from the cell's edge and ``top`` from the figure's upper edge."""
            ax = figure.add_axes(
                (
                    (column * width + left) / (columns * width),
                    1 - (top + h) / (bands * band),
                    w / (columns * width),
                    h / (bands * band),
                )
            )
            ax.set(xticks=[], yticks=[])
            return ax

        for k in range(cells):
            column, y = k % columns, (k // columns) * band
            inner = width - gap
            panel = panels[k - 1] if k else None
            image = truth if panel is None else panel.image
            ax = axes(column, gap / 2, y + head, inner, height)
            _show(ax, image, *display)
            if window is not None:
                _inset(ax, image, window, display)
            name = "Truth" if panel is None else panel.look.label
            numbers = "PSNR / SSIM" if panel is None else f"{_decibel(panel.psnr)} / {panel.ssim:.3f}"
            colour = INK if panel is None else panel.look.colour
            edge = (columns * width, bands * band)
            x = (column * width + width / 2) / edge[0]
            lines = _wrap(name, int(inner * 72 / 5.2))
            figure.text(x, 1 - (y + head - 0.22) / edge[1], lines, ha="center", va="bottom", fontsize=9, weight="bold")
            figure.text(x, 1 - (y + head - 0.06) / edge[1], numbers, ha="center", va="bottom", fontsize=8.5)
            ax.plot([0, 1], [1.012, 1.012], color=colour, lw=2.5, transform=ax.transAxes, clip_on=False)
            below = y + head + height + gap
            if panel is not None:
                shown = _show(axes(column, gap / 2, below, inner, height), errors[k - 1], 0, top, "inferno")
        if panels:
            bar = axes(0, 0.12 * width, head + height + gap + 0.45 * height, 0.76 * width, 0.1)
            colorbar = Colorbar(bar, shown, orientation="horizontal", extend="max")
            colorbar.outline.set_visible(False)
            colorbar.ax.tick_params(labelsize=8, length=2)
            colorbar.locator = matplotlib.ticker.MaxNLocator(4)
            colorbar.update_ticks()
            unit = f" [{units}]" if units else ""
            bar.set_title(f"absolute error{unit}", fontsize=8.5, pad=5)
    caption = (
        f"Grey window {display[0]:g} to {display[1]:g}{' ' + units if units else ''}. Below each image its absolute "
        f"error, all on one scale that ends at the 99.5 % quantile of the middle method."
    )
    if window is not None:
        caption += " The inset enlarges the framed square, the one with the most edges in the truth."
    return figure, caption


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
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(10.4, 0.85 + 0.42 * max(len(methods), 2)), layout="constrained")
        for name, title, ax in zip(
            ("psnr", "ssim"), ("PSNR [dB]", "SSIM"), figure.subplots(1, 2, sharey=True), strict=True
        ):
            _frame(ax, "x")
            rows = np.where(np.isfinite(values[name]), values[name], np.nan)
            y = np.arange(len(methods))[::-1]
            if joined:
                ax.plot(rows, y, color=MUTED, lw=0.5, alpha=0.35, zorder=1)
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
            ax.set_yticks(y, [_wrap(looks[method].label, 30) for method in methods])
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
    with matplotlib.rc_context(_RC):
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
            label = f"{_wrap(look.label, 30)}{f'  ({short(count)})' if count else ''}"
            face = look.colour + "cc"
            ax.scatter(*shown[method], s=size, c=face, marker=look.marker, ec=look.colour, lw=1, label=label, zorder=2)
        ax.set(xscale="log", xlabel="seconds per image", ylabel="mean PSNR [dB]")
        seconds = [s for s, _ in shown.values()] or [1.0]
        ax.set_xlim(min(seconds) / 2.2, max(seconds) * 2.2)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if max(seconds) / min(seconds) > 50 else (1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
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
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(2.6 * columns + 0.2, 2.35 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in grid[len(curves) :]:
            ax.set_visible(False)
        for ax, (method, fit) in zip(grid, curves.items(), strict=False):
            _frame(ax, "both")
            look = looks[method]
            rows_ = sorted((float(r["x"]), float(r["validation_psnr"])) for r in fit["curve"])
            x, y = np.array(rows_).T
            ax.plot(x, y, color=look.colour, lw=1.5, marker="o" if x.size <= 40 else "", ms=3.5)
            if np.isfinite(y).any():
                best = np.nanargmax(y)
                ax.plot(x[best], y[best], marker="o", ms=8, mfc="none", mec=INK, mew=1.2)
            if x[0] > 0 and x[-1] / x[0] > 30:
                ax.set_xscale("log")
                ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
            ax.set_title(_wrap(look.label, 30), fontsize=9, weight="bold")
            ax.set_xlabel(str(fit.get("axis") or "value tried"), fontsize=8.5)
            ax.tick_params(labelsize=8)
        for row in range(rows):
            grid[row * columns].set_ylabel("validation PSNR [dB]", fontsize=8.5)
    return (
        figure,
        "Validation PSNR during tuning and training; the ring marks the best value. Test images play no part.",
    )


def save(figure: Figure, stem: Path) -> None:
    """Write ``stem.svg`` and ``stem.png``."""
    with matplotlib.rc_context(_RC):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        stem.with_name(stem.name + ".svg").write_text(_compact(buffer.getvalue()), encoding="utf-8")
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


def _show(ax: Axes, image: np.ndarray, low: float, high: float, cmap: str = "gray") -> Any:
    factor = math.ceil(max(image.shape) / _PANEL_PIXELS)
    if factor > 1:  # averaged here: a viewer that skips pixels would invent structure
        h, w = (n - n % factor for n in image.shape)
        image = image[:h, :w].reshape(h // factor, factor, w // factor, factor).mean((1, 3))
    ax.set_axis_off()
    return ax.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation="none", aspect="auto")


def _inset(ax: Axes, image: np.ndarray, window: tuple[int, int, int], display: tuple[float, float]) -> None:
    top, left, side = window
    height, width = image.shape
    factor = math.ceil(max(image.shape) / _PANEL_PIXELS)
    corner = Rectangle(
        (left / factor - 0.5, top / factor - 0.5), side / factor, side / factor, fill=False, ec="#ffd43b", lw=1
    )
    ax.add_patch(corner)
    share = 0.36 * min(height, width)
    x = 1 - share / width if left + side / 2 < width / 2 else 0.0
    y = 0.0 if top + side / 2 < height / 2 else 1 - share / height
    zoom = ax.inset_axes((x, y, share / width, share / height))
    _show(zoom, image[top : top + side, left : left + side], *display)
    zoom.add_patch(Rectangle((0, 0), 1, 1, transform=zoom.transAxes, fill=False, ec="#ffd43b", lw=1.6, clip_on=False))


def _zoom_window(truth: np.ndarray) -> tuple[int, int, int] | None:
    """Top, left and side of the square of a quarter of the image with the most edges, away from the border."""
    side = min(truth.shape) // 4
    if side < 8 or not np.isfinite(truth).all():
        return None
    edges = uniform_filter(np.hypot(*np.gradient(truth)), side, mode="constant")
    margin = [max(n // 8, side // 2 + 1) for n in truth.shape]
    inner = edges[margin[0] : -margin[0], margin[1] : -margin[1]]
    row, column = np.unravel_index(int(np.argmax(inner)), inner.shape)
    return int(row) + margin[0] - side // 2, int(column) + margin[1] - side // 2, side


def _frame(ax: Axes, grid: str) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color=GRID, lw=0.7)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def _wrap(label: str, width: int) -> str:
    """At most two lines, the rest cut."""
    return "\n".join(textwrap.wrap(label, max(width, 6), max_lines=2, placeholder=" …"))


def _decibel(value: float) -> str:
    return f"{value:.2f} dB" if math.isfinite(value) else str(value)


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
