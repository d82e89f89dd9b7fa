"""A procedural head: axial brain slices with folded cortex, as T1, T2 or FLAIR weighted magnetic resonance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .canvas import Array, Canvas, curve, lookup, magnitude
from .random_fields import generator, smooth_field, texture

HEAD_FIELD_MM = 240.0  # extent of the shorter side of the image

Contrast = Literal["T1", "T2", "FLAIR"]

# Relative signal of each tissue; 1 is the brightest that a phantom's field of view may hold.
_SIGNAL: dict[str, dict[str, float]] = {
    "T1": {
        "skin": 0.42, "fat": 0.85, "muscle": 0.34, "bone": 0.05, "marrow": 0.48, "csf": 0.12, "grey": 0.46,
        "white": 0.68, "deep": 0.52, "pallidum": 0.60, "vessel": 0.30, "lesion": 0.42, "oedema": 0.50,
        "core": 0.22, "rim": 0.85, "choroid": 0.42,
    },
    "T2": {
        "skin": 0.30, "fat": 0.62, "muscle": 0.20, "bone": 0.04, "marrow": 0.36, "csf": 0.95, "grey": 0.52,
        "white": 0.36, "deep": 0.43, "pallidum": 0.30, "vessel": 0.08, "lesion": 0.74, "oedema": 0.72,
        "core": 0.88, "rim": 0.60, "choroid": 0.70,
    },
    "FLAIR": {
        "skin": 0.34, "fat": 0.66, "muscle": 0.26, "bone": 0.04, "marrow": 0.36, "csf": 0.08, "grey": 0.54,
        "white": 0.41, "deep": 0.48, "pallidum": 0.38, "vessel": 0.10, "lesion": 0.88, "oedema": 0.82,
        "core": 0.35, "rim": 0.75, "choroid": 0.40,
    },
}  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """What varies from head to head and is drawn before anything is painted."""

    level: str  # of the slice: through the basal ganglia, the bodies of the ventricles, or above them
    width: float
    length: float
    scalp: float
    skull: float
    atrophy: float  # 0 young to 1 old: wide sulci, large ventricles
    asymmetry: float


def head(seed: int, index: int, shape: tuple[int, int], contrast: Contrast = "T1") -> NDArray[np.float32]:
    """An axial head slice, ``[H, W]`` float32 in [0, 1], 240 mm along the shorter side, forehead up.

    Scalp, skull with marrow, CSF, folded cortex, white matter, ventricles, deep nuclei, at times white-matter lesions
    or a tumour; sizes, age, level, tilt and deformation vary; tissues have correlated texture and the whole a smooth
    receive field. The three contrasts of one (seed, index) show the same anatomy. All of it lives on continuous
    coordinates, so half the resolution is close to the block mean.

    Raises:
        ValueError: an unknown contrast, or a side below 64 pixels.
    """
    if contrast not in _SIGNAL:
        raise ValueError(f"head: contrast {contrast!r} is not one of {', '.join(_SIGNAL)}")
    rng = generator("head", seed, index)
    own = generator(f"head {contrast}", seed, index)
    signal = {tissue: value * own.normal(1, 0.03) for tissue, value in _SIGNAL[contrast].items()}

    width = rng.uniform(0.60, 0.68)
    plan = _Plan(
        level=str(rng.choice(["basal", "basal", "bodies", "top"])),
        width=width,
        length=min(width * rng.uniform(1.18, 1.30), 0.86),
        scalp=rng.uniform(0.025, 0.055),
        skull=rng.uniform(0.045, 0.07),
        atrophy=rng.beta(1.5, 2.5),
        asymmetry=rng.normal(0, 0.012),
    )
    canvas = Canvas(shape, 0.004)
    _pose(canvas, rng)
    surface = _coverings(canvas, rng, plan, signal)
    depth = _brain(canvas, rng, plan, signal, surface)
    _interior(canvas, rng, plan, signal)
    _lesions(canvas, rng, signal, depth)
    return _received(canvas, rng, own)


def _pose(canvas: Canvas, rng: np.random.Generator) -> None:
    """Tilt, shift, an egg-shaped outline, and a smooth deformation of everything."""
    canvas.move(rng.normal(0, 0.015), rng.normal(0, 0.015), angle=rng.normal(0, 0.06), taper=rng.uniform(0.02, 0.14))
    canvas.warp(rng, (4, 8), (0.016, 0.006))


def _coverings(canvas: Canvas, rng: np.random.Generator, plan: _Plan, signal: dict[str, float]) -> Array:
    """Skin, fat, skull and CSF; returns the depth below the inner table of the skull."""
    outer = canvas.ellipse(0, 0, plan.width, plan.length)
    fat = signal["fat"] * (1 + 0.12 * texture(rng, canvas.shape, (24, 48, 96)))
    scalp = plan.scalp * np.exp(0.25 * smooth_field(rng, 6, canvas.shape))
    skull = plan.skull * np.exp(0.20 * smooth_field(rng, 8, canvas.shape))
    canvas.paint(outer, signal["skin"])
    canvas.paint(outer + 0.014, fat)
    if plan.level == "basal":  # the temporal muscles
        for side in (-1, 1):
            x, y = side * (plan.width - 0.8 * plan.scalp), rng.uniform(0.15, 0.3)
            muscle = canvas.ellipse(x, y, rng.uniform(0.025, 0.05), rng.uniform(0.14, 0.24), side * 0.25)
            canvas.paint(np.maximum(muscle, outer + 0.016), signal["muscle"], edge=0.01)
    canvas.paint(outer + scalp, signal["bone"])
    diploe = np.maximum(outer + scalp + 0.3 * skull, -(outer + scalp + 0.75 * skull))
    marrow = signal["marrow"] * (1 + 0.35 * texture(rng, canvas.shape, (12, 32, 96)))
    canvas.paint(diploe, np.maximum(marrow, signal["bone"]), opacity=rng.uniform(0.5, 1), edge=0.012)
    inner = outer + scalp + skull
    canvas.paint(inner, signal["csf"])
    # The superior sagittal sinus at the back, the falx along the midline.
    canvas.spot(0, -plan.length + plan.scalp + plan.skull + 0.025, 0.03, 0.024, 0, signal["vessel"])
    return -inner


def _brain(canvas: Canvas, rng: np.random.Generator, plan: _Plan, signal: dict[str, float], surface: Array) -> Array:
    """Grey and white matter; returns the depth below the cortical surface, sulci and fissures included."""
    shape = canvas.shape
    depth = surface - (0.008 + 0.026 * plan.atrophy) * np.exp(0.25 * smooth_field(rng, 8, shape))
    wide = 0.003 + 0.008 * plan.atrophy

    front, back = rng.uniform(0.26, 0.34), rng.uniform(-0.36, -0.28)
    ends = [(front, 1.0), (back, -1.0)] if plan.level != "top" else [(-1.0, 1.0)]
    midline = canvas.x - plan.asymmetry - 0.012 * smooth_field(rng, 5, shape)
    pial = depth
    for start, end in ends:
        pial = np.minimum(pial, magnitude(midline, np.maximum((start - canvas.y) * np.sign(end), 0)) - wide)
    if plan.level != "top":
        for side in (-1, 1):
            inner, y = side * plan.width * rng.uniform(0.50, 0.56), rng.uniform(0.00, 0.10)
            outer = (side * plan.width, y + rng.uniform(0.0, 0.14))
            pial = np.minimum(pial, canvas.tube(curve(outer, (1.02 * inner, y + 0.05), (0.97 * inner, y - 0.22)), wide))

    # Sulci run inwards from the outer surface, and from the midline into either hemisphere.
    turn = np.arctan2(canvas.y / plan.length, canvas.x / plan.width)
    count = int(rng.integers(30, 40))
    pial = np.minimum(pial, _sulci(canvas, rng, count * turn, depth, (0.02, 0.17), wide))
    winding = rng.uniform(5, 7) * smooth_field(rng, 11, shape)
    pial = np.minimum(pial, _sulci(canvas, rng, winding, depth, (0.05, 0.23), wide))
    medial = np.abs(midline)
    for side in (-1, 1):
        reach = np.where(side * midline > 0, medial, 1.0)
        rows = rng.uniform(40, 55) * canvas.y + 20 * medial * rng.normal()
        if plan.level != "top":  # the corpus callosum and the ventricles lie between
            reach = np.where((canvas.y > front) | (canvas.y < back), reach, 1.0)
        pial = np.minimum(pial, _sulci(canvas, rng, rows, reach, (0.0, 0.12), wide))

    ribbon = 0.026 * np.exp(0.18 * smooth_field(rng, 24, shape))
    white = signal["white"] * (1 + 0.025 * texture(rng, shape, (8, 24, 64)))
    canvas.paint(-np.minimum(pial, depth), signal["grey"])
    canvas.paint(ribbon - pial, white, edge=0.010)
    return pial


def _sulci(
    canvas: Canvas, rng: np.random.Generator, phase: Array, depth: Array, reach: tuple[float, float], wide: float
) -> Array:
    """Signed distance to slits along the lines where a wandering ``phase`` is an odd multiple of π.

    The slit of each period ends at its own depth, drawn from ``reach``; its width varies.
    """
    shape = canvas.shape
    phase = phase + 2.2 * smooth_field(rng, 9, shape) + 1.1 * smooth_field(rng, 20, shape)
    cos, sin = np.cos(phase), np.sin(phase)
    slope = np.sqrt(sum(g**2 for wave in (cos, sin) for g in np.gradient(wave, canvas.pixel)))
    across = np.arccos(-cos) / np.maximum(slope, 1.0)
    period = np.floor(phase / (2 * np.pi)).astype(int) % 64
    bottom = rng.uniform(*reach, 64)[period]
    width = wide * rng.lognormal(-0.2, 0.5, 64)[period]
    return magnitude(across, np.maximum(depth - bottom, 0)) - width


def _interior(canvas: Canvas, rng: np.random.Generator, plan: _Plan, signal: dict[str, float]) -> None:
    """Deep nuclei and ventricles."""
    size = rng.uniform(0.9, 1.1)
    horn = 0.012 + 0.030 * plan.atrophy * rng.uniform(0.7, 1.3)
    for side in (-1, 1):
        s = side * size
        jitter = rng.normal(1, 0.06, 8)
        off = plan.asymmetry
        if plan.level == "basal":
            nuclei = [  # x, y, semi-axes, angle, tissue
                (0.225 * jitter[0], 0.06, 0.038, 0.125 * jitter[1], 0.22, "deep"),
                (0.165 * jitter[0], 0.03, 0.030, 0.070 * jitter[2], 0.35, "pallidum"),
                (0.085 + horn, -0.10, 0.058, 0.095 * jitter[3], 0.45, "deep"),
                (0.065 + 1.6 * horn, 0.19, 0.030, 0.055 * jitter[4], -0.30, "deep"),
            ]
            for x, y, a, b, angle, tissue in nuclei:
                distance = canvas.ellipse(s * x + off, y * size, a * size, b * size, side * angle)
                canvas.paint(distance, signal[tissue] * rng.normal(1, 0.02), edge=0.018)
            ventricle = curve((0.035 + 1.6 * horn, 0.30), (0.00 + horn, 0.20), (0.02 + 0.7 * horn, 0.06))
            radii = np.array([0.45, 0.8, 1.0, 0.9, 0.6, 0.3]) * horn * jitter[5]
            trigone = curve((0.08 + horn, -0.18), (0.20 + 1.5 * horn, -0.28), (0.11 + 0.5 * horn, -0.44))
            trigone_radii = np.array([0.4, 0.9, 1.2, 1.0, 0.6, 0.3]) * horn * jitter[6] + 0.003
            _paint_chain(canvas, trigone, trigone_radii, s, size, off, signal["csf"])
            x, y = s * (0.15 + horn) + off, -0.285 * size
            canvas.spot(x, y, 0.4 * horn, 0.7 * horn, 0.0, signal["choroid"], opacity=0.8, edge=0.01)
        elif plan.level == "bodies":
            canvas.paint(
                canvas.ellipse(s * (0.075 + 2.2 * horn) + off, 0.10, 0.022, 0.10 * jitter[0], side * -0.12),
                signal["deep"], edge=0.02,
            )  # fmt: skip
            ventricle = curve((0.05 + 1.5 * horn, 0.27), (0.00 + 0.8 * horn, 0.0), (0.12 + horn, -0.28))
            radii = np.array([0.6, 1.1, 1.0, 1.1, 1.2, 0.5]) * 1.1 * horn * jitter[5]
        else:
            continue
        _paint_chain(canvas, ventricle, radii, s, size, off, signal["csf"])
    if plan.level == "basal":
        third = [(plan.asymmetry, 0.04), (plan.asymmetry, -0.12)]
        canvas.paint(canvas.tube(third, [0.005 + 0.4 * horn, 0.004 + 0.3 * horn]), signal["csf"], edge=0.008)


def _paint_chain(canvas: Canvas, points: Array, radii: Array, s: float, size: float, off: float, value: float) -> None:
    canvas.paint(canvas.tube([(s * x + off, y * size) for x, y in points], radii), value)


def _lesions(canvas: Canvas, rng: np.random.Generator, signal: dict[str, float], depth: Array) -> None:
    """White-matter lesions in some heads, a tumour in a few, small vessels in all."""
    lesions, tumour = rng.uniform() < 0.5, rng.uniform() < 0.15
    count = int(rng.integers(2, 14)) if lesions else 0
    for _ in range(count):
        x, y = rng.uniform(0.08, 0.34) * rng.choice([-1, 1]), rng.uniform(-0.42, 0.38)
        a, stretch, angle = rng.lognormal(np.log(0.016), 0.4), rng.uniform(0.6, 1.6), rng.uniform(0, np.pi)
        if lookup(canvas, depth, x, y) > 0.07:
            canvas.spot(x, y, a, a * stretch, angle, signal["lesion"], 0.85, edge=0.012)
    x, y = rng.uniform(0.14, 0.34) * rng.choice([-1, 1]), rng.uniform(-0.35, 0.35)
    a, b, angle = rng.uniform(0.05, 0.11), rng.uniform(0.05, 0.11), rng.uniform(0, np.pi)
    lumps, core = 0.018 * smooth_field(rng, 16, canvas.shape), rng.uniform(0.3, 0.6)
    if tumour:
        distance = canvas.ellipse(x, y, a, b, angle) + lumps
        canvas.paint(np.maximum(distance - 0.07 + 2 * lumps, 0.03 - depth), signal["oedema"], 0.8, edge=0.06)
        canvas.paint(distance, signal["rim"], 0.9, edge=0.012)
        canvas.paint(distance + core * min(a, b), signal["core"], 0.9, edge=0.02)
    for _ in range(24):
        x, y, r = rng.uniform(-0.55, 0.55), rng.uniform(-0.75, 0.75), rng.uniform(0.003, 0.008)
        if 0.0 < lookup(canvas, depth, x, y) < 0.08:
            canvas.spot(x, y, r, r, 0, signal["vessel"], 0.8)


def _received(canvas: Canvas, rng: np.random.Generator, own: np.random.Generator) -> NDArray[np.float32]:
    """Texture of all tissue and the receive field of the coils."""
    image = canvas.image * (1 + 0.025 * texture(rng, canvas.shape, (20, 48, 110), 0.8))
    field = np.exp(0.07 * smooth_field(own, 1, canvas.shape) + 0.05 * smooth_field(own, 2, canvas.shape))
    return np.clip(image * field, 0, 1).astype(np.float32)
