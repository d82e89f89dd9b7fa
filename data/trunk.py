"""What every axial slice of a trunk has: skin, fat, muscle, ribs and spine, in Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Array, Canvas, magnitude
from .random_fields import smooth_field, texture

AIR, LUNG, FAT, SKIN, MUSCLE, BLOOD, CORTEX, MARROW = -1000.0, -860.0, -105.0, 10.0, 55.0, 45.0, 750.0, 190.0


@dataclass(frozen=True)
class Plan:
    """What varies from patient to patient and is drawn before anything is painted."""

    level: str
    width: float
    depth: float
    fat: float
    muscle: float
    spine: float  # height of the vertebral body's centre
    contrast: float  # 0 native to 1 strongly enhanced
    density: float  # of bone


def wall(canvas: Canvas, rng: np.random.Generator, plan: Plan, soft: Array) -> Array:
    """Skin, fat and muscle; returns the signed distance to the cavity that they enclose."""
    body = canvas.ellipse(0, 0, plan.width, plan.depth)
    # A groove along the back, fuller flanks.
    body += 0.03 * np.exp(-((canvas.x / 0.09) ** 2)) * (canvas.y < 0)
    body -= 0.10 * np.abs(canvas.x * canvas.y) * plan.width
    fat = plan.fat * np.exp(0.25 * smooth_field(rng, 4, canvas.shape))
    muscle = plan.muscle * np.exp(0.18 * smooth_field(rng, 7, canvas.shape))
    canvas.paint(body, SKIN)
    canvas.paint(body + 0.010, FAT + 8 * soft)
    streaks = MUSCLE + 5 * soft - 90 * np.maximum(texture(rng, canvas.shape, (12, 36, 72)) - 1.0, 0)
    canvas.paint(body + fat + 0.010, streaks)
    # Fat planes part the layers of muscle.
    canvas.paint(np.abs(body + fat + 0.55 * muscle) - 0.004, FAT, 0.7, edge=0.008)
    for side in (-1, 1):  # the long muscles of the back
        back = canvas.ellipse(side * 0.16, plan.spine - 0.16, 0.125, rng.uniform(0.075, 0.10), side * -0.2)
        canvas.paint(np.maximum(back, body + 0.012 + 0.4 * fat), streaks, edge=0.01)
    return body + fat + muscle + 0.012


def bones(canvas: Canvas, rng: np.random.Generator, plan: Plan, cavity: Array) -> None:
    """Ribs as oblique cuts along the wall of the cavity, sternum, vertebra with its canal."""
    shell = CORTEX * plan.density * rng.uniform(0.8, 1.1)
    marrow = plan.density * (MARROW + 70 * texture(rng, canvas.shape, (24, 60, 120), 0.9))
    if plan.level != "kidneys":
        count = int(rng.integers(12, 17)) if plan.level != "liver" else int(rng.integers(9, 13))
        phase = (np.arctan2(canvas.y, canvas.x) / (2 * np.pi) + 0.25) % 1 * count
        period = np.minimum(phase.astype(int), count - 1)
        radius = magnitude(canvas.x, canvas.y)
        centre, half = rng.uniform(0.40, 0.60, count)[period], rng.uniform(0.05, 0.16, count)[period]
        along = np.abs(phase - period - centre) / count * 2 * np.pi * radius
        ring = cavity - 0.022 + 0.008 * rng.normal(size=count)[period]
        ribs = magnitude(np.maximum(along - half, 0), ring) - rng.uniform(0.016, 0.024, count)[period]
        # Neither where the spine stands nor in front, where they are cartilage.
        ribs = np.maximum(ribs, 0.14 - np.abs(canvas.x))
        canvas.paint(ribs, shell)
        canvas.paint(ribs + 0.011, marrow, edge=0.012)
    if plan.level in ("arch", "heart"):
        y = float(plan.depth - plan.fat - plan.muscle)
        sternum = canvas.ellipse(0, y, rng.uniform(0.07, 0.10), 0.03)
        canvas.paint(sternum, shell)
        canvas.paint(sternum + 0.011, marrow, edge=0.012)

    a, b, y = rng.uniform(0.085, 0.115), rng.uniform(0.070, 0.09), plan.spine
    if plan.level in ("liver", "kidneys"):
        a, b = 1.15 * a, 1.1 * b
    canal = y - b - 0.045
    arch = canvas.tube([(-0.055, y - 0.6 * b), (-0.06, canal), (0, canal - 0.055), (0.06, canal), (0.055, y - 0.6 * b)],
                       0.016)  # fmt: skip
    spinous = canvas.tube([(0, canal - 0.05), (0, canal - rng.uniform(0.12, 0.2))], [0.018, 0.012])
    reach = rng.uniform(0.15, 0.24)
    sides = [canvas.tube([(s * 0.06, canal), (s * reach, canal - 0.04)], [0.022, 0.014]) for s in (-1, 1)]
    body = canvas.ellipse(0, y, a, b)
    bone = np.minimum.reduce([arch, spinous, *sides])
    canvas.paint(np.maximum(canvas.ellipse(0, canal, 0.055, 0.05), -body), FAT + 60)
    canvas.spot(0, canal + 0.005, 0.035, 0.028, 0, 35, edge=0.01)
    canvas.paint(np.minimum(bone, body), shell)
    canvas.paint(bone + 0.010, marrow + 80, edge=0.012)
    canvas.paint(body + 0.010, marrow, edge=0.012)
