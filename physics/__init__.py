"""Operators, noise, and the laws an operator must keep."""

from .laws import BrokenLawError, Law, check_linear_operator
from .operator import LinearOperator, Normalised

__all__ = ["BrokenLawError", "Law", "LinearOperator", "Normalised", "check_linear_operator"]
