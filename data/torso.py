"""A procedural torso: axial computed tomography of chest and abdomen in Hounsfield units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .abdomen import abdomen
from .canvas import Canvas
from .chest import chest
from .random_fields import generator, texture
from .trunk import AIR, Plan, bones, wall

TORSO_FIELD_MM = 400.0  # extent of the shorter side of the image


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
    plan = Plan(
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
    canvas.move(rng.normal(0, 0.02), rng.normal(0, 0.02), angle=rng.normal(0, 0.04), taper=rng.uniform(-0.10, 0.05))
    canvas.warp(rng, (3, 7), (0.018, 0.007))

    soft = texture(rng, shape, (16, 40, 96), 0.8)
    cavity = wall(canvas, rng, plan, soft)
    if plan.level in ("arch", "heart"):
        chest(canvas, rng, plan, cavity, soft)
    else:
        abdomen(canvas, rng, plan, cavity, soft)
    bones(canvas, rng, plan, cavity)
    tissue = np.clip((canvas.image + 300) / 200, 0, 1)
    grain = texture(rng, shape, (24, 56, 120), 0.9)
    return np.clip(canvas.image + 7 * tissue * grain, -1024, 3000).astype(np.float32)
