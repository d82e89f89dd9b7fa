"""Organs of an abdominal slice: liver, spleen, stomach, kidneys, bowel and the large vessels."""

from __future__ import annotations

import numpy as np

from .canvas import Array, Canvas, curve, lookup
from .random_fields import smooth_field, texture
from .trunk import AIR, BLOOD, FAT, MUSCLE, Plan


def abdomen(canvas: Canvas, rng: np.random.Generator, plan: Plan, cavity: Array, soft: Array) -> None:
    """Fat with strands, bowel, liver, spleen, stomach, kidneys and vessels."""
    upper = plan.level == "liver"
    inside = cavity + 0.012
    strands = np.clip(texture(rng, canvas.shape, (20, 44, 90)) - 1.2, 0, 1)
    canvas.paint(cavity, FAT + 10 * soft + 90 * strands)
    blood = BLOOD + 180 * plan.contrast
    lumps = 0.012 * smooth_field(rng, 9, canvas.shape)

    if not upper:
        _bowel(canvas, rng, plan, inside)
    for side in (-1, 1):  # psoas, or the crura of the diaphragm higher up
        a, b = (0.05, 0.07) if upper else (0.085, 0.10)
        canvas.paint(canvas.ellipse(side * 0.17, plan.spine + 0.03, a, b, side * 0.3), MUSCLE + 5 * soft)
    for side in (-1, 1):
        if upper and rng.uniform() < 0.35:
            continue
        x, y = side * rng.uniform(0.31, 0.38), plan.spine + rng.uniform(0.06, 0.14)
        a, b, angle = rng.uniform(0.085, 0.115), rng.uniform(0.12, 0.155), side * rng.uniform(-0.5, -0.1)
        kidney = np.maximum(canvas.ellipse(x, y, a, b, angle) + 0.5 * lumps, inside)
        canvas.paint(kidney, 35 + 150 * plan.contrast + 4 * soft)
        medulla = kidney + 0.03 + 0.012 * smooth_field(rng, 24, canvas.shape)
        canvas.paint(medulla, 30 + 90 * plan.contrast, edge=0.012)
        canvas.spot(x - side * 0.03, y + 0.01, 0.04, 0.055, angle, FAT + 40, edge=0.02)
        if rng.uniform() < 0.3:
            r = rng.uniform(0.015, 0.05)
            canvas.spot(x + side * 0.06, y + rng.uniform(-0.08, 0.08), r, r, 0, 8)
    if upper:
        stomach = canvas.ellipse(rng.uniform(0.24, 0.36), rng.uniform(0.12, 0.2), rng.uniform(0.18, 0.26),
                                 rng.uniform(0.12, 0.17), rng.uniform(-0.3, 0.5)) + lumps  # fmt: skip
        stomach = np.maximum(stomach, inside)
        canvas.paint(stomach, 50 + 30 * plan.contrast)
        food = 20 + 25 * np.maximum(texture(rng, canvas.shape, (20, 50)), 0)
        level = rng.uniform(0.12, 0.24)  # gas floats on the contents
        canvas.paint(stomach + 0.022, np.where(canvas.y > level, AIR + 30, food))
        spleen = canvas.ellipse(0.58 * plan.width / 0.8, -0.14, rng.uniform(0.10, 0.15), rng.uniform(0.18, 0.25), -0.35)
        canvas.paint(np.maximum(spleen + lumps, inside), 48 + 75 * plan.contrast + 4 * soft)
    _liver(canvas, rng, plan, inside, soft, upper)

    pancreas = curve((-0.12, 0.02), (0.05, 0.14), (0.32, -0.02))
    canvas.paint(canvas.tube(pancreas, 0.032) + 1.2 * lumps, 40 + 55 * plan.contrast - 50 * strands, edge=0.015)
    for x, y, r in ((0.045, plan.spine + 0.165, 0.052), (-0.085, plan.spine + 0.17, 0.055), (0.0, 0.02, 0.025)):
        r *= rng.uniform(0.85, 1.15)
        canvas.spot(x, y, r, r * rng.uniform(0.75, 1.05), 0, blood * rng.uniform(0.85, 1.1))
        if rng.uniform() < 0.25:
            angle = rng.uniform(0, 2 * np.pi)
            canvas.spot(x + r * np.cos(angle), y + r * np.sin(angle), 0.016, 0.006, angle + np.pi / 2, 600)


def _liver(canvas: Canvas, rng: np.random.Generator, plan: Plan, inside: Array, soft: Array, upper: bool) -> None:
    """The liver with its vessels, fatty or not, at times with cysts or metastases, and the gall bladder."""
    size = rng.uniform(0.9, 1.1) * (1.0 if upper else 0.72)
    x, y = -0.40 * plan.width / 0.8, 0.04
    liver = canvas.ellipse(x, y, 0.40 * size, 0.36 * size, 0.5)
    if upper:
        liver = np.minimum(liver, canvas.tube(curve((x, 0.2), (-0.1, 0.32), (rng.uniform(0.1, 0.3), 0.25)), 0.13))
    liver = np.maximum(liver + 0.015 * smooth_field(rng, 6, canvas.shape), inside)
    value = rng.choice([60.0, 60.0, rng.uniform(15, 45)]) + 55 * plan.contrast
    canvas.paint(liver, value + 4 * soft)
    vessel = value + rng.choice([-1, 1]) * 12 + 60 * plan.contrast * rng.uniform(0, 1)
    root = np.array([-0.16, 0.06])
    for heading in rng.uniform(np.pi / 2, 1.4 * np.pi, 4 if upper else 2):
        _liver_branch(canvas, rng.spawn(1)[0], liver, root, heading, rng.uniform(0.016, 0.026), vessel)
    kind = rng.choice([5.0, value - 45, value + 40])
    for _ in range(int(rng.choice([0, 0, 1, 3, 7]))):
        cx, cy = rng.uniform(-0.8, 0.0), rng.uniform(-0.35, 0.4)
        a, stretch, angle = rng.uniform(0.012, 0.06), rng.uniform(0.75, 1), rng.uniform(0, np.pi)
        if lookup(canvas, liver, cx, cy) < -0.02:
            canvas.spot(cx, cy, a, a * stretch, angle, kind, edge=0.012)
    if rng.uniform() < 0.5:
        canvas.spot(-0.20, 0.20, 0.05, 0.075, 0.5, 45)
        canvas.spot(-0.20, 0.20, 0.044, 0.069, 0.5, 8)


def _liver_branch(
    canvas: Canvas, rng: np.random.Generator, liver: Array, start: Array, heading: float, radius: float, value: float
) -> None:
    end = start + 0.13 * rng.uniform(0.7, 1.2) * np.array([np.cos(heading), np.sin(heading)])
    if radius < 0.005 or lookup(canvas, liver, *end) > -0.02:
        return
    canvas.segment(start, end, (radius, 0.8 * radius), value, edge=0.012)
    for turn, child in zip((-0.4, 0.4), rng.spawn(2), strict=True):
        thinner = radius * rng.uniform(0.6, 0.8)
        _liver_branch(canvas, child, liver, end, heading + turn + rng.normal(0, 0.2), thinner, value)


def _bowel(canvas: Canvas, rng: np.random.Generator, plan: Plan, inside: Array) -> None:
    """Loops of small bowel, and the colon on both sides with gas above its contents."""
    for _ in range(int(rng.integers(12, 26))):
        x, y = rng.uniform(-0.45, 0.5), rng.uniform(-0.05, 0.45)
        a = rng.uniform(0.035, 0.065)
        b, angle = a * rng.uniform(0.9, 2.2), rng.uniform(0, np.pi)
        content = AIR + 60 if rng.uniform() < 0.2 else rng.uniform(0, 35)
        if lookup(canvas, inside, x, y) > -b:
            continue
        canvas.spot(x, y, a, b, angle, 45 + 50 * plan.contrast)
        canvas.spot(x, y, a - 0.012, b - 0.012, angle, content, edge=0.01)
    for side in (-1, 1):
        x, y = side * plan.width * rng.uniform(0.62, 0.70), rng.uniform(-0.12, 0.05)
        a, b = rng.uniform(0.06, 0.10), rng.uniform(0.07, 0.11)
        colon = np.maximum(canvas.ellipse(x, y, a, b) + 0.01 * smooth_field(rng, 14, canvas.shape), inside)
        faeces = 30 - 260 * np.maximum(texture(rng, canvas.shape, (30, 70)), 0)
        canvas.paint(colon, 45 + 40 * plan.contrast)
        canvas.paint(colon + 0.014, np.where(canvas.y > y + rng.uniform(-0.3, 1) * b, AIR + 30, faeces))
