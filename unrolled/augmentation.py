"""More images than there are: mirrored, turned, brighter or darker, and measured anew."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ..data.problem import Problem, SimulatedProblem
from ..physics.noise import seeded_generator


@dataclass(frozen=True)
class Augmentation:
    """How images of training are changed at random, on the fine grid that their measurements are simulated from.

    Attributes:
        flips: mirrored left to right, and top to bottom, each half of the time.
        rotation: largest angle in degrees, either way; bilinear, zero from outside.
        intensity: largest relative change of brightness, either way.
    """

    flips: bool = False
    rotation: float = 0.0
    intensity: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.rotation <= 180 and 0 <= self.intensity < 1):
            raise ValueError(f"Augmentation: expected rotation in [0, 180] degrees and intensity in [0, 1): {self}")

    def __bool__(self) -> bool:
        return self != Augmentation()

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Change ``[C, H, W]``; the same draw changes images of every size alike."""
        left, top, angle, factor = torch.rand(4, generator=generator).tolist()
        axes = [axis for axis, drawn in ((-1, left), (-2, top)) if self.flips and drawn < 0.5]
        if axes:
            image = image.flip(axes)
        if self.rotation:
            image = rotate(image, math.radians(self.rotation) * (2 * angle - 1))
        return image * (1 + self.intensity * (2 * factor - 1)) if self.intensity else image


def rotate(image: Tensor, angle: float) -> Tensor:
    """Turn ``[C, H, W]`` anticlockwise about its centre by radians: bilinear, zero from outside."""
    height, width = image.shape[-2:]
    cos, sin = math.cos(angle), math.sin(angle)
    # Coordinates run from −1 to 1 along either side, so that an oblong image needs its sides' ratio.
    matrix = torch.tensor([[[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]])
    grid = affine_grid(matrix.to(image), [1, *image.shape], align_corners=False)
    return grid_sample(image[None], grid, align_corners=False)[0]


class Augmented:
    """Pairs of a changed image and its measurement, a function of image and draw alone.

    Raises:
        ValueError: for measurements that are not simulated, and cannot be of another image.
    """

    def __init__(self, problem: Problem, augmentation: Augmentation) -> None:
        if not isinstance(problem, SimulatedProblem):
            raise ValueError(
                "augment: these measurements were not simulated here, so that there are none of changed images; "
                "leave augment out"
            )
        self.problem, self.augmentation = problem, augmentation
        self._fine: dict[int, Tensor] = {}

    def pair(self, i: int, draw: int) -> tuple[Tensor, Tensor]:
        """Image ``[C, H, W]`` and measurement ``[*range]``."""
        problem = self.problem
        name = (problem.seed, problem.dataset.name, problem.ids[i], problem.task)
        if i not in self._fine:
            self._fine[i] = problem.dataset.fine(problem.samples[i])
        fine = self.augmentation(self._fine[i], seeded_generator("augmentation", *name, draw))
        truth = problem.dataset.coarsen(fine)
        with torch.no_grad():
            clean = problem.physics.A(truth[None]) if problem.simulate is None else problem.simulate(fine[None])
        return truth, problem.noise(clean, seeded_generator(*name, draw), problem.physics.support)[0]
