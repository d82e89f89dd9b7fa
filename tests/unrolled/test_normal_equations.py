"""Conjugate gradients inside a network, against dense linear algebra."""

from __future__ import annotations

import torch
from isocenter.unrolled.normal_equations import solve_unrolled
from torch import Tensor


def solve(matrix: Tensor, right: Tensor, start: Tensor, iterations: int) -> Tensor:
    """Preconditioned by the diagonal of the matrix."""
    return solve_unrolled(
        lambda v: v @ matrix,
        right,
        start=start,
        precondition=lambda r: r / matrix.diagonal(),
        iterations=iterations,
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
    x = solve_unrolled(lambda v: v @ matrix, right, start=start, precondition=lambda r: r @ inverse, iterations=1)
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
