"""The alternating direction method of multipliers for every objective on every operator."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..physics.conjugate_gradient import inner
from ..physics.periodic import filter_image
from .anderson import Combination
from .iteration import CHECK_EVERY, Progress
from .objective import Objective
from .steps import ADMMState, Map, admm_step, like

RELAXATION = 1.8
CG_ITERATIONS = 8  # at most, for an update of the image
CG_SHARE = {True: 0.3, False: 0.01}  # of ‖residual‖² that they leave, with least squares and with data as a term
RENEWED = (2, 4, 6, 8, 10)  # after so many blocks of iterations penalties are chosen anew; the first is often enough
MEMORY = 5  # blocks of iterations that are combined
FLOOR = 1e-12  # of a spectrum's largest value: what neither data nor terms see stays as it is


class Scaled(NamedTuple):
    """An ADMM state, and the penalties ρ ``[B, T]`` that its multipliers are scaled by."""

    admm: ADMMState
    rho: Tensor


@dataclass(frozen=True)
class ADMM:
    """Over-relaxed ADMM with z_i = K_i u.

    The unknown is updated by conjugate gradients on AᵀA + Σ ρ_i K_iᵀK_i, from the last one and preconditioned by the
    circular convolution nearest to it. One iteration is made where AᵀA is a circular convolution; elsewhere they stop
    as soon as the residual has lost most of its energy, after one to three. More is not faster, with one exception:
    where the data are a term, what an update misses is a constraint that does not hold.

    The penalties are those of :meth:`Objective.first_penalties`, of the direct reconstruction at first and after ten
    iterations of the image that is then there, whose edges are about those of the optimum. They are about as good as
    the best constant ones; residual balancing (Boyd et al. 2011, §3.4.1) lowers them too far. Between blocks of
    iterations z + u is extrapolated by Anderson acceleration, which takes a third of the iterations off. Gradients go
    through everything but the penalties and the coefficients of that extrapolation; the optimum depends on neither.
    """

    objective: Objective

    def iterate(self, start: Scaled | None = None) -> Iterator[Progress]:
        """States after every few iterations, without end."""
        objective, stack = self.objective, self.objective.stack
        state, rho = self._start(start)
        renewed = RENEWED if any(term.adaptive for term in objective.terms) else RENEWED[:1]
        share, tiny = CG_SHARE[objective.least_squares], torch.finfo(state.x.dtype).tiny
        once = objective.least_squares and objective.A.fourier_normal is not None
        # AᵀA u and K u are carried along with u, since they cost the most.
        normal, analysed = objective.normal(state.x), stack.analysis(state.x)

        def solve(v: Tensor) -> Tensor:
            nonlocal normal, analysed
            u = state.x
            residual = objective.right - normal + stack.weighted_adjoint(rho, v - analysed)
            direction = scaled = precondition(residual)
            energy, enough = inner(residual, scaled), share * inner(residual, residual)
            running = energy > 0
            for _ in range(CG_ITERATIONS):
                image, slopes = objective.normal(direction), stack.analysis(direction)
                curved = image + stack.gram(rho, direction, slopes)
                length = torch.where(running, energy / inner(direction, curved).clamp_min(tiny), 0)
                u, normal = torch.addcmul(u, length, direction), torch.addcmul(normal, length, image)
                analysed = torch.addcmul(analysed, like(length, slopes), slopes)
                if once:
                    break
                residual = torch.addcmul(residual, length, curved, value=-1)
                running = inner(residual, residual) > enough
                if not running.any():
                    break
                scaled = precondition(residual)
                previous, energy = energy, inner(residual, scaled)
                direction = torch.addcmul(scaled, energy / previous.clamp_min(tiny), direction)
            return u

        def prox(v: Tensor) -> Tensor:
            return stack.prox(v, 1 / rho)

        def relaxed(u: Tensor) -> Tensor:
            return torch.lerp(state.z, analysed, RELAXATION)

        for block in itertools.count():
            if block == 0 or block in renewed:
                state, rho = self._penalised(state, rho) if block else (state, rho)
                precondition = self._preconditioner(rho)
                accelerated = _Accelerated(state.z + state.u)
            for _ in range(CHECK_EVERY):
                state = admm_step(state, solve, prox, analysis=relaxed)
            fit = objective.fit(state.x)
            normal, analysed = fit.gradient + objective.right, stack.analysis(state.x)  # anew, against rounding
            gap = objective.certificate(state.x, state.z, stack.spread(rho, state.u) * state.u, fit, analysed)
            yield Progress(state.x, gap, Scaled(state, rho))
            combined = accelerated(state.z + state.u)
            z = stack.prox(combined, 1 / rho)
            state = state._replace(z=z, u=combined - z)

    def _start(self, start: Scaled | None) -> Scaled:
        """The direct reconstruction; or an earlier state, perhaps of other weights, which ask for other penalties."""
        objective, stack = self.objective, self.objective.stack
        u = objective.start() if start is None else start.admm.x
        z = stack.analysis(u)
        if start is None:
            return Scaled(ADMMState(u, z, torch.zeros_like(z)), objective.first_penalties(z, stack).detach())
        return self._penalised(*start)

    def _penalised(self, state: ADMMState, rho: Tensor) -> Scaled:
        """The same multipliers, with the penalties that the image asks for now."""
        stack = self.objective.stack
        first = self.objective.first_penalties(stack.analysis(state.x), stack)
        p = stack.split(stack.spread(rho, state.u) * state.u)
        parts = zip(self.objective.terms, first.unbind(1), rho.unbind(1), p, strict=True)
        now = torch.stack([term.later_penalty(new, old, slope) for term, new, old, slope in parts], 1)
        return Scaled(state._replace(u=state.u * stack.spread(rho / now, state.u)), now)

    def _preconditioner(self, rho: Tensor) -> Map:
        """r ↦ (S_A + Σ ρ_i S_i)⁻¹ r in Fourier space."""
        objective = self.objective
        total = objective.data_spectrum[None]
        for spectrum, each in zip(objective.term_spectra, rho.unbind(1), strict=True):
            total = total + like(each, spectrum[None]) * spectrum
        if objective.groups == 1:
            inverse = 1 / torch.maximum(total, FLOOR * total.amax((-2, -1), keepdim=True))
            inverse = inverse.to(rho.dtype)
            return lambda r: filter_image(r, inverse)
        largest = total.abs().amax((1, 2, 3, 4), keepdim=True)
        identity = FLOOR * largest * torch.eye(objective.groups, device=total.device)[..., None, None]
        blocks = torch.linalg.inv((total + identity).permute(0, 3, 4, 1, 2)).to(torch.complex64)
        return lambda r: _filter_groups(r, blocks)


class _Accelerated:
    """Anderson acceleration of z + u, all that one iteration hands to the next, over blocks of iterations.

    An image whose last block moved it much further than an earlier one did goes on from where it is.
    """

    def __init__(self, start: Tensor) -> None:
        self.start, self.combine = start, Combination(MEMORY)
        self.shortest = start.new_full((len(start),), torch.inf)

    def __call__(self, value: Tensor) -> Tensor:
        difference = value - self.start
        length = difference.flatten(1).norm(dim=1)
        sound = length <= 2 * self.shortest
        self.shortest = torch.minimum(self.shortest, length)
        self.start = torch.where(like(sound, value), self.combine(value, difference), value)
        return self.start


def _filter_groups(r: Tensor, blocks: Tensor) -> Tensor:
    """Mix the groups of ``[B, G·C, H, W]`` at each frequency by ``[B, H, W, G, G]``."""
    transform = torch.fft.fft2(r.unflatten(1, (blocks.shape[-1], -1)))
    mixed = torch.einsum("bhwij,bjchw->bichw", blocks.to(transform.dtype), transform)
    return torch.fft.ifft2(mixed).real.flatten(1, 2)
