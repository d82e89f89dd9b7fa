"""Convex objectives of data and sparsity, and the certificate of how far an image is from their optimum."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..physics import LinearOperator, Normalised
from ..physics.conjugate_gradient import inner
from .data_terms import LeastSquares, MeasurementBall
from .steps import like
from .terms import Term

PENALTIES = (1e-6, 3.0)  # the smallest and the largest, where the data weigh 1; heavier ones take longer, to no avail
# Of the data's worth: optima below it, such as that of an image that costs nothing, count as this. Rounding leaves
# gaps of a few float spacings, which must stay well under the tolerance.
NEGLIGIBLE = {torch.float32: 1e-4, torch.float64: 1e-6}


class Stack:
    """Several terms as one: c = (K_1 x, …, K_T x), flat ``[B, N]`` where there is more than one."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)
        self._shapes: list[torch.Size] = []

    def analysis(self, x: Tensor) -> Tensor:
        return self.join([term.analysis(x) for term in self.terms])

    def adjoint(self, c: Tensor) -> Tensor:
        return _sum(term.adjoint(part) for term, part in zip(self.terms, self.split(c), strict=True))

    def weighted_adjoint(self, rho: Tensor, c: Tensor) -> Tensor:
        """Σ ρ_i K_iᵀ c_i, with ρ ``[B, T]``."""
        parts = zip(self.terms, self.split(c), rho.unbind(1), strict=True)
        return _sum(each[:, None, None, None] * term.adjoint(part) for term, part, each in parts)

    def gram(self, rho: Tensor, x: Tensor, c: Tensor) -> Tensor:
        """Σ ρ_i K_iᵀK_i x, with ρ ``[B, T]``, where c = (K_1 x, …) is known."""
        parts = zip(self.terms, self.split(c), rho.unbind(1), strict=True)
        return _sum(like(each, x) * term.gram(x, part) for term, part, each in parts)

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        """The proximal map of each term, with steps ``[B, T]``."""
        parts = zip(self.terms, self.split(c), step.unbind(1), strict=True)
        return self.join([term.prox(part, like(each, part)) for term, part, each in parts])

    def join(self, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        self._shapes = [part.shape[1:] for part in parts]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def split(self, c: Tensor) -> list[Tensor]:
        if len(self.terms) == 1:
            return [c]
        parts = c.split([shape.numel() for shape in self._shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def spread(self, factors: Tensor, c: Tensor) -> Tensor:
        """One factor for each image and term, ``[B, T]``, shaped to multiply c."""
        if len(self.terms) == 1:
            return like(factors, c)
        sizes = torch.tensor([shape.numel() for shape in self._shapes], device=c.device)
        return factors.repeat_interleave(sizes, dim=1)


class DataFit(NamedTuple):
    """½ ‖A x − y‖² of each image, ``[B]``, and its gradient, as the unknown ``[B, G·C, H, W]``."""

    value: Tensor
    gradient: Tensor


class Objective:
    """P(u) = ½ ‖A x − y‖² + Σ_i g_i(K_i u), without the first part where a term says how x fits the data.

    A is divided by its norm, and y with it, so that weights mean the same thing for every operator. The unknown u is
    the image x ``[B, C, H, W]``; models that need helpers append them as more groups of C channels,
    ``[B, G·C, H, W]``.

    Args:
        physics: A.
        y: measurements ``[B, *range]``, finite.
        terms: at least one; G is the largest number of groups that one of them acts on.
        least_squares: whether ½ ‖A x − y‖² is part of it.

    Raises:
        ValueError: if the measurements are not those of A, or hold NaN or infinity.
    """

    def __init__(self, physics: LinearOperator, y: Tensor, terms: Sequence[Term], least_squares: bool = True) -> None:
        physics.check_measurement(y)
        if not torch.isfinite(y).all():
            raise ValueError("the measurements hold NaN or infinity; leave out or repair what was measured there")
        self.A, self.least_squares = Normalised(physics), least_squares
        self.groups = max(term.groups for term in terms)
        self.terms = tuple(t if t.groups == self.groups else _OfImage(t, self.groups) for t in terms)
        self.stack, self.y = Stack(self.terms), y / self.A.scale
        back = self.lift(self.A.A_adjoint(self.y))
        self.right = back * float(least_squares)
        # Where the data are a constraint, nothing but the image gives penalties and values their scale. Its differences
        # are smaller than itself: a hundredth leaves room for them.
        held = any(isinstance(term, MeasurementBall) for term in terms)
        level = 1e-2 * back.abs().flatten(1).mean(1) if held else y.new_ones(len(y))
        self._level = torch.where(level > 0, level, 1)
        worth = self._terms_value(back if held else torch.zeros_like(back))
        self._negligible = NEGLIGIBLE[y.dtype] * (worth + float(least_squares) * self.y.flatten(1).square().sum(1) / 2)

    @property
    def data_spectrum(self) -> Tensor:
        """The spectrum of AᵀA, or zero without least squares: ``[H, W]``, or ``[G, G, H, W]``."""
        spectrum = self.A.normal_spectrum.to(self.right) * float(self.least_squares)
        return spectrum if self.groups == 1 else _of_first_group(spectrum, self.groups)

    @property
    def term_spectra(self) -> list[Tensor]:
        """The spectrum of every K_iᵀK_i: ``[H, W]``, or ``[G, G, H, W]``."""
        return [term.spectrum(self.A.domain).to(self.right.device) for term in self.terms]

    def first_penalties(self, c: Tensor, stack: Stack) -> Tensor:
        """Penalties ρ ``[B, T]`` in the proportions that the terms ask for, for the stacked c of a first image.

        A term that asks for none, such as a constraint on the data, gets its share of the trace of all others.
        """
        least, most = (limit / self._level for limit in PENALTIES)
        asked = [term.first_penalty(part) for term, part in zip(stack.terms, stack.split(c), strict=True)]
        limited = [None if rho is None else rho.clamp(least, most) for rho in asked]
        traces = [_trace(term.spectrum(self.A.domain).to(c.device)) for term in stack.terms]
        others = sum(rho * trace for rho, trace in zip(limited, traces, strict=True) if rho is not None)
        each = zip(stack.terms, limited, traces, strict=True)
        return torch.stack([term.share * others / trace if rho is None else rho for term, rho, trace in each], 1).to(
            c.dtype
        )

    def least_squares_term(self) -> Term:
        """½ ‖A x − y‖² as a term, for solvers that treat it as one."""
        term = LeastSquares(self.A.operator, self.y * self.A.scale)
        return term if self.groups == 1 else _OfImage(term, self.groups)

    def normal(self, u: Tensor) -> Tensor:
        """AᵀA u, or zero without least squares."""
        return self.lift(self.A.normal(self.image(u))) if self.least_squares else torch.zeros_like(u)

    def image(self, u: Tensor) -> Tensor:
        """x of u."""
        return u[:, : self.A.domain[0]]

    def lift(self, x: Tensor) -> Tensor:
        """(x, 0, …)."""
        return _lift(x, self.groups)

    def start(self) -> Tensor:
        """The direct reconstruction."""
        return self.lift(self.A.direct(self.y))

    def value(self, u: Tensor) -> Tensor:
        """P(u) of each image, ``[B]``; where constraints are violated, the value without them."""
        return self._terms_value(u) + self.fit(u).value

    def _terms_value(self, u: Tensor) -> Tensor:
        parts = zip(self.terms, self.stack.split(self.stack.analysis(u)), strict=True)
        return sum((term.value(part) for term, part in parts), start=u.new_zeros(len(u)))

    def fit(self, u: Tensor) -> DataFit:
        """½ ‖A x − y‖² and its gradient; zeros without least squares."""
        if not self.least_squares:
            return DataFit(u.new_zeros(len(u)), torch.zeros_like(u))
        misfit = self.A.A(self.image(u)) - self.y
        return DataFit(misfit.flatten(1).square().sum(1) / 2, self.lift(self.A.A_adjoint(misfit)))

    def certificate(
        self, u: Tensor, z: Tensor, p: Tensor, fit: DataFit | None = None, c: Tensor | None = None
    ) -> Tensor:
        """A bound on (P(u) − min P) / P(u), or the relative violation of a constraint where that is larger: ``[B]``.

        Where P(u) is less than :data:`NEGLIGIBLE` times P(0), or times P(Aᵀy) where the data are a constraint, it is
        relative to that.

        Weak duality with the subgradients p_i ∈ ∂g_i(z_i) that every proximal step yields, and
        w = Aᵀ(Ax − y) + Σ K_iᵀp_i, which is zero at the optimum::

            P(u) − P(u*) ≤ Σ_i g_i(K_i u) − g_i(z_i) − ⟨p_i, K_i u − z_i⟩ + ⟨w, u − u*⟩

        The last term is at most ‖u‖_∞ ‖w‖₁ (group by group), unless the optimum is further away than u's own magnitude.

        Args:
            u, z, p: as above; z and p stacked.
            fit, c: of u, and the stacked K_i u, where they are known.
        """
        c, fit = self.stack.analysis(u) if c is None else c, fit or self.fit(u)
        value, gap, violation = fit.value, u.new_zeros(len(u)), u.new_zeros(len(u))
        for term, at, split, slope in zip(
            self.terms, self.stack.split(c), self.stack.split(z), self.stack.split(p), strict=True
        ):
            here = term.value(at)
            value = value + here
            gap = gap + here - term.value(split) - inner(slope, at - split).flatten()
            violation = torch.maximum(violation, term.violation(at))
        amiss = fit.gradient + self.stack.adjoint(p)
        grouped, off = (t.unflatten(1, (self.groups, -1)).flatten(2) for t in (u, amiss))
        gap = gap.abs() + (grouped.abs().amax(2) * off.abs().sum(2)).sum(1)
        worth = torch.maximum(value, self._negligible).clamp_min(torch.finfo(u.dtype).tiny)
        return torch.maximum(gap / worth, violation)


class _OfImage(Term):
    """A term of the image alone, as a term of the unknown with more groups."""

    def __init__(self, term: Term, groups: int) -> None:
        self.term, self.groups, self.share, self.adaptive = term, groups, term.share, term.adaptive

    def analysis(self, x: Tensor) -> Tensor:
        return self.term.analysis(x[:, : x.shape[1] // self.groups])

    def adjoint(self, c: Tensor) -> Tensor:
        return _lift(self.term.adjoint(c), self.groups)

    def gram(self, x: Tensor, c: Tensor) -> Tensor:
        return _lift(self.term.gram(x[:, : x.shape[1] // self.groups], c), self.groups)

    def spectrum(self, domain: tuple[int, ...]) -> Tensor:
        return _of_first_group(self.term.spectrum(domain), self.groups)

    def value(self, c: Tensor) -> Tensor:
        return self.term.value(c)

    def prox(self, c: Tensor, step: Tensor) -> Tensor:
        return self.term.prox(c, step)

    def later_penalty(self, first: Tensor, rho: Tensor, p: Tensor) -> Tensor:
        return self.term.later_penalty(first, rho, p)

    def violation(self, c: Tensor) -> Tensor:
        return self.term.violation(c)

    def first_penalty(self, c: Tensor) -> Tensor | None:
        return self.term.first_penalty(c)

    def norm(self, domain: tuple[int, ...]) -> float:
        return self.term.norm(domain)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """Without a pass over zeros."""
    return functools.reduce(operator.add, parts)


def _lift(x: Tensor, groups: int) -> Tensor:
    return torch.cat([x, *[torch.zeros_like(x)] * (groups - 1)], dim=1) if groups > 1 else x


def _of_first_group(spectrum: Tensor, groups: int) -> Tensor:
    return pad(spectrum[None, None], (0, 0, 0, 0, 0, groups - 1, 0, groups - 1))


def _trace(spectrum: Tensor) -> Tensor:
    """The mean eigenvalue of a circular convolution, summed over groups; not quite zero for that of a single pixel."""
    trace = spectrum.mean() if spectrum.ndim == 2 else spectrum.diagonal().real.mean((0, 1)).sum()
    return trace.clamp_min(1e-6)
