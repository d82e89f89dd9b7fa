"""The laws that an operator must keep, for ours and for users' operators alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .operator import LinearOperator, spectral_norm
from .periodic import filter_image

BOUNDS = {torch.float32: 1e-6, torch.float64: 1e-12}


@dataclass(frozen=True)
class Law:
    """One measured law: its relative gap, and the bound that it must stay under."""

    name: str
    dtype: torch.dtype
    gap: float
    bound: float

    @property
    def kept(self) -> bool:
        return self.gap <= self.bound  # False for NaN

    def __str__(self) -> str:
        sign = "ok" if self.kept else "BROKEN"
        return f"{self.name:<28} {self.dtype!s:<14} gap {self.gap:8.1e}  bound {self.bound:.0e}  {sign}"


class BrokenLawError(AssertionError):
    """An operator breaks a law; the message lists every measured law."""


def check_linear_operator(
    operator: LinearOperator, *, dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64), seed: int = 0
) -> list[Law]:
    """Measure the laws of a linear operator and raise if one is broken.

    Linearity A(ax + by) = aAx + bAy and the same of Aᵀ; the dot-test ⟨Ax, y⟩ = ⟨x, Aᵀy⟩, relative to ‖Ax‖‖y‖;
    adjoint of the adjoint, which is A, taken by automatic differentiation; the gradients of A and Aᵀ, which are
    Aᵀ and A; independence of the images of a batch; dtype and device of results; the declared shapes; the normal
    operator AᵀA; the norm, the support and the spectrum of AᵀA, where the operator states them.

    Returns:
        the measured laws, to print.

    Raises:
        BrokenLawError: with the table of laws.
    """
    laws = [law for dtype in dtypes for law in _measure(operator, dtype, seed)]
    if operator._norm is not None or type(operator).norm is not LinearOperator.norm:
        # A stated norm is a promise too, since solvers take their steps from it. The tolerance of its square is half of
        # the bound; for less, crowded spectra take many times longer.
        measured = spectral_norm(operator, tol=1e-4)
        gap = abs(operator.norm - measured) / (measured or 1.0)
        laws.append(Law("‖A‖", torch.float32, gap, 1e-4))
    broken = [law for law in laws if not law.kept]
    if broken:
        table = "\n".join(map(str, laws))
        raise BrokenLawError(f"{type(operator).__name__} breaks {len(broken)} law(s):\n{table}")
    return laws


def _measure(operator: LinearOperator, dtype: torch.dtype, seed: int) -> list[Law]:
    generator = torch.Generator().manual_seed(seed)
    device = operator._device_holder.device
    bound = BOUNDS[dtype]

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(3, *shape, generator=generator, dtype=torch.float64).to(device, dtype)

    def law(name: str, a: Tensor, b: Tensor, scale: Tensor | None = None) -> Law:
        if a.dtype != b.dtype:
            raise BrokenLawError(f"{type(operator).__name__}: {name} gives {a.dtype} for {dtype}")
        size = max(float(a.norm()), float(b.norm())) if scale is None else float(scale)
        gap = float((a - b).norm())
        return Law(name, dtype, gap / size if size > 0 else gap, bound)

    x, x2, y, y2 = draw(operator.domain), draw(operator.domain), draw(operator.range), draw(operator.range)
    Ax, Aty = operator.A(x), operator.A_adjoint(y)
    for name, result, source in (("A", Ax, y), ("A_adjoint", Aty, x)):
        if result.shape != source.shape or result.dtype != dtype or result.device != source.device:
            raise BrokenLawError(
                f"{type(operator).__name__}.{name} returns {tuple(result.shape)} {result.dtype} on {result.device}, "
                f"declared {tuple(source.shape)} {dtype} on {source.device}"
            )

    laws = [
        law("linearity of A", operator.A(2 * x - 3 * x2), 2 * Ax - 3 * operator.A(x2)),
        law("linearity of Aᵀ", operator.A_adjoint(2 * y - 3 * y2), 2 * Aty - 3 * operator.A_adjoint(y2)),
    ]
    left = (Ax.double() * y.double()).sum()
    right = (x.double() * Aty.double()).sum()
    scale = torch.maximum(Ax.double().norm() * y.double().norm(), x.double().norm() * Aty.double().norm())
    laws.append(law("⟨Ax, y⟩ = ⟨x, Aᵀy⟩", left, right, scale))

    grad_y = _gradient(operator.A_adjoint, y, x)
    grad_x = _gradient(operator.A, x, y)
    laws += [
        law("adjoint of the adjoint", grad_y, Ax),
        law("gradient of A", grad_x, Aty),
        law("batch independence of A", operator.A(x[1:2]), Ax[1:2]),
        law("batch independence of Aᵀ", operator.A_adjoint(y[1:2]), Aty[1:2]),
        law("normal is AᵀA", operator.normal(x), operator.A_adjoint(Ax)),
    ]
    if operator.support is not None:
        outside = ~operator.support.bool()
        laws.append(law("zero outside the support", Ax * outside, torch.zeros_like(Ax), Ax.norm()))
    if operator.fourier_normal is not None:
        laws.append(law("fourier_normal", filter_image(x, operator.fourier_normal), operator.A_adjoint(Ax)))
    return laws


def _gradient(map_: Callable[[Tensor], Tensor], at: Tensor, cotangent: Tensor) -> Tensor:
    """The vector–Jacobian product; NaN where the map cannot be differentiated."""
    leaf = at.clone().requires_grad_()
    try:
        with torch.enable_grad():
            return torch.autograd.grad(map_(leaf), leaf, cotangent)[0]
    except RuntimeError:  # the map left torch, through NumPy or detach()
        return torch.full_like(at, torch.nan)
