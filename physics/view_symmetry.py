"""Views that are turns and mirrors of one another share one block of a projection matrix.

Let g turn the image by quarter turns and then perhaps mirror it left to right. The pixel grid does not notice, so
projecting g x at angle r is projecting x at another angle: r + kπ/2 for x turned back by k quarter turns, and with the
mirror −r + kπ/2, read from the other end of the detector. A matrix for the few representative angles r therefore
serves all views: four times as many for equally spaced views of a half circle, eight times for a full circle.
Besides the memory, every coefficient that is read does the work of four or eight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from .geometry import Geometry, ParallelBeam

Element = tuple[int, bool]  # k quarter turns back, then mirrored?

# A pixel 500 pixels off the axis moves by less than a millionth of a pixel within this angle, in radians.
SAME_ANGLE = 1e-9

_CANDIDATES: tuple[tuple[Element, ...], ...] = tuple(
    tuple(product(turns, mirrors))
    for turns in ((0, 1, 2, 3), (0, 1), (0, 2), (0,))
    for mirrors in ((False, True), (False,))
)


@dataclass(frozen=True)
class ViewSymmetry:
    """Which view is which turn or mirror of which representative.

    Attributes:
        representatives: indices of the views whose matrix rows are kept.
        elements: the turns and mirrors of the image that are projected at the representatives.
        element: for each view, which of ``elements`` serves it.
        representative: for each view, which of ``representatives`` serves it.
        reversed: for each view, whether the detector is read from its other end.
    """

    representatives: tuple[int, ...]
    elements: tuple[Element, ...]
    element: tuple[int, ...]
    representative: tuple[int, ...]
    reversed: tuple[bool, ...]

    def rows(self, detectors: int) -> Tensor:
        """For each view and detector element, its row in projections ordered (representative, detector, element)."""
        along = np.arange(detectors)
        position = np.where(np.array(self.reversed)[:, None], detectors - 1 - along, along)
        rows = (np.array(self.representative)[:, None] * detectors + position) * len(self.elements)
        return torch.from_numpy((rows + np.array(self.element)[:, None]).ravel())


def apply_element(x: Tensor, element: Element) -> Tensor:
    """g x for images ``[H, W, …]``, pixels first."""
    turns, mirrored = element
    x = torch.rot90(x, -turns, dims=(0, 1))
    return x.flip(1) if mirrored else x


def apply_inverse(x: Tensor, element: Element) -> Tensor:
    """g⁻¹ x, which is also gᵀ x."""
    turns, mirrored = element
    x = x.flip(1) if mirrored else x
    return torch.rot90(x, turns, dims=(0, 1))


def find_symmetry(geometry: Geometry, image_shape: tuple[int, int]) -> ViewSymmetry:
    """The symmetry with the fewest representatives that projects at most a fifth more views than there are."""
    found = [
        _assign(geometry, elements)
        for elements in _CANDIDATES
        if (image_shape[0] == image_shape[1] or all(turns % 2 == 0 for turns, _ in elements))
        and (geometry.offset == 0 or not any(mirrored for _, mirrored in elements))
    ]
    count = len(geometry.angles)
    affordable = [s for s in found if len(s.representatives) * len(s.elements) <= 1.2 * count or len(s.elements) == 1]
    return min(affordable, key=lambda s: (len(s.representatives), len(s.elements)))


def _assign(geometry: Geometry, elements: tuple[Element, ...]) -> ViewSymmetry:
    # A parallel view and the opposite one measure the same lines, in opposite order.
    opposite = isinstance(geometry, ParallelBeam) and geometry.offset == 0
    angles = np.asarray(geometry.angles)
    served: dict[int, tuple[int, int, bool]] = {}
    representatives: list[int] = []
    for view, angle in enumerate(angles):
        if view in served:
            continue
        representatives.append(view)
        for e, (turns, mirrored) in enumerate(elements):
            reached = (-angle if mirrored else angle) + turns * math.pi / 2
            for half_turn in (False, True) if opposite else (False,):
                distance = np.abs(np.remainder(angles - reached - half_turn * math.pi + 1, 2 * math.pi) - 1)
                for match in np.flatnonzero(distance < SAME_ANGLE):
                    served.setdefault(int(match), (e, len(representatives) - 1, mirrored != half_turn))
    element, representative, flipped = zip(*(served[v] for v in range(len(angles))), strict=True)
    return ViewSymmetry(tuple(representatives), elements, element, representative, flipped)
