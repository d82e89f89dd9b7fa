"""SIRT: simultaneous iterative reconstruction, the classical iteration of tomography."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised
from .tuned import Estimate, Parameter, TunedMethod, Tuning
from .watching import show

PROBES = 16
ROUNDING = 32  # units of rounding error, relative to the largest entry, under which an entry is zero

_known: WeakKeyDictionary[LinearOperator, bool] = WeakKeyDictionary()


class SIRTState(NamedTuple):
    """Image x after so many iterations."""

    iteration: int
    x: Tensor


class SIRT(TunedMethod):
    """x ← x + C Aᵀ R (y − A x) from x = 0, its iterations tuned on the validation images.

    R = 1/(A1) and C = 1/(Aᵀ1) divide by the sums of rows and columns (Gilbert 1972; Gregor & Benson 2008); the
    iteration converges, since ‖C^½ Aᵀ R A C^½‖ ≤ 1, to a least squares solution weighted by R. These sums make sense
    only where A has no negative entries: an operator with some, such as Fourier sampling, whose row sums vanish, gets
    R = 1 and C = 1/‖A‖², Landweber's iteration (1951), which has the same bound and converges for every A.

    Args:
        iterations: None tunes them in :meth:`fit`.
        nonnegative: project onto x ≥ 0 after every iteration; real images only.
        tuning: how the iterations are chosen.
    """

    searched = (Parameter("iterations", 1, 1000, integer=True),)

    def __init__(self, iterations: int | None = None, nonnegative: bool = False, tuning: Tuning | None = None) -> None:
        super().__init__({"iterations": iterations}, tuning)
        self.nonnegative = nonnegative

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        if self.nonnegative and physics.domain[0] == 2:
            raise ValueError("SIRT: nonnegative is set, and the images are complex; leave it out")
        A, iterations = Normalised(physics), round(values["iterations"])
        y = y / A.scale
        row_weights, column_weights = _weights(A, y)
        state = start
        if state is None or state.iteration > iterations:
            state = SIRTState(0, y.new_zeros(len(y), *A.domain))
        for count in range(state.iteration + 1, iterations + 1):
            x = state.x + column_weights * A.A_adjoint(row_weights * (y - A.A(state.x)))
            state = SIRTState(count, x.clamp_min(0) if self.nonnegative else x)
            show(count, state.x)
        return Estimate(state.x, state)


def _weights(A: Normalised, y: Tensor) -> tuple[Tensor, Tensor]:
    """R and C, in the precision of ``y``; zero for measurements that see nothing and pixels that nothing sees."""
    if not has_no_negative_entries(A.operator):
        one = y.new_ones(())
        return one, one
    rows, columns = A.A(y.new_ones(1, *A.domain)), A.A_adjoint(y.new_ones(1, *A.range))
    return reciprocal(rows), reciprocal(columns)


def reciprocal(sums: Tensor) -> Tensor:
    """1 / sums, and 0 where a sum is no more than rounding error."""
    seen = sums > ROUNDING * torch.finfo(sums.dtype).eps * sums.max()
    return torch.where(seen, 1 / torch.where(seen, sums, 1), 0)


@torch.no_grad()
def has_no_negative_entries(physics: LinearOperator) -> bool:
    """Whether A, as a matrix of real numbers, is non-negative, as far as 16 of its columns tell.

    They are the responses to single pixels at random places, in all channels; it is found out once for an operator.
    """
    if physics not in _known:
        channels, height, width = physics.domain
        generator = torch.Generator().manual_seed(0)
        places = torch.randint(height * width, (PROBES,), generator=generator)
        pixels = torch.zeros(PROBES, *physics.domain, device=physics._device_holder.device)
        for number, (pixel, place) in enumerate(zip(pixels, places.tolist(), strict=True)):
            pixel[number % channels].view(-1)[place] = 1
        responses = physics.A(pixels)
        smallest = -ROUNDING * torch.finfo(responses.dtype).eps * responses.abs().max()
        _known[physics] = bool((responses >= smallest).all())
    return _known[physics]
