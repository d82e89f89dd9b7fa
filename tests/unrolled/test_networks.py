"""The laws of every network on every kind of operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from isocenter.physics import Downsample, LinearOperator, MultiCoilSampling, Normalised
from isocenter.physics.blur import Blur
from isocenter.physics.fourier import FourierSampling
from isocenter.physics.geometry import ParallelBeam, views
from isocenter.physics.masks import cartesian_uniform
from isocenter.physics.pointwise import Identity
from isocenter.physics.radon import Radon
from isocenter.unrolled import ADMMNet, Network, UNetPostProcessing, full_precision
from isocenter.unrolled.admm_csnet import ADMMCSNet
from isocenter.unrolled.blocks import bf16_is_fast
from isocenter.unrolled.deep_equilibrium import DeepEquilibrium
from isocenter.unrolled.dual_domain import DualDomain
from isocenter.unrolled.e2e_varnet import E2EVarNet
from isocenter.unrolled.hybrid import Hybrid
from isocenter.unrolled.ista_net import ISTANetPlus
from isocenter.unrolled.itnet import ItNet
from isocenter.unrolled.learned_gradient import LearnedGradient
from isocenter.unrolled.learned_pdhg import LearnedPDHG
from isocenter.unrolled.learned_primal import LearnedPrimal
from isocenter.unrolled.learned_primal_dual import LearnedPrimalDual
from isocenter.unrolled.modl import MoDL
from isocenter.unrolled.postprocessing import DnCNNPostProcessing
from isocenter.unrolled.regularisation_maps import RegularisationMaps
from isocenter.unrolled.variational_network import VariationalNetwork

SHAPE = (17, 22)  # odd, not square, and no multiple of what a U-Net needs

NETWORKS: dict[str, Callable[[int], Network]] = {
    "hybrid": lambda channels: Hybrid(channels, 2, (8, 16), sparse_stages=2, sparse_iterations=5),
    "dual hybrid": lambda channels: Hybrid(channels, 2, (8, 16), sparse_stages=0, sparse_iterations=5, dual=True),
    "U-Net": lambda channels: UNetPostProcessing(channels, widths=(8, 16, 16)),
    "ADMM-Net": lambda channels: ADMMNet(stages=3, cg_iterations=4),
    "learned primal-dual": lambda channels: LearnedPrimalDual(channels, iterations=3, primal=3, dual=2, width=8),
    "learned primal": lambda channels: LearnedPrimal(channels, iterations=3, primal=3, width=8),
    "learned PDHG": lambda channels: LearnedPDHG(channels, iterations=3, width=8),
    "learned gradient": lambda channels: LearnedGradient(channels, iterations=3, memory=2, width=8),
    "ISTA-Net+": lambda channels: ISTANetPlus(channels, phases=3, width=8),
    "ADMM-CSNet": lambda channels: ADMMCSNet(stages=3, features=6, cg_iterations=4),
    "variational network": lambda channels: VariationalNetwork(channels, stages=3, filters=4, kernel=7),
    "E2E-VarNet": lambda channels: E2EVarNet(channels, cascades=2, widths=(8, 16)),
    "MoDL": lambda channels: MoDL(channels, iterations=2, depth=3, width=8),
    "ItNet": lambda channels: ItNet(channels, iterations=2, memory=2, widths=(8, 16)),
    "learned TV maps": lambda channels: RegularisationMaps(iterations=6, widths=(8, 16)),
    "deep equilibrium": lambda channels: DeepEquilibrium(channels, depth=3, width=8),
    "DnCNN": lambda channels: DnCNNPostProcessing(channels, depth=4, width=8),
    "dual domain": lambda channels: DualDomain(channels, depth=3, width=8, widths=(8, 16)),
}
OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "identity": lambda: Identity(SHAPE),
    "k-space": lambda: FourierSampling(cartesian_uniform(SHAPE, 2, 4)),
    "complex k-space": lambda: FourierSampling(cartesian_uniform(SHAPE, 2, 4), complex_image=True),
    "blur": lambda: Blur(torch.ones(3, 5) / 15, SHAPE),
    "valid blur": lambda: Blur(torch.ones(3, 5) / 15, SHAPE, boundary="valid"),
    "multi-coil k-space": lambda: MultiCoilSampling(cartesian_uniform(SHAPE, 2, 4), torch.randn(2, 3, *SHAPE)),
    "decimation": lambda: Downsample((18, 22), 2),
    "tomography": lambda: Radon(ParallelBeam(views(9), detectors=29), SHAPE),
}


@pytest.fixture(params=NETWORKS)
def make(request: pytest.FixtureRequest) -> Callable[[int], Network]:
    return NETWORKS[request.param]


@pytest.fixture(params=OPERATORS, scope="module")
def physics(request: pytest.FixtureRequest) -> Normalised:
    return Normalised(OPERATORS[request.param]())


@pytest.fixture
def network(make: Callable[[int], Network], physics: LinearOperator) -> Network:
    """Not as it starts, where a last layer may be zero."""
    network = make(physics.domain[0])
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return network


def measure(physics: LinearOperator, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.zeros(batch, *physics.domain)
    for i in range(batch):
        x[i, :, 3 : 10 + i, 4 : 16 - i] = 0.3 + 0.2 * i
    y = physics.A(x)
    return x, y + 0.02 * torch.randn_like(y) * (1 if physics.support is None else physics.support)


def test_every_parameter_has_a_finite_gradient(network: Network, physics: Normalised) -> None:
    truth, y = measure(physics)
    (network(y, physics) - truth).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # Neither the identity nor the k-space of E2E-VarNet's coils leaves a misfit for a first step size to weigh.
        assert weight.grad.any() or isinstance(physics.operator, Identity) or name == "cascades.0.weight", name


def test_images_do_not_depend_on_their_batch(network: Network, physics: LinearOperator) -> None:
    _, y = measure(physics)
    with torch.no_grad():
        together = network(y, physics)
        alone = network(y[1:2], physics)
    assert together.dtype == torch.float32
    assert (together[1:2] - alone).norm() <= 1e-2 * alone.norm()  # bf16 may round differently
    with torch.no_grad(), full_precision():
        torch.testing.assert_close(network(y, physics)[1:2], network(y[1:2], physics), rtol=1e-4, atol=1e-5)


def test_bf16_blocks_are_close_to_float32(network: Network, physics: LinearOperator) -> None:
    truth, y = measure(physics)
    with torch.no_grad():
        fast = network(y, physics)
        with full_precision():
            exact = network(y, physics)
    # a network that starts from zero and is not trained may make an image that is small beside its insides
    assert (fast - exact).norm() <= 1e-2 * max(exact.norm(), truth.norm())
    if isinstance(network, UNetPostProcessing) and bf16_is_fast("cpu"):
        assert (fast != exact).any()


def test_checkpointing_changes_nothing(make: Callable[[int], Network]) -> None:
    physics = Normalised(OPERATORS["tomography"]())
    truth, y = measure(physics)
    network = make(1)
    results = []
    for network.checkpointing in (False, True):
        network.zero_grad()
        x = network(y, physics)
        penalty = network.penalty()
        ((x - truth).square().mean() + (0 if penalty is None else penalty)).backward()
        results.append([x.detach(), *(weight.grad.clone() for weight in network.parameters())])
    for kept, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_a_step_lowers_the_loss(make: Callable[[int], Network], physics: LinearOperator) -> None:
    truth, y = measure(physics)
    network = make(physics.domain[0])
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    losses = []
    for _ in range(2):
        loss = (network(y, physics) - truth).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]


def test_post_processing_starts_as_the_direct_reconstruction(physics: LinearOperator) -> None:
    _, y = measure(physics)
    channels = physics.domain[0]
    for network in (UNetPostProcessing(channels), DnCNNPostProcessing(channels, 4, 8), DualDomain(channels)):
        torch.testing.assert_close(network(y, physics), physics.direct(y))


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda gain: UNetPostProcessing(widths=(4, 8), gain=gain), 1),
        (lambda gain: DualDomain(width=4, widths=(4, 8), gain=gain), 1),
        (lambda gain: E2EVarNet(cascades=2, widths=(4, 8), gain=gain), 2),
        (lambda gain: MoDL(iterations=2, depth=3, width=4, gain=gain), 1),
        (lambda gain: ItNet(iterations=2, widths=(4, 8), gain=gain), 2),
        (lambda gain: RegularisationMaps(widths=(4, 8), gain=gain), 1),
    ],
)
def test_first_weights_are_larger_by_the_gain(make: Callable[[float], Network], number: int) -> None:
    made = []
    for gain in (1.0, 10.0):
        torch.manual_seed(0)
        made.append(make(gain).state_dict())
    larger = [name for name, weight in made[0].items() if not torch.equal(weight, made[1][name])]
    assert len(larger) == number
    assert all(torch.allclose(10 * made[0][name], made[1][name]) for name in larger)
