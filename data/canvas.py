"""Painting soft-edged shapes on continuous coordinates: what the procedural anatomies are drawn with."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .random_fields import smooth_field

Array = NDArray[np.float64]


class Canvas:
    """An image on [-1, 1] along its shorter side, painted over by shapes given as signed distances.

    A pixel that an edge crosses is mixed in proportion, so the picture of half the resolution is close to the block
    mean of this one. Coordinates may be warped; x points right, y up, row 0 is the top.

    Args:
        shape: rows and columns.
        background: value of an empty pixel.
    """

    def __init__(self, shape: tuple[int, int], background: float) -> None:
        height, width = shape
        if min(shape) < 64:
            raise ValueError(f"phantom: shape {height} × {width} is too small for its structures; at least 64 × 64")
        self.shape = shape
        self.pixel = 2 / min(shape)
        self.x = np.tile((np.arange(width) + 0.5 - width / 2) * self.pixel, (height, 1))
        self.y = np.tile((height / 2 - np.arange(height) - 0.5)[:, None] * self.pixel, (1, width))
        self._columns, self._rows = self.x[0], self.y[:, 0]
        self.image = np.full(shape, float(background))
        self._reach = 0.0

    def move(self, dx: float, dy: float, angle: float, taper: float) -> None:
        """Shift and turn all that is painted later; a positive ``taper`` narrows its upper half."""
        x, y = self.x - dx, self.y - dy
        cos, sin = np.cos(angle), np.sin(angle)
        turned = y * cos - x * sin
        self._displace((x * cos + y * sin) * (1 + taper * turned), turned)

    def warp(self, rng: np.random.Generator, cells: tuple[int, ...], strengths: tuple[float, ...]) -> None:
        """Displace all that is painted later by smooth random fields, coarse to fine."""
        dx, dy = (
            np.asarray(sum(s * smooth_field(rng, n, self.shape) for n, s in zip(cells, strengths, strict=True)))
            for _ in range(2)
        )
        self._displace(self.x + dx, self.y + dy)

    def paint(self, distance: Array, value: ArrayLike, opacity: float = 1.0, edge: float = 0.0) -> Array:
        """Mix ``value`` in where ``distance`` is negative; returns the share of each pixel that was covered.

        Args:
            distance: signed distance to the edge, ``[H, W]``, in the canvas's units.
            value: number or image.
            opacity: share that covers fully.
            edge: width of a soft edge, at least a pixel.
        """
        cover = opacity * coverage(distance, max(edge, self.pixel))
        self.image += cover * (np.asarray(value) - self.image)
        return cover

    def ellipse(self, x: float, y: float, a: float, b: float, angle: float = 0.0) -> Array:
        """Signed distance to an ellipse, exact to first order at its edge."""
        return _ellipse(self.x - x, self.y - y, a, b, angle)

    def spot(
        self,
        x: float,
        y: float,
        a: float,
        b: float,
        angle: float,
        value: float,
        opacity: float = 1.0,
        edge: float = 0.0,
    ) -> None:
        """Paint a small ellipse; only the pixels around it are touched."""
        rows, columns = self._window(x, y, max(a, b) + max(edge, self.pixel))
        distance = _ellipse(self.x[rows, columns] - x, self.y[rows, columns] - y, a, b, angle)
        part = self.image[rows, columns]
        part += opacity * coverage(distance, max(edge, self.pixel)) * (value - part)

    def segment(self, start: Array, end: Array, radii: tuple[float, float], value: float, edge: float = 0.0) -> None:
        """Paint a tube from ``start`` to ``end``, (x, y) each, whose radius changes from one to the other."""
        middle, half = (start + end) / 2, float(np.hypot(*(end - start))) / 2
        rows, columns = self._window(middle[0], middle[1], half + max(radii) + max(edge, self.pixel))
        distance = _tube(self.x[rows, columns], self.y[rows, columns], start, end, radii)
        part = self.image[rows, columns]
        part += coverage(distance, max(edge, self.pixel)) * (value - part)

    def tube(self, points: ArrayLike, radii: ArrayLike) -> Array:
        """Signed distance to a chain of tubes through ``points`` [N, 2], of one radius or of N."""
        p = np.asarray(points, dtype=float)
        r = np.broadcast_to(np.asarray(radii, dtype=float), len(p))
        return np.minimum.reduce([_tube(self.x, self.y, p[i], p[i + 1], (r[i], r[i + 1])) for i in range(len(p) - 1)])

    def _displace(self, x: Array, y: Array) -> None:
        self._reach += float(max(np.abs(x - self.x).max(), np.abs(y - self.y).max()))
        self.x, self.y = x, y

    def _window(self, x: float, y: float, radius: float) -> tuple[slice, slice]:
        reach = radius + self._reach + self.pixel
        columns = slice(*np.searchsorted(self._columns, (x - reach, x + reach)))
        rows = slice(*np.searchsorted(-self._rows, (-y - reach, -y + reach)))
        return rows, columns


def coverage(distance: Array, edge: float) -> Array:
    """Share of a pixel inside a shape: 1 within, 0 without, linear over a strip of width ``edge`` about the edge."""
    return np.clip(0.5 - distance / edge, 0.0, 1.0)


def lookup(canvas: Canvas, field: Array, x: float, y: float) -> float:
    """The bilinear value of an image at a point of the picture, clamped to it."""
    rows, columns = field.shape
    r = min(max((rows - 1) / 2 - y / canvas.pixel, 0.0), rows - 1.0)
    c = min(max((columns - 1) / 2 + x / canvas.pixel, 0.0), columns - 1.0)
    i, j = min(int(r), rows - 2), min(int(c), columns - 2)
    u, v = r - i, c - j
    corners = field[i : i + 2, j : j + 2]
    return float(
        (1 - u) * ((1 - v) * corners[0, 0] + v * corners[0, 1]) + u * ((1 - v) * corners[1, 0] + v * corners[1, 1])
    )


def curve(start: ArrayLike, control: ArrayLike, end: ArrayLike, pieces: int = 5) -> Array:
    """Points of a quadratic Bézier curve, ``[pieces + 1, 2]``."""
    t = np.linspace(0, 1, pieces + 1)[:, None]
    a, b, c = (np.asarray(p, dtype=float) for p in (start, control, end))
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c


def magnitude(x: ArrayLike, y: ArrayLike) -> Array:
    """√(x² + y²); NumPy's ``hypot`` guards against overflow and takes four times as long."""
    return np.sqrt(np.square(x) + np.square(y))


def _ellipse(dx: Array, dy: Array, a: float, b: float, angle: float) -> Array:
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = dx * (cos / a) + dy * (sin / a), dy * (cos / b) - dx * (sin / b)
    radius = np.maximum(magnitude(u, v), 1e-9)
    # ρ − 1 has the gradient |(u/a, v/b)| / ρ, which is never less than 1 / max(a, b): that holds at the centre too.
    return (radius - 1) * radius / np.maximum(magnitude(u / a, v / b), radius / max(a, b))


def _tube(x: Array, y: Array, start: Array, end: Array, radii: tuple[float, float]) -> Array:
    dx, dy = end - start
    fx, fy = x - start[0], y - start[1]
    square = max(dx * dx + dy * dy, 1e-12)
    along = np.clip(fx * (dx / square) + fy * (dy / square), 0, 1)
    return magnitude(fx - along * dx, fy - along * dy) - radii[0] - along * (radii[1] - radii[0])
