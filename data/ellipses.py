"""Sums of ellipses: images, exact sinograms, and the random families that papers use.

Coordinates: the origin is the centre of the image, x points right, y points up, row 0 is the top. The parallel ray of
angle θ and offset t is the line x cos θ + y sin θ = t. Both are ASTRA's conventions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .random_fields import generator

Array = NDArray[np.float64]
Image = NDArray[np.float32]


@dataclass(frozen=True)
class Ellipses:
    """f(x, y) = Σ value · 1[(x, y) inside the ellipse]. Seven numbers an ellipse, six arrays of one length.

    Args:
        value: added inside.
        x, y: centres.
        a, b: semi-axes; ``a`` lies along ``angle``. An ellipse with a zero semi-axis is empty.
        angle: radians, from the x axis towards the y axis.

    Raises:
        ValueError: arrays of different lengths, negative semi-axes, or values that are not finite.
    """

    value: Array
    x: Array
    y: Array
    a: Array
    b: Array
    angle: Array

    def __post_init__(self) -> None:
        names = ("value", "x", "y", "a", "b", "angle")
        for name in names:
            object.__setattr__(self, name, np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64)))
        sizes = {name: getattr(self, name).shape for name in names}
        if len(set(sizes.values())) != 1 or self.value.ndim != 1:
            raise ValueError(f"Ellipses: all six arrays need one length, got {sizes}")
        if (
            not all(np.isfinite(getattr(self, name)).all() for name in names)
            or (self.a < 0).any()
            or (self.b < 0).any()
        ):
            raise ValueError("Ellipses: numbers must be finite and semi-axes not negative")

    def __len__(self) -> int:
        return len(self.value)

    def scaled(self, factor: float) -> Ellipses:
        """The same picture ``factor`` times as large: from [-1, 1]² to millimetres, for instance."""
        x, y, a, b = (factor * v for v in (self.x, self.y, self.a, self.b))
        return Ellipses(self.value, x, y, a, b, self.angle)

    def rasterise(self, shape: tuple[int, int], pixel_size: float, oversampling: int = 1) -> Image:
        """f at the pixel centres, or its mean over ``oversampling``² points a pixel, ``[H, W]``.

        Args:
            shape: rows and columns.
            pixel_size: in the unit of the ellipses; an image of [-1, 1]² has 2 / n.
            oversampling: points per pixel in each direction; the error of a pixel's mean falls with it.
        """
        height, width = (n * oversampling for n in shape)
        step = pixel_size / oversampling
        x = (np.arange(width) + 0.5) * step - width * step / 2
        y = height * step / 2 - (np.arange(height) + 0.5) * step
        image = np.zeros((height, width))
        for value, x0, y0, a, b, angle in zip(self.value, self.x, self.y, self.a, self.b, self.angle, strict=True):
            if a == 0 or b == 0:
                continue
            cos, sin = np.cos(angle), np.sin(angle)
            # Only the pixels of the bounding box are looked at.
            half_x, half_y = np.hypot(a * cos, b * sin), np.hypot(a * sin, b * cos)
            columns = slice(*np.searchsorted(x, (x0 - half_x - step, x0 + half_x + step)))
            rows = slice(*np.searchsorted(-y, (-y0 - half_y - step, -y0 + half_y + step)))
            dx, dy = x[None, columns] - x0, y[rows, None] - y0
            image[rows, columns] += value * (((dx * cos + dy * sin) / a) ** 2 + ((dy * cos - dx * sin) / b) ** 2 <= 1)
        if oversampling > 1:
            image = image.reshape(shape[0], oversampling, shape[1], oversampling).mean(axis=(1, 3))
        return image.astype(np.float32)

    def parallel_sinogram(self, angles: ArrayLike, offsets: ArrayLike) -> Image:
        """Exact line integrals over x cos θ + y sin θ = t, ``[views, detectors]``.

        Args:
            angles: θ, radians.
            offsets: t, positions of the detector cells' centres.
        """
        theta = np.asarray(angles, dtype=np.float64)[:, None]
        return self._project(np.cos(theta), np.sin(theta), np.asarray(offsets, dtype=np.float64)[None, :])

    def fan_sinogram(self, angles: ArrayLike, offsets: ArrayLike, source_axis: float, source_detector: float) -> Image:
        """Exact line integrals of a fan beam with a flat detector, ``[views, detectors]``.

        At angle 0 the source stands at (0, −source_axis) and the detector, ``source_detector`` away from it, runs
        along x; both turn anticlockwise with the angle (ASTRA's ``fanflat``).

        Args:
            angles: radians.
            offsets: positions of the cells' centres on the detector.
            source_axis: distance from the source to the rotation axis.
            source_detector: distance from the source to the detector.
        """
        theta = np.asarray(angles, dtype=np.float64)[:, None]
        u = np.asarray(offsets, dtype=np.float64)[None, :]
        cos, sin = np.cos(theta), np.sin(theta)
        source = np.stack([sin * source_axis, -cos * source_axis], axis=-1)
        direction = np.stack([u * cos - sin * source_detector, u * sin + cos * source_detector], axis=-1)
        return self.line_integrals(source, direction)

    def line_integrals(self, points: ArrayLike, directions: ArrayLike) -> Image:
        """Exact integrals along whole lines p + s d, s ∈ ℝ, of unit speed whatever the length of d.

        Args:
            points: a point on each line, ``[…, 2]`` as (x, y).
            directions: ``[…, 2]``, broadcast against ``points``; not zero.
        """
        p, d = np.asarray(points, dtype=np.float64), np.asarray(directions, dtype=np.float64)
        length = np.hypot(d[..., 0], d[..., 1])
        if not (length > 0).all():
            raise ValueError("line_integrals: a direction is zero and gives no line")
        cos, sin = d[..., 1] / length, -d[..., 0] / length
        return self._project(cos, sin, p[..., 0] * cos + p[..., 1] * sin)

    def _project(self, cos: Array, sin: Array, t: Array) -> Image:
        """Integrals over x cos θ + y sin θ = t: with s = a² cos²(θ−φ) + b² sin²(θ−φ) and t from the centre,
        2ab √(s − t²) / s (Kak & Slaney 1988, eq. 3.3)."""
        total = np.zeros(np.broadcast_shapes(cos.shape, t.shape))
        for value, x0, y0, a, b, angle in zip(self.value, self.x, self.y, self.a, self.b, self.angle, strict=True):
            if a == 0 or b == 0:
                continue
            c, s = np.cos(angle), np.sin(angle)
            square = (a * (cos * c + sin * s)) ** 2 + (b * (sin * c - cos * s)) ** 2
            chord = square - (t - x0 * cos - y0 * sin) ** 2
            total += 2 * value * a * b * np.sqrt(np.maximum(chord, 0)) / square
        return total.astype(np.float32)


def shepp_logan() -> Ellipses:
    """The modified Shepp–Logan phantom on [-1, 1]² (Toft 1996, table B.3), values in [0, 1]."""
    table = np.array(
        [
            # value, a, b, x, y, angle in degrees
            [1.0, 0.69, 0.92, 0.0, 0.0, 0.0],
            [-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0],
            [-0.2, 0.11, 0.31, 0.22, 0.0, -18.0],
            [-0.2, 0.16, 0.41, -0.22, 0.0, 18.0],
            [0.1, 0.21, 0.25, 0.0, 0.35, 0.0],
            [0.1, 0.046, 0.046, 0.0, 0.1, 0.0],
            [0.1, 0.046, 0.046, 0.0, -0.1, 0.0],
            [0.1, 0.046, 0.023, -0.08, -0.605, 0.0],
            [0.1, 0.023, 0.023, 0.0, -0.606, 0.0],
            [0.1, 0.023, 0.046, 0.06, -0.605, 0.0],
        ]
    )
    value, a, b, x, y, degrees = table.T
    return Ellipses(value, x, y, a, b, np.deg2rad(degrees))


def learned_primal_dual_ellipses(seed: int, index: int) -> Ellipses:
    """Training phantom of Adler & Öktem (TMI 2018, §IV-A) on [-1, 1]².

    n ~ Poisson(50); value (U[0, 1] − ½) · Exp(mean 0.4); semi-axes Exp(mean 0.2); centres U[-1, 1]²; angle U[0, 2π].
    Not normalised, values may be negative.
    """
    rng = generator("learned primal-dual ellipses", seed, index)
    n = rng.poisson(50)
    value = (rng.uniform(size=n) - 0.5) * rng.exponential(0.4, n)
    a, b = rng.exponential(0.2, (2, n))
    x, y = rng.uniform(-1, 1, (2, n))
    return Ellipses(value, x, y, a, b, rng.uniform(0, 2 * np.pi, n))


def dival_ellipses(seed: int, index: int) -> Ellipses:
    """The ellipses of DIVal's ``EllipsesDataset`` (Leuschner et al.) on [-1, 1]², before normalisation.

    n = min(Poisson(40), 70); value U[-0.4, 1]; semi-axes Exp(mean 0.2); centres U[-0.9, 0.9]²; angle U[0, 2π].
    """
    rng = generator("DIVal ellipses", seed, index)
    n = min(rng.poisson(40), 70)
    a, b = rng.exponential(0.2, (2, n))
    x, y = rng.uniform(-0.9, 0.9, (2, n))
    return Ellipses(rng.uniform(-0.4, 1, n), x, y, a, b, rng.uniform(0, 2 * np.pi, n))


def dival_image(seed: int, index: int, shape: tuple[int, int]) -> Image:
    """DIVal's ellipse image, ``[H, W]`` in [0, 1]: non-zero pixels are shifted by the minimum, then all are divided
    by the maximum, so the background stays 0. Not a sum of ellipses any more: its sinogram has no closed form."""
    image = dival_ellipses(seed, index).rasterise(shape, 2 / min(shape)).astype(np.float64)
    image[image != 0] -= image.min()
    return (image / max(image.max(), np.finfo(float).tiny)).astype(np.float32)
