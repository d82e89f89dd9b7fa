"""Networks that unroll a solver, CNN post-processing, and the engine that trains them."""

from .admm_net import ADMMNet
from .blocks import ConvolutionBlock, full_precision
from .contract import Network
from .network import LearnedMethod
from .postprocessing import UNetPostProcessing
from .trainer import TrainingDivergedError
from .training import Training
from .weights_io import Card

__all__ = [
    "ADMMNet",
    "Card",
    "ConvolutionBlock",
    "LearnedMethod",
    "Network",
    "Training",
    "TrainingDivergedError",
    "UNetPostProcessing",
    "full_precision",
]
