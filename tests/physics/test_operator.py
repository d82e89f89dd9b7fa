"""The contract itself: what the laws catch, what the base class gives, and that deepinv can use it."""

from __future__ import annotations

import pickle

import deepinv
import numpy as np
import pytest
import torch
from isocenter.physics import (
    BrokenLawError,
    LinearOperator,
    Normalised,
    ParallelBeam,
    Radon,
    check_linear_operator,
    views,
)
from isocenter.physics.blur import Blur
from isocenter.physics.downsample import Downsample
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.multicoil import MultiCoilSampling
from isocenter.physics.pointwise import Identity, Inpaint
from isocenter.physics.psf import gaussian_psf, motion_psf
from isocenter.physics.subset import Subset
from torch import Tensor


class Dense(LinearOperator):
    """A matrix on the pixels of a 2 × 3 image."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(domain=(1, 2, 3), range=(len(matrix),))
        self.register_buffer("matrix", matrix, persistent=False)

    def A(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x.dtype).T

    def A_adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.to(y.dtype)).reshape(-1, *self.domain)


def matrix(rows: int = 4) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class WrongAdjoint(Dense):
    def A_adjoint(self, y):
        return 1.001 * super().A_adjoint(y)


class NonLinear(Dense):
    def A(self, x):
        return super().A(x).abs()


class Affine(Dense):
    def A(self, x):
        return super().A(x) + 1


class BatchCoupled(Dense):
    def A(self, x):
        y = super().A(x)
        return y - y.mean(dim=0)

    def A_adjoint(self, y):
        return super().A_adjoint(y - y.mean(dim=0))


class FixedPrecision(Dense):
    def A(self, x):
        return super().A(x).float()


class WrongShape(Dense):
    def A(self, x):
        return super().A(x)[:, None]


class ExactToFloat32(Dense):
    def A_adjoint(self, y):
        return super().A_adjoint(y.float()).to(y.dtype)


class WrongGradient(Dense):
    """The values are right, but automatic differentiation sees half of them."""

    def A(self, x):
        y = super().A(x)
        return (y + y.detach()) / 2


class SmallNorm(Dense):
    @property
    def norm(self):
        return 0.1


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (WrongAdjoint, "⟨Ax, y⟩"),
        (NonLinear, "linearity of A"),
        (Affine, "linearity of A"),
        (BatchCoupled, "batch independence of A"),
        (FixedPrecision, "torch.float32"),
        (WrongShape, "declared"),
        (ExactToFloat32, "⟨Ax, y⟩"),
        (WrongGradient, "gradient of A"),
        (SmallNorm, "‖A‖"),
    ],
)
def test_the_laws_catch(kind, law) -> None:
    with pytest.raises(BrokenLawError) as caught:
        check_linear_operator(kind(matrix()))
    broken = [line for line in str(caught.value).splitlines() if "BROKEN" in line or "declared" in line]
    assert any(law in line for line in broken)


@pytest.mark.parametrize("rows", [1, 4, 9])
def test_a_matrix_keeps_the_laws(rows) -> None:
    assert all(law.kept for law in check_linear_operator(Dense(matrix(rows))))


def test_the_norm_is_the_largest_singular_value() -> None:
    assert Dense(matrix()).norm == pytest.approx(np.linalg.svd(matrix().numpy())[1][0], rel=1e-5)


def test_prox_is_the_solution_of_the_normal_equations() -> None:
    operator, M = Dense(matrix()), matrix()
    z, y = torch.randn(2, 1, 2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    gamma = torch.tensor([0.3, 7.0], dtype=torch.float64)
    x = operator.prox_l2(z, y, gamma.view(2, 1, 1, 1), tol=1e-12)
    for i, g in enumerate(gamma):
        expected = torch.linalg.solve(g * M.T @ M + torch.eye(6, dtype=M.dtype), g * M.T @ y[i] + z[i].flatten())
        torch.testing.assert_close(x[i].flatten(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("boundary", "closed"), [("circular", True), ("reflect", False), ("valid", False)])
def test_operators_know_whether_their_prox_is_a_closed_form(boundary, closed) -> None:
    blur = Blur(torch.ones(3, 3) / 9, (12, 12), boundary)
    assert Normalised(blur).has_closed_prox is closed
    assert not Subset(blur, torch.ones(blur.range)).has_closed_prox
    z, y = torch.randn(1, *blur.domain), torch.randn(1, *blur.range)
    never = blur.prox_l2(z, y, 1.0, start=torch.zeros_like(z), max_iter=0)
    assert bool(never.any()) is closed  # conjugate gradients stay where they start


def test_normalised_is_the_same_problem_on_another_scale() -> None:
    operator = Dense(50 * matrix())
    unit = Normalised(operator)
    check_linear_operator(unit)
    x, y = torch.randn(2, 1, 2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    torch.testing.assert_close(unit.A(x) * operator.norm, operator.A(x))
    torch.testing.assert_close(unit.direct(unit.A(x)), operator.direct(operator.A(x)))
    torch.testing.assert_close(
        unit.prox_l2(x, y, 0.7, tol=1e-12), LinearOperator.prox_l2(unit, x, y, 0.7, tol=1e-12), rtol=1e-8, atol=1e-9
    )


def test_a_zero_operator_cannot_be_normalised() -> None:
    with pytest.raises(ValueError, match="is zero"):
        Normalised(Dense(torch.zeros(3, 6)))


def test_a_missing_batch_dimension_is_named() -> None:
    with pytest.raises(ValueError, match="8 × 8, expected batch × 1 × 8 × 8"):
        Identity((8, 8)).A(torch.zeros(8, 8))


OPERATORS = {
    "identity": lambda: Identity((8, 7)),
    "inpaint": lambda: Inpaint(torch.rand(8, 7) < 0.6),
    "fourier": lambda: FourierSampling(torch.rand(8, 7) < 0.6),
    "fourier complex": lambda: FourierSampling(torch.rand(8, 7) < 0.6, complex_image=True),
    "coils": lambda: MultiCoilSampling(torch.rand(8, 7) < 0.6, torch.randn(2, 3, 8, 7)),
    "circular blur": lambda: Blur(gaussian_psf(0.8, 3), (8, 7)),
    "mirrored blur": lambda: Blur(motion_psf(3, 0.4), (2, 8, 7), "reflect"),
    "valid blur": lambda: Blur(gaussian_psf(0.8, 3), (8, 7), "valid"),
    "projections": lambda: Radon(ParallelBeam(views(5), 11), (8, 7)),
    "downsampling": lambda: Downsample((8, 6), 2, gaussian_psf(1.0, 4)),
    "k-space downsampling": lambda: Downsample((8, 6), 2, "kspace"),
}
every_operator = pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())


@every_operator
def test_operators_pickle(make) -> None:
    operator = make()
    copy = pickle.loads(pickle.dumps(operator))
    x = torch.randn(2, *operator.domain)
    y = operator.A(x)
    assert torch.equal(copy.A(x), y)
    assert torch.equal(copy.A_adjoint(y), operator.A_adjoint(y))
    assert torch.equal(copy.prox_l2(x, y, 0.5), operator.prox_l2(x, y, 0.5))
    assert copy.norm == operator.norm


@every_operator
def test_operators_move_by_buffers_that_no_checkpoint_stores(make) -> None:
    operator = make()
    assert not [name for name, value in vars(operator).items() if isinstance(value, Tensor)]
    assert not operator.state_dict()
    assert not [name for name, buffer in operator.named_buffers() if buffer.is_complex()]  # .to(dtype) would break it
    before = operator.A(torch.ones(1, *operator.domain))
    assert torch.allclose(operator.double().A(torch.ones(1, *operator.domain)), before, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_operator
def test_the_laws_hold_on_the_gpu(make) -> None:
    check_linear_operator(make().to("cuda"))


@every_operator
def test_direct_and_prox_are_differentiable(make) -> None:
    operator = make()
    x = torch.randn(2, *operator.domain, dtype=torch.float64)
    y = operator.A(x).requires_grad_()
    (operator.direct(y).square().sum() + operator.prox_l2(x, y, 0.5).square().sum()).backward()
    assert y.grad is not None
    assert bool(y.grad.isfinite().all())
    assert operator.direct(y).shape == x.shape


@every_operator
def test_autocast_leaves_physics_in_full_precision(make) -> None:
    operator = make()
    x = torch.rand(2, *operator.domain)
    y = operator.A(x)

    def results() -> list[Tensor]:
        return [operator.A(x), operator.A_adjoint(y), operator.normal(x), operator.direct(y), operator.prox_l2(x, y, 2)]

    expected = results()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))


@every_operator
def test_a_measurement_of_another_shape_is_refused_by_every_map_from_it(make) -> None:
    operator = make()
    x, y = torch.rand(1, *operator.domain), torch.rand(1, 1, 1)
    for of in (operator.A_adjoint, operator.direct, lambda v: operator.prox_l2(x, v, 2.0)):
        with pytest.raises(ValueError, match="expected batch ×"):
            of(y)


@every_operator
def test_deepinv_can_use_them(make) -> None:
    operator = make()
    x, z = torch.randn(2, *operator.domain), torch.randn(2, *operator.domain)
    y = operator(x)  # deepinv's forward: A with its noise and sensor
    assert torch.equal(y, operator.A(x))
    fidelity = deepinv.optim.L2()
    torch.testing.assert_close(fidelity.grad(z, y, operator), operator.A_adjoint(operator.A(z) - y))
    torch.testing.assert_close(fidelity.prox(z, y, operator, gamma=0.5), operator.prox_l2(z, y, 0.5))
    assert abs(float(operator.adjointness_test(x))) < 1e-4
    norm = float(operator.compute_norm(x[:1], squared=False, max_iter=1000, tol=1e-7, verbose=False))
    assert norm == pytest.approx(operator.norm, rel=2e-3)


def test_deepinv_solves_with_them() -> None:
    """deepinv's proximal gradient on our operator finds the minimiser of ½‖Ax − y‖² + λ/2‖x‖²."""
    operator = Blur(gaussian_psf(0.8, 3), (8, 7))
    y = operator.A(torch.rand(1, 1, 8, 7))
    solver = deepinv.optim.PGD(
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.Tikhonov(),
        stepsize=1.0 / operator.norm**2,
        lambda_reg=0.1,
        max_iter=300,
    )
    expected = operator.prox_l2(torch.zeros_like(y), y, 10.0)
    torch.testing.assert_close(solver(y, operator), expected, rtol=1e-3, atol=1e-3)


class WrongNormal(Dense):
    def normal(self, x):
        return 1.001 * super().normal(x)


def test_a_stated_normal_operator_must_be_one() -> None:
    with pytest.raises(BrokenLawError, match=r"normal is AᵀA .* BROKEN"):
        check_linear_operator(WrongNormal(matrix()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_normal_operator_of_a_normalised_one_is_divided_by_the_norm_squared(dtype) -> None:
    operator = Normalised(Dense(matrix()))
    x = torch.randn(2, 1, 2, 3, dtype=dtype)
    expected = operator.operator.normal(x) / operator.operator.norm**2
    torch.testing.assert_close(operator.normal(x), expected)
    torch.testing.assert_close(operator.A_adjoint_A(x), operator.A_adjoint(operator.A(x)))
