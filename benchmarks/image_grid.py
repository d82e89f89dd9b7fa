"""The picture of a task: truth and reconstructions with a zoom inset, and their errors on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.ndimage import uniform_filter

from .plots import INK, STYLE, WIDTH, Look, plain, wrap

_FRAME = "#ffd43b"
_PANEL_PIXELS = 400


@dataclass(frozen=True)
class Panel:
    """A reconstruction ``[H, W]`` for the image grid, with its scores."""

    look: Look
    image: np.ndarray
    scores: str


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
    width = min(2.75, WIDTH / columns)
    height = width * min(max(truth.shape[0] / truth.shape[1], 0.4), 1.6)
    gap, head, foot = 0.08, 0.58, 0.12
    band = head + 2 * height + gap + foot
    with matplotlib.rc_context(STYLE):
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
            numbers = "" if panel is None else panel.scores
            colour = INK if panel is None else panel.look.colour
            edge = (columns * width, bands * band)
            x = (column * width + width / 2) / edge[0]
            lines = wrap(name, int(inner * 72 / 5.2))
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
            colorbar.locator = MaxNLocator(4)
            colorbar.formatter = FuncFormatter(lambda value, _: plain(value))
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
        (left / factor - 0.5, top / factor - 0.5), side / factor, side / factor, fill=False, ec=_FRAME, lw=1
    )
    ax.add_patch(corner)
    share = 0.36 * min(height, width)
    x = 1 - share / width if left + side / 2 < width / 2 else 0.0
    y = 0.0 if top + side / 2 < height / 2 else 1 - share / height
    zoom = ax.inset_axes((x, y, share / width, share / height))
    _show(zoom, image[top : top + side, left : left + side], *display)
    zoom.add_patch(Rectangle((0, 0), 1, 1, transform=zoom.transAxes, fill=False, ec=_FRAME, lw=1.6, clip_on=False))


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
