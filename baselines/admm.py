"""The alternating direction method of multipliers for every objective on every operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.conjugate_gradient import inner
from ..physics.periodic import filter_image
from .iteration import CHECK_EVERY, Progress
from .objective import Objective
from .steps import ADMMState, Map, admm_step, like

RELAXATION = 1.8
CG_ITERATIONS = 8  # at most, for an update of the image
CG_ENERGY = {True: 0.1, False: 0.01}  # what they leave of the residual's, with least squares and with data as a term
FLOOR = 1e-12  # of a spectrum: what neither data nor terms see stays as it is


class Scaled(NamedTuple):
    """An ADMM state, and the penalties ρ ``[B, T]`` that its multipliers are scaled by."""

    admm: ADMMState
    rho: Tensor


@dataclass(frozen=True)
class ADMM:
    """Over-relaxed ADMM with z_i = K_i u.

    The unknown is updated by conjugate gradients on AᵀA + Σ ρ_i K_iᵀK_i, from the last one and preconditioned by the
    circular convolution nearest to it. They stop as soon as the residual has lost most of its energy, which takes one
    iteration where AᵀA is a circular convolution and one to three elsewhere. More is not faster, with one exception:
    where the data are a term, what an update misses is a constraint that does not hold.

    The penalties are those of :meth:`Objective.first_penalties` and stay. For total variation on ten problems (CT, MRI,
    blur, decimation, denoising; light and heavy weights) they are within 1.5 of the fastest constant ones, and faster
    than with residual balancing (Boyd et al. 2011, §3.4.1), which lowers them too far.
    """

    objective: Objective

    def iterate(self, start: Scaled | None = None) -> Iterator[Progress]:
        """States after every few iterations, without end."""
        objective, stack = self.objective, self.objective.stack
        state, rho = self._start(start)
        weights, precondition = stack.spread(rho, state.z), self._preconditioner(rho)
        normal, tiny = torch.empty(0), torch.finfo(state.x.dtype).tiny

        def solve(v: Tensor) -> Tensor:
            """Conjugate gradients; AᵀAu, the dear part of their residual, is carried along."""
            nonlocal normal
            u = state.x
            residual = objective.right + stack.adjoint(weights * (v - stack.analysis(u))) - normal
            direction = scaled = precondition(residual)
            energy = inner(residual, scaled)
            enough = CG_ENERGY[objective.least_squares] * energy
            for _ in range(CG_ITERATIONS):
                image = objective.normal(direction)
                curved = image + stack.gram(rho, direction)
                length = torch.where(energy > enough, energy / inner(direction, curved).clamp_min(tiny), 0)
                u, normal = u + length * direction, normal + length * image
                residual = residual - length * curved
                scaled = precondition(residual)
                previous, energy = energy, inner(residual, scaled)
                if not (energy > enough).any():
                    break
                direction = scaled + energy / previous.clamp_min(tiny) * direction
            return u

        def relaxed(u: Tensor) -> Tensor:
            return RELAXATION * stack.analysis(u) + (1 - RELAXATION) * state.z

        while True:
            normal = objective.normal(state.x)  # anew, against rounding
            for _ in range(CHECK_EVERY):
                state = admm_step(state, solve, lambda v: stack.prox(v, 1 / rho), analysis=relaxed)
            gap = objective.certificate(state.x, state.z, weights * state.u)
            yield Progress(state.x, gap, Scaled(state, rho))

    def _start(self, start: Scaled | None) -> Scaled:
        """The direct reconstruction; or an earlier state, perhaps of other weights, which ask for other penalties."""
        objective, stack = self.objective, self.objective.stack
        u = objective.start() if start is None else start.admm.x
        z = stack.analysis(u)
        rho = objective.first_penalties(z, stack)
        if start is None:
            return Scaled(ADMMState(u, z, torch.zeros_like(z)), rho)
        return Scaled(start.admm._replace(u=start.admm.u * stack.spread(start.rho / rho, z)), rho)

    def _preconditioner(self, rho: Tensor) -> Map:
        """r ↦ (S_A + Σ ρ_i S_i)⁻¹ r in Fourier space."""
        objective = self.objective
        total = objective.data_spectrum[None]
        for spectrum, each in zip(objective.term_spectra, rho.unbind(1), strict=True):
            total = total + like(each, spectrum[None]) * spectrum
        if objective.groups == 1:
            inverse = 1 / total.clamp_min(FLOOR)
            return lambda r: filter_image(r, inverse.to(r.dtype))
        identity = FLOOR * torch.eye(objective.groups, device=total.device, dtype=total.dtype)[..., None, None]
        blocks = torch.linalg.inv((total + identity).permute(0, 3, 4, 1, 2)).to(torch.complex64)
        return lambda r: _filter_groups(r, blocks)


def _filter_groups(r: Tensor, blocks: Tensor) -> Tensor:
    """Mix the groups of ``[B, G·C, H, W]`` at each frequency by ``[B, H, W, G, G]``."""
    transform = torch.fft.fft2(r.unflatten(1, (blocks.shape[-1], -1)))
    mixed = torch.einsum("bhwij,bjchw->bichw", blocks.to(transform.dtype), transform)
    return torch.fft.ifft2(mixed).real.flatten(1, 2)
