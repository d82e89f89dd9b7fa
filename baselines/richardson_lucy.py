"""Richardson–Lucy deconvolution, which is maximum likelihood for Poisson counts by expectation maximisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised
from .sirt import has_no_negative_entries, reciprocal
from .steps import like
from .tuned import Estimate, Parameter, TunedMethod, Tuning
from .watching import show

FLOOR = 10  # units of rounding error, relative to the largest A x, under which a division by A x means nothing


class RichardsonLucyState(NamedTuple):
    """Image x after so many iterations."""

    iteration: int
    x: Tensor


class RichardsonLucy(TunedMethod):
    """x ← x/(Aᵀ1) · Aᵀ(y/(A x)), its iterations, which regularise it, tuned on the validation images.

    It raises the likelihood of y ~ Poisson(A x) and keeps x ≥ 0 (Richardson 1972; Lucy 1974); in emission tomography it
    is called MLEM (Shepp & Vardi 1982). It starts from the constant image with the data's total, so that results scale
    with the data, and pixels that no measurement sees are zero. Poisson counts are not negative: where noise of another
    kind has made a measurement so, it counts as zero.

    Args:
        iterations: None tunes them in :meth:`fit`.
        tuning: how the iterations are chosen.
    """

    searched = (Parameter("iterations", 1, 1000, integer=True),)

    def __init__(self, iterations: int | None = None, tuning: Tuning | None = None) -> None:
        super().__init__({"iterations": iterations}, tuning)

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        """As :meth:`TunedMethod.estimate`.

        Raises:
            ValueError: for complex images, or an operator with negative entries.
        """
        name = type(physics).__name__
        if physics.domain[0] == 2:
            raise ValueError(
                f"Richardson–Lucy: the images of {name} are complex, expected real ones; take least-squares"
            )
        if not has_no_negative_entries(physics):
            raise ValueError(
                f"Richardson–Lucy: {name} has negative entries, expected an operator without any; take least-squares"
            )
        A, iterations = Normalised(physics), round(values["iterations"])
        y = (y / A.scale).clamp_min(0)
        sensitivity = A.A_adjoint(y.new_ones(1, *A.range))
        correction = reciprocal(sensitivity)
        state = start
        if state is None or state.iteration > iterations:
            level = y.flatten(1).sum(1) / sensitivity.sum()
            state = RichardsonLucyState(0, like(level, correction) * (correction > 0))
        eps, tiny = torch.finfo(y.dtype).eps, torch.finfo(y.dtype).tiny
        for count in range(state.iteration + 1, iterations + 1):
            image = A.A(state.x)
            floor = FLOOR * eps * image.flatten(1).amax(1)
            ratio = y / torch.maximum(image, like(floor, image)).clamp_min(tiny)
            # An adjoint that goes through the FFT can be negative by rounding.
            x = state.x * correction * A.A_adjoint(ratio).clamp_min(0)
            state = RichardsonLucyState(count, x)
            show(count, x)
        return Estimate(state.x, state)
