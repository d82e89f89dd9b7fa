"""Direct inversions, sparsity solvers and their tuning."""

from .direct import Direct
from .method import ConvergenceWarning, Fit, Method
from .total_variation import TotalVariation, TotalVariationSolver
from .tuned import Tuning

__all__ = ["ConvergenceWarning", "Direct", "Fit", "Method", "TotalVariation", "TotalVariationSolver", "Tuning"]
