"""Direct inversions, sparsity solvers, plug-and-play, and their tuning."""

from .convex import Options
from .direct import Direct
from .least_squares import LeastSquares
from .method import ConvergenceWarning, Fit, Method
from .plug_and_play import PlugAndPlay
from .prior_image import PriorImage
from .reweighted import ReweightedTotalVariation
from .richardson_lucy import RichardsonLucy
from .sirt import SIRT
from .sparse_wavelets import TotalVariationWavelet, Wavelet
from .tikhonov import Tikhonov
from .total_variation import ConstrainedTotalVariation, TotalGeneralisedVariation, TotalVariation
from .tuned import Tuning
from .wiener import Wiener

__all__ = [
    "SIRT",
    "ConstrainedTotalVariation",
    "ConvergenceWarning",
    "Direct",
    "Fit",
    "LeastSquares",
    "Method",
    "Options",
    "PlugAndPlay",
    "PriorImage",
    "ReweightedTotalVariation",
    "RichardsonLucy",
    "Tikhonov",
    "TotalGeneralisedVariation",
    "TotalVariation",
    "TotalVariationWavelet",
    "Tuning",
    "Wavelet",
    "Wiener",
]
