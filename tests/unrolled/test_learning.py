"""From its start every unrolled network learns, in seconds, to beat the direct reconstruction by a stated margin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from isocenter.physics import LinearOperator
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.geometry import ParallelBeam, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.physics.radon import Radon
from isocenter.unrolled import LearnedMethod, Network, Training
from isocenter.unrolled.admm_csnet import ADMMCSNet
from isocenter.unrolled.deep_equilibrium import DeepEquilibrium
from isocenter.unrolled.dual_domain import DualDomain
from isocenter.unrolled.e2e_varnet import E2EVarNet
from isocenter.unrolled.ista_net import ISTANetPlus
from isocenter.unrolled.itnet import ItNet
from isocenter.unrolled.learned_gradient import LearnedGradient
from isocenter.unrolled.learned_primal_dual import LearnedPrimalDual
from isocenter.unrolled.modl import MoDL
from isocenter.unrolled.postprocessing import DnCNNPostProcessing
from isocenter.unrolled.regularisation_maps import RegularisationMaps
from isocenter.unrolled.variational_network import VariationalNetwork
from torch import Tensor

SHAPE = (24, 24)
OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "k-space": lambda: FourierSampling(cartesian_uniform(SHAPE, 2, 6)),
    "tomography": lambda: Radon(ParallelBeam(views(12), detectors=35), SHAPE),
}


NETWORKS: dict[str, Callable[[int], Network]] = {
    "learned primal-dual": lambda channels: LearnedPrimalDual(channels, iterations=4, width=16),
    "learned gradient": lambda channels: LearnedGradient(channels, iterations=4, memory=3, width=16),
    "ISTA-Net+": lambda channels: ISTANetPlus(channels, phases=3, width=12),
    "ADMM-CSNet": lambda channels: ADMMCSNet(stages=3, features=12),
    "variational network": lambda channels: VariationalNetwork(channels, stages=3, filters=8, kernel=7),
    "E2E-VarNet": lambda channels: E2EVarNet(channels, cascades=3, widths=(8, 16)),
    "MoDL": lambda channels: MoDL(channels, iterations=3, depth=4, width=16),
    "ItNet": lambda channels: ItNet(channels, iterations=3, widths=(8, 16)),
    "learned TV maps": lambda channels: RegularisationMaps(iterations=16, widths=(8, 16)),
    "deep equilibrium": lambda channels: DeepEquilibrium(channels, depth=4, width=16, iterations=20),
    "DnCNN": lambda channels: DnCNNPostProcessing(channels, depth=6, width=16),
    "dual domain": lambda channels: DualDomain(channels, depth=3, width=8, widths=(8, 16)),
}


@pytest.mark.parametrize(
    ("network", "name", "steps", "margin"),
    [
        # learned primal-dual starts from zero and needs longer than a test for tomography
        ("learned primal-dual", "k-space", 100, 0.5),
        ("learned gradient", "k-space", 50, 2.0),
        ("learned gradient", "tomography", 50, 2.0),
        ("ISTA-Net+", "k-space", 50, 2.0),
        ("ISTA-Net+", "tomography", 50, 0.5),
        ("ADMM-CSNet", "k-space", 40, 4.0),
        ("ADMM-CSNet", "tomography", 40, 4.0),
        ("variational network", "k-space", 40, 4.0),
        ("variational network", "tomography", 40, 2.0),
        ("E2E-VarNet", "k-space", 60, 2.0),
        ("E2E-VarNet", "tomography", 60, 2.0),
        ("MoDL", "k-space", 60, 3.0),
        ("MoDL", "tomography", 60, 4.0),
        ("ItNet", "k-space", 60, 2.5),
        ("ItNet", "tomography", 60, 3.0),
        ("learned TV maps", "k-space", 60, 6.0),
        ("learned TV maps", "tomography", 60, 3.0),
        ("deep equilibrium", "k-space", 60, 3.0),
        ("deep equilibrium", "tomography", 60, 2.0),
        ("DnCNN", "k-space", 60, 1.0),
        ("DnCNN", "tomography", 60, 2.0),
        ("dual domain", "k-space", 60, 0.8),
        ("dual domain", "tomography", 200, 0.5),
    ],
)
def test_a_tiny_task_is_learned(network: str, name: str, steps: int, margin: float, boxes: type) -> None:
    physics = OPERATORS[name]()
    training = Training(steps=steps, batch=4, validate_every=steps, warmup=5, learning_rate=5e-3, average=0.9)
    method = LearnedMethod(NETWORKS[network], training)
    method.fit(boxes(physics, 32, "train", noise=0.02), boxes(physics, 4, "validation", noise=0.02))
    truth, y = boxes(physics, 8, "fresh", noise=0.02).batch(range(8))

    def psnr(x: Tensor) -> float:
        return float((-10 * (x - truth).flatten(1).square().mean(1).log10()).mean())

    gain = psnr(method.reconstruct(y, physics)) - psnr(physics.direct(y))
    print(f"{gain:.2f} dB")
    assert gain > margin
