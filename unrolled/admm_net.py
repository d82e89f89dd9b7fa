"""ADMM-Net: the ADMM iterations of learned-filter compressed sensing, with everything in them learned."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..baselines.steps import ADMMState, admm_step
from ..physics import LinearOperator
from ..physics.conjugate_gradient import conjugate_gradient
from ..physics.periodic import filter_image
from .contract import Network
from .filter_bank import analyse, dct_basis, gram, real_spectrum, synthesise
from .piecewise_linear import PiecewiseLinear


class ADMMNet(Network):
    """Basic ADMM-Net (Yang, Sun, Li, Xu, NIPS 2016, eq. 5–10), for every operator A of norm one.

    ADMM for ½‖A x − y‖² + Σ_l λ_l g(D_l x), unrolled; stage n with its own parameters is ::

        X  x   = (AᵀA + Σ_l ρ_l H_lᵀH_l)⁻¹ (Aᵀy + Σ_l ρ_l H_lᵀ(z_l − β_l))
        C  c_l = D_l x
        Z  z_l = φ_l(c_l + β_l)
        M  β_l = β_l + η_l (c_l − z_l)

    and a last X gives the image. Filters are combinations of the DCT basis without its constant and start as that
    basis, H apart from D; φ is piecewise linear and starts as the soft threshold. A stage has 952 parameters and the
    last X has 72, with 3 × 3 filters and 101 knots: 16,256 in all with the paper's 17 stages.

    The paper has a masked Fourier transform in mind; for every A, this differs in two ways. The iterations start from
    x = direct(y), z = D x, β = 0 instead of zero. And ρ is learned relative to the mean eigenvalue of AᵀA, which is the
    sampled fraction of k-space but a hundredth for sparse-view CT, so that the paper's 0.2 is a fair start everywhere:
    on CT it reaches 4 dB more than an absolute 0.2, in the same short training.

    X is exact where AᵀA is a circular convolution (:attr:`LinearOperator.fourier_normal`); elsewhere it is a few
    conjugate gradient iterations, from the image of the stage before and preconditioned by the circular convolution
    nearest to the system: three are as good as eight without. The real and the imaginary part of complex images share
    filters and φ.

    Args:
        stages: N.
        kernel: side of the filters, odd; there are kernel² − 1 of them.
        knots: of φ.
        cg_iterations: of X where it has no closed form.
    """

    def __init__(self, stages: int = 8, kernel: int = 3, knots: int = 101, cg_iterations: int = 3) -> None:
        super().__init__()
        if stages < 1 or kernel < 3 or kernel % 2 == 0:
            raise ValueError(
                f"ADMMNet: {stages} stages of {kernel} × {kernel} filters; expected ≥ 1 and an odd size ≥ 3"
            )
        self.settings = {
            "network": "ADMM-Net",
            "stages": stages,
            "kernel": kernel,
            "knots": knots,
            "cg_iterations": cg_iterations,
        }
        self.stages = nn.ModuleList(_Stage(kernel, knots, cg_iterations) for _ in range(stages))
        self.last = _Reconstruction(kernel, cg_iterations)

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        problem = _DataTerm(y, physics)
        x = physics.direct(y)
        z = cast(_Stage, self.stages[0]).analysis(x)
        state = ADMMState(x, z, torch.zeros_like(z))
        for stage in self.stages:
            state = self.run(stage, state, problem)
            self.show(state.x)
        return self.last(state.z - state.u, state.x, problem)


class _DataTerm:
    """What every X-update needs of ½‖A x − y‖²."""

    def __init__(self, y: Tensor, physics: LinearOperator) -> None:
        self.physics = physics
        self.adjoint = physics.A_adjoint(y)
        self.spectrum = physics.normal_spectrum.to(self.adjoint)
        self.gain = self.spectrum.mean()


class _Reconstruction(nn.Module):
    """X."""

    basis: Tensor

    def __init__(self, kernel: int, cg_iterations: int) -> None:
        super().__init__()
        self.cg_iterations = cg_iterations
        self.register_buffer("basis", dct_basis(kernel), persistent=False)
        count = len(self.basis)
        self.coefficients = nn.Parameter(torch.eye(count))
        self.rho = nn.Parameter(torch.full((count,), 0.2).expm1().log())  # softplus keeps ρ positive

    def forward(self, v: Tensor, start: Tensor, term: _DataTerm) -> Tensor:
        """argmin_x ½‖A x − y‖² + Σ_l ρ_l/2 ‖H_l x − v_l‖², v ``[L, B·C, H, W]``."""
        rho = softplus(self.rho) * term.gain
        filters = torch.tensordot(self.coefficients, self.basis, 1)
        right = term.adjoint + synthesise(v, rho.view(-1, 1, 1) * filters).view_as(term.adjoint)
        spectrum = real_spectrum(gram(filters, rho), (right.shape[-2], right.shape[-1]))
        # Filters do not see a constant; where A does not either, it stays zero instead of 0/0.
        inverse = 1 / (term.spectrum + spectrum).clamp_min(1e-4)
        if term.physics.fourier_normal is not None:
            return filter_image(right, inverse)
        return conjugate_gradient(
            lambda x: term.physics.normal(x) + filter_image(x, spectrum),
            right,
            start=start,
            tol=0,
            max_iter=self.cg_iterations,
            precondition=lambda r: filter_image(r, inverse),
        )


class _Stage(nn.Module):
    """X, C, Z, M: one :func:`admm_step`."""

    basis: Tensor

    def __init__(self, kernel: int, knots: int, cg_iterations: int) -> None:
        super().__init__()
        self.reconstruction = _Reconstruction(kernel, cg_iterations)
        self.register_buffer("basis", dct_basis(kernel), persistent=False)
        count = len(self.basis)
        self.coefficients = nn.Parameter(torch.eye(count))
        self.shrinkage = PiecewiseLinear(count, knots)
        self.eta = nn.Parameter(torch.full((count,), 1.6))

    def forward(self, state: ADMMState, term: _DataTerm) -> ADMMState:
        return admm_step(
            state,
            solve=lambda v: self.reconstruction(v, state.x, term),
            prox=self.shrinkage,
            analysis=self.analysis,
            dual_step=self.eta.view(-1, 1, 1, 1),
        )

    def analysis(self, x: Tensor) -> Tensor:
        """D x, ``[L, B·C, H, W]``."""
        return analyse(x.flatten(0, 1), torch.tensordot(self.coefficients, self.basis, 1))
