"""A procedural torso: axial computed tomography of chest and abdomen in Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Array, Canvas, curve, lookup
from .random_fields import generator, smooth_field, texture

TORSO_FIELD_MM = 400.0  # extent of the shorter side of the image

AIR, LUNG, FAT, SKIN, MUSCLE, BLOOD, CORTEX, MARROW = -1000.0, -860.0, -105.0, 10.0, 55.0, 45.0, 750.0, 190.0


@dataclass(frozen=True)
class _Plan:
    """What varies from patient to patient and is drawn before anything is painted."""

    level: str
    width: float
    depth: float
    fat: float
    muscle: float
    spine: float  # height of the vertebral body's centre
    contrast: float  # 0 native to 1 strongly enhanced
    density: float  # of bone


def torso(seed: int, index: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """An axial slice of a trunk, ``[H, W]`` float32 in HU, 400 mm along the shorter side, chest up, left side right.

    Four levels: aortic arch, heart, liver and kidneys. Skin, fat, muscle, ribs, spine, lungs with branching vessels,
    heart and great vessels, liver, spleen, stomach, kidneys, bowel with gas; nodules, cysts or metastases in some.
    Habitus, organ sizes, enhancement and deformation vary; tissues have correlated texture. All of it lives on
    continuous coordinates, so half the resolution is close to the block mean.

    Raises:
        ValueError: a side below 64 pixels.
    """
    rng = generator("torso", seed, index)
    width = rng.uniform(0.70, 0.90)
    depth = width * rng.uniform(0.62, 0.74)
    plan = _Plan(
        level=str(rng.choice(["arch", "heart", "liver", "kidneys"])),
        width=width,
        depth=depth,
        fat=rng.uniform(0.02, 0.11) * width,
        muscle=rng.uniform(0.045, 0.075),
        spine=-0.52 * depth,
        contrast=rng.choice([0.0, rng.uniform(0.2, 1.0)]),
        density=rng.uniform(0.7, 1.15),
    )
    canvas = Canvas(shape, AIR)
    canvas.move(*rng.normal(0, 0.02, 2), angle=rng.normal(0, 0.04), taper=rng.uniform(-0.10, 0.05))
    canvas.warp(rng, (3, 7), (0.018, 0.007))

    soft = texture(rng, shape, (16, 40, 96), 0.8)
    cavity = _wall(canvas, rng, plan, soft)
    if plan.level in ("arch", "heart"):
        _chest(canvas, rng, plan, cavity, soft)
    else:
        _abdomen(canvas, rng, plan, cavity, soft)
    _bones(canvas, rng, plan, cavity)
    tissue = np.clip((canvas.image + 300) / 200, 0, 1)
    grain = texture(rng, shape, (24, 56, 120), 0.9)
    return np.clip(canvas.image + 7 * tissue * grain, -1024, 3000).astype(np.float32)


def _wall(canvas: Canvas, rng: np.random.Generator, plan: _Plan, soft: Array) -> Array:
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


def _chest(canvas: Canvas, rng: np.random.Generator, plan: _Plan, cavity: Array, soft: Array) -> None:
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


def _abdomen(canvas: Canvas, rng: np.random.Generator, plan: _Plan, cavity: Array, soft: Array) -> None:
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


def _liver(canvas: Canvas, rng: np.random.Generator, plan: _Plan, inside: Array, soft: Array, upper: bool) -> None:
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


def _bowel(canvas: Canvas, rng: np.random.Generator, plan: _Plan, inside: Array) -> None:
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


def _bones(canvas: Canvas, rng: np.random.Generator, plan: _Plan, cavity: Array) -> None:
    """Ribs as oblique cuts along the wall of the cavity, sternum, vertebra with its canal."""
    shell = CORTEX * plan.density * rng.uniform(0.8, 1.1)
    marrow = plan.density * (MARROW + 70 * texture(rng, canvas.shape, (24, 60, 120), 0.9))
    if plan.level != "kidneys":
        count = int(rng.integers(12, 17)) if plan.level != "liver" else int(rng.integers(9, 13))
        phase = (np.arctan2(canvas.y, canvas.x) / (2 * np.pi) + 0.25) % 1 * count
        period = np.minimum(phase.astype(int), count - 1)
        radius = np.hypot(canvas.x, canvas.y)
        centre, half = rng.uniform(0.40, 0.60, count)[period], rng.uniform(0.05, 0.16, count)[period]
        along = np.abs(phase - period - centre) / count * 2 * np.pi * radius
        ring = cavity - 0.022 + 0.008 * rng.normal(size=count)[period]
        ribs = np.hypot(np.maximum(along - half, 0), ring) - rng.uniform(0.016, 0.024, count)[period]
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
