"""Networks that unroll a solver, CNN post-processing, and the engine that trains them."""

from .admm_csnet import ADMMCSNet
from .admm_net import ADMMNet
from .blocks import ConvolutionBlock, full_precision
from .contract import Network
from .deep_equilibrium import DeepEquilibrium
from .denoiser import DenoisingNetwork, PlugAndPlayNetwork
from .dual_domain import DualDomain
from .e2e_varnet import E2EVarNet
from .hybrid import Hybrid
from .ista_net import ISTANetPlus
from .itnet import ItNet
from .learned_gradient import LearnedGradient
from .learned_pdhg import LearnedPDHG
from .learned_primal import LearnedPrimal
from .learned_primal_dual import LearnedPrimalDual
from .modl import MoDL
from .network import LearnedMethod
from .postprocessing import DnCNNPostProcessing, UNetPostProcessing
from .regularisation_maps import RegularisationMaps
from .trained_then_tuned import TrainedThenTuned
from .trainer import TrainingDivergedError
from .training import Training
from .variational_network import VariationalNetwork
from .weights_io import Card

__all__ = [
    "ADMMCSNet",
    "ADMMNet",
    "Card",
    "ConvolutionBlock",
    "DeepEquilibrium",
    "DenoisingNetwork",
    "DnCNNPostProcessing",
    "DualDomain",
    "E2EVarNet",
    "Hybrid",
    "ISTANetPlus",
    "ItNet",
    "LearnedGradient",
    "LearnedMethod",
    "LearnedPDHG",
    "LearnedPrimal",
    "LearnedPrimalDual",
    "MoDL",
    "Network",
    "PlugAndPlayNetwork",
    "RegularisationMaps",
    "TrainedThenTuned",
    "Training",
    "TrainingDivergedError",
    "UNetPostProcessing",
    "VariationalNetwork",
    "full_precision",
]
