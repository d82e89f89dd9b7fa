"""Operators, noise, and the laws an operator must keep."""

from .fourier import FourierSampling
from .geometry import FanBeam, ParallelBeam, views
from .laws import BrokenLawError, Law, check_linear_operator
from .operator import LinearOperator, Normalised
from .pointwise import Identity
from .radon import Radon

__all__ = [
    "BrokenLawError",
    "FanBeam",
    "FourierSampling",
    "Identity",
    "Law",
    "LinearOperator",
    "Normalised",
    "ParallelBeam",
    "Radon",
    "check_linear_operator",
    "views",
]
