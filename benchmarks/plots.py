"""How figures look and are written: one colour and one marker per method over all figures of a run."""

from __future__ import annotations

import base64
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from .metrics import RAISED

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


@dataclass(frozen=True)
class Look:
    """How a method is named and drawn, everywhere."""

    label: str
    colour: str
    marker: str


def looks(labels: Mapping[str, str]) -> dict[str, Look]:
    """A look for every method of a run, from its label, in the order given."""
    again = len(_COLOURS) - 1  # a second round leaves grey to the first
    return {
        method: Look(label, _COLOURS[i if i <= again else 1 + (i - 1) % again], _MARKERS[i % len(_MARKERS)])
        for i, (method, label) in enumerate(labels.items())
    }


def save(figure: Figure, stem: Path) -> None:
    """Write ``stem.svg``, and ``stem.png`` for slides."""
    with matplotlib.rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # it has been laid out, once for both files
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


def frame(ax: Axes, grid: str) -> None:
    """Two spines, and a grid along ``"x"``, ``"y"`` or ``"both"``."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color=GRID, lw=0.7)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def legend(
    figure: Figure, handles: Mapping[str, Artist], looks: Mapping[str, Look], also: Mapping[str, Artist] | None = None
) -> None:
    """Names of methods at the right of all panels; below them what ``also`` names."""
    also = also or {}
    names = [*(wrap(looks[method].label, 30) for method in handles), *also]
    shown = [*handles.values(), *also.values()]
    figure.legend(shown, names, loc="outside right upper", frameon=False, fontsize=8.5, labelspacing=0.7)


def logarithmic(axis: Axis, values: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, or at 1 alone where the values span a lot."""
    wide = max(values) / min(values) > 50
    if isinstance(axis, XAxis):
        axis.axes.set_xscale("log")
    else:
        axis.axes.set_yscale("log")
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_locator(NullLocator())


def of_errors(axis: Axis, values: Sequence[float]) -> None:
    """An axis for positive numbers: logarithmic where they span more than a decade; less has too few round powers."""
    if max(values) / min(values) > 10:
        logarithmic(axis, values)
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def plain(value: float) -> str:
    """A tick: 0.02, 50, 2,000, and powers of ten where they are far out."""
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.5e}".split("e")
        mantissa, power = f"{float(mantissa):g}", f"10{str(int(exponent)).translate(RAISED)}"
        return power if mantissa == "1" else f"{mantissa}·{power}"
    return f"{value:,.6g}"


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
