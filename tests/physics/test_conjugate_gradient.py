"""Conjugate gradients and their gradients, against dense linear algebra."""

from __future__ import annotations

import pytest
import torch
from isocenter.physics.conjugate_gradient import conjugate_gradient
from torch import Tensor


def solve(matrix: Tensor, right: Tensor, start: Tensor, iterations: int) -> Tensor:
    """Preconditioned by the diagonal of the matrix."""
    return conjugate_gradient(
        lambda v: v @ matrix,
        right,
        start=start,
        tol=0,
        max_iter=iterations,
        precondition=lambda r: r / matrix.diagonal(),
    )


def system() -> tuple[torch.Tensor, torch.Tensor]:
    root = torch.randn(6, 6, dtype=torch.float64)
    return root @ root.T + torch.eye(6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)


def test_value_and_gradient_after_as_many_iterations_as_unknowns() -> None:
    matrix, right = system()
    matrix.requires_grad_()
    right.requires_grad_()
    x = solve(matrix, right, torch.zeros(3, 6, dtype=torch.float64), 6)
    expected = torch.linalg.solve(matrix, right.T).T
    torch.testing.assert_close(x, expected, rtol=1e-8, atol=1e-10)
    weights = torch.randn_like(x)
    for mine, exact in zip(
        torch.autograd.grad((x * weights).sum(), (right, matrix)),
        torch.autograd.grad((expected * weights).sum(), (right, matrix)),
        strict=True,
    ):
        if mine.shape == (6, 6):  # only the symmetric part is defined
            mine, exact = mine + mine.T, exact + exact.T
        torch.testing.assert_close(mine, exact, rtol=1e-6, atol=1e-8)


def test_a_preconditioner_that_is_the_inverse_needs_one_iteration() -> None:
    matrix, right = system()
    inverse = torch.linalg.inv(matrix)
    start = torch.randn(3, 6, dtype=torch.float64)
    x = conjugate_gradient(
        lambda v: v @ matrix, right, start=start, tol=0, max_iter=1, precondition=lambda r: r @ inverse
    )
    torch.testing.assert_close(x, right @ inverse)


def test_few_iterations_have_the_gradient_of_what_they_compute() -> None:
    matrix, right = system()
    start = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    right.requires_grad_()
    assert torch.autograd.gradcheck(lambda b, x: solve(matrix, b, x, 2), (right, start))


def test_a_solved_system_stays_solved_with_finite_gradients() -> None:
    matrix, _ = system()
    zero = torch.zeros(2, 6, dtype=torch.float32, requires_grad=True)
    x = solve(matrix.float(), zero, torch.zeros(2, 6), 8)
    (gradient,) = torch.autograd.grad(x.sum(), zero)
    assert (x == 0).all()
    assert gradient.isfinite().all()


def test_each_image_stops_by_itself() -> None:
    matrix = torch.diag(torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64))
    right = torch.tensor([[1.0, 1.0, 1.0], [1e-9, 2e-9, -1e-9], [0.0, 0.0, 0.0]], dtype=torch.float64)
    x = conjugate_gradient(lambda v: v @ matrix, right, start=torch.zeros_like(right), tol=1e-12)
    torch.testing.assert_close(x, right / matrix.diagonal(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("tol", [0.3, 1e-2, 1e-5])
def test_it_stops_at_its_tolerance_and_not_long_after(tol: float) -> None:
    eigenvalues = torch.linspace(1, 300, 60, dtype=torch.float64)
    right = torch.randn(3, 60, dtype=torch.float64)
    x = conjugate_gradient(lambda v: eigenvalues * v, right, start=torch.zeros_like(right), tol=tol)
    residual = (eigenvalues * x - right).norm(dim=1) / right.norm(dim=1)
    assert 0.1 * tol < float(residual.max()) <= tol


def test_what_is_solved_and_what_has_no_iterations_stays_as_it_is() -> None:
    matrix, right = system()
    start = torch.randn_like(right)
    assert torch.equal(conjugate_gradient(lambda v: v @ matrix, right, start=start, max_iter=0), start)
    solved = torch.linalg.solve(matrix, right.T).T
    assert torch.equal(conjugate_gradient(lambda v: v @ matrix, right, start=solved, tol=1e-10), solved)


def test_float32_gradients_stay_finite_for_as_many_iterations_as_one_likes() -> None:
    matrix, right = (v.float().requires_grad_() for v in system())
    x = solve(matrix, 1e-6 * right, torch.zeros(3, 6), 60)
    gradients = torch.autograd.grad(x.sum(), (matrix, right))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
