"""Organs of a chest slice: lungs with vessels and airways, and the heart or the great vessels."""

from __future__ import annotations

import numpy as np

from .canvas import Array, Canvas, lookup
from .random_fields import smooth_field, texture
from .trunk import AIR, BLOOD, FAT, LUNG, MUSCLE, Plan


def chest(canvas: Canvas, rng: np.random.Generator, plan: Plan, cavity: Array, soft: Array) -> None:
    """Lungs with vessels, airways and nodules; mediastinum with the heart or the great vessels."""
    heart = plan.level == "heart"
    middle = canvas.tube([(0, plan.spine), (0.02, 0.0), (0.0, plan.depth)], [0.15, 0.12, 0.05])
    if heart:
        tilt, a, b = rng.uniform(-0.75, -0.35), rng.uniform(0.25, 0.31), rng.uniform(0.18, 0.22)
        at = (rng.uniform(0.08, 0.13), rng.uniform(0.06, 0.13))
        middle = np.minimum(middle, canvas.ellipse(*at, a, b, tilt))
    lungs = np.maximum(cavity + 0.012, -middle) + 0.006 * smooth_field(rng, 10, canvas.shape)
    haze = rng.choice([0.0, 0.0, rng.uniform(60, 260)]) * np.clip(smooth_field(rng, 5, canvas.shape) - 0.8, 0, 1)
    fine = texture(rng, canvas.shape, (30, 60, 120), 0.9)
    canvas.paint(cavity, FAT + 10 * soft)
    canvas.paint(lungs, LUNG + 25 * soft + 30 * fine - 90 * canvas.y + haze)
    fissure = canvas.y - 0.05 - 0.35 * np.abs(canvas.x) * rng.uniform(-1, 1) + 0.02 * smooth_field(rng, 4, canvas.shape)
    canvas.paint(np.maximum(np.abs(fissure) - 0.0015, lungs), -550, 0.5)
    for side in (-1, 1):
        hilum = np.array([side * (0.15 if side < 0 or not heart else 0.27), rng.uniform(-0.08, 0.02)])
        for _ in range(int(rng.integers(5, 8))):
            heading = (0.0 if side > 0 else np.pi) + rng.uniform(-1.5, 1.5)
            _branch(canvas, rng.spawn(1)[0], lungs, hilum, heading, rng.uniform(0.009, 0.018), 0.12)
    _lung_spots(canvas, rng, lungs)

    blood = BLOOD + 260 * plan.contrast
    canvas.paint(np.maximum(cavity, middle) + 0.004, FAT + 60 + 20 * soft, 0.5, edge=0.02)
    if heart:
        c, s = np.cos(tilt), np.sin(tilt)
        canvas.paint(canvas.ellipse(*at, a - 0.012, b - 0.012, tilt), FAT + 15 * soft)
        canvas.paint(canvas.ellipse(*at, a - 0.025, b - 0.022, tilt) + 0.006 * smooth_field(rng, 12, canvas.shape),
                     MUSCLE + 60 * plan.contrast + 5 * soft)  # fmt: skip
        # Chambers in the heart's own axes: left and right ventricle, left and right atrium.
        for u, v, p, q in ((0.42, -0.05, 0.34, 0.36), (0.10, 0.45, 0.42, 0.26), (-0.45, -0.40, 0.28, 0.30),
                           (-0.55, 0.25, 0.26, 0.34)):  # fmt: skip
            x, y = at[0] + u * a * c - v * b * s, at[1] + u * a * s + v * b * c
            filling = blood * rng.uniform(0.75, 1.1)
            canvas.spot(x, y, p * a * rng.uniform(0.85, 1.1), q * b * rng.uniform(0.85, 1.1), tilt, filling, edge=0.02)
        vessels = [(0.10, plan.spine + 0.13, 0.058)]
    else:
        vessels = [(0.10, plan.spine + 0.14, 0.060), (-0.05, 0.08, 0.080), (0.06, 0.12, 0.065), (-0.13, 0.05, 0.042)]
        canvas.spot(-0.02, -0.07, 0.045, 0.042, 0, 0.0)
        canvas.spot(-0.02, -0.07, 0.038, 0.035, 0, AIR + 10)
    for x, y, r in vessels:
        r *= rng.uniform(0.85, 1.2)
        x, y = x + rng.normal(0, 0.008), y + rng.normal(0, 0.008)
        canvas.spot(x, y, r, r * rng.uniform(0.9, 1.1), 0, blood)
        if rng.uniform() < 0.25:  # calcified wall
            angle = rng.uniform(0, 2 * np.pi)
            canvas.spot(x + r * np.cos(angle), y + r * np.sin(angle), 0.018, 0.006, angle + np.pi / 2, 550)
    canvas.spot(0.03, plan.spine + 0.15, 0.03, 0.02, 0, 35, edge=0.01)  # oesophagus
    for _ in range(int(rng.integers(2, 7))):  # lymph nodes
        x, y, a, b = *rng.uniform((-0.1, plan.spine + 0.15), (0.1, 0.3)), *rng.uniform(0.008, 0.02, 2)
        if lookup(canvas, middle, x, y) < -0.03:
            canvas.spot(x, y, a, b, 0, 40, 0.8)


def _branch(
    canvas: Canvas, rng: np.random.Generator, lungs: Array, start: Array, heading: float, radius: float, length: float
) -> None:
    """A vessel that wanders, thins and divides until it is too thin or leaves the lung.

    Each branch has its own generator, so that one that ends a little earlier changes no other.
    """
    if radius < 0.0025:
        return
    end = start + length * rng.uniform(0.7, 1.2) * np.array([np.cos(heading), np.sin(heading)])
    if lookup(canvas, lungs, *end) > -0.012:
        return
    if rng.uniform() < 0.7:  # the others run outside the slice
        canvas.segment(start, end, (radius, 0.8 * radius), 30 - 200 * float(radius < 0.005), edge=0.006)
    for turn, child in zip((-0.45, 0.45), rng.spawn(2), strict=True):
        thinner = radius * rng.uniform(0.55, 0.78)
        _branch(canvas, child, lungs, end, heading + turn + rng.normal(0, 0.25), thinner, 0.85 * length)


def _lung_spots(canvas: Canvas, rng: np.random.Generator, lungs: Array) -> None:
    """Vessels and bronchi that cross the slice, and at times nodules."""
    nodules = rng.choice([0, 0, 1, 2, 4])
    for k in range(140):
        x, y = rng.uniform(-1, 1) * 0.95, rng.uniform(-0.7, 0.7)
        r, stretch, angle = rng.lognormal(np.log(0.005), 0.35), rng.uniform(0.7, 1), rng.uniform(0, np.pi)
        value, size, nodule = rng.uniform(-250, 30), rng.uniform(0.012, 0.045), rng.uniform(-50, 60)
        deep = lookup(canvas, lungs, x, y)
        if deep > -0.02:
            continue
        canvas.spot(x, y, r, r * stretch, angle, value, edge=0.005)
        if k % 9 == 0:  # a bronchus beside its artery
            canvas.spot(x + 2 * r, y, 1.1 * r, r, 0, -500)
            canvas.spot(x + 2 * r, y, 0.8 * r, 0.7 * r, 0, AIR + 20)
        if nodules > 0 and deep < -0.06:
            canvas.spot(x, y, size, size * stretch, angle, nodule, edge=0.012)
            nodules -= 1
