"""Operators, noise, and the laws an operator must keep."""

from .geometry import FanBeam, ParallelBeam, views
from .laws import BrokenLawError, Law, check_linear_operator
from .operator import LinearOperator, Normalised
from .radon import Radon

__all__ = [
    "BrokenLawError",
    "FanBeam",
    "Law",
    "LinearOperator",
    "Normalised",
    "ParallelBeam",
    "Radon",
    "check_linear_operator",
    "views",
]
