"""Operators, noise, and the laws an operator must keep."""

from .blur import Blur
from .downsample import Downsample
from .fourier import FourierSampling
from .geometry import FanBeam, ParallelBeam, views
from .laws import BrokenLawError, Law, check_linear_operator
from .multicoil import MultiCoilSampling
from .noise import GaussianNoise, NoNoise, PoissonCounts, Rician, seeded_generator
from .operator import LinearOperator, Normalised
from .pointwise import Identity, Inpaint
from .radon import Radon

__all__ = [
    "Blur",
    "BrokenLawError",
    "Downsample",
    "FanBeam",
    "FourierSampling",
    "GaussianNoise",
    "Identity",
    "Inpaint",
    "Law",
    "LinearOperator",
    "MultiCoilSampling",
    "NoNoise",
    "Normalised",
    "ParallelBeam",
    "PoissonCounts",
    "Radon",
    "Rician",
    "check_linear_operator",
    "seeded_generator",
    "views",
]
