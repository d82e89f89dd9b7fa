"""Total variation from few views: our solvers beside plain PDHG, ODL and deepinv, to the same objective."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...baselines.admm import ADMM
from ...baselines.first_order import PrimalDual
from ...baselines.gradient import gradient, gradient_adjoint, project_to_ball
from ...baselines.terms import TotalVariationTerm
from ...data.ellipses import shepp_logan
from ...physics import GaussianNoise, ParallelBeam, Radon, views
from ...physics.noise import seeded_generator
from .race import Optimum, Problem, Way, clear_progress, installed, ours, print_race, race

WEIGHT = 3e-4  # λ of A / ‖A‖ with the best PSNR at 128², 28.07 dB; 28.06 dB is published
STEP = 1 / math.sqrt(1 + 8)  # τ = σ = 1 / ‖[A; ∇]‖ with ‖A‖ = 1 and ‖∇‖² < 8
BLOCK = 25  # iterations of a slow way between two looks
INNER = 100  # iterations of deepinv's proximal map, of which 20 stall at a gap of 0.1 and the default takes 1000


def problem(size: int = 128, count: int = 30, batch: int = 1) -> Problem:
    """The Shepp–Logan phantom as in Adler & Öktem (TMI 2018): pixels of 1 mm, parallel beams, 5 % noise."""
    detectors = round(size * 183 / 128)
    geometry = ParallelBeam(views(count, half_cell=True), detectors, spacing=size * math.sqrt(2) / detectors)
    physics = Radon(geometry, (size, size))
    x = torch.from_numpy(shepp_logan().rasterise((size, size), 2 / size))[None, None]
    noise, clean = GaussianNoise(0.05, relative=True), physics.A(x)
    y = torch.cat([noise(clean, seeded_generator("peers", i)) for i in range(batch)])
    return Problem(physics, y, TotalVariationTerm(WEIGHT))


def ways(task: Problem) -> dict[str, Way]:
    """Ours first. All start from the same filtered back-projection, and from zero dual variables."""
    present = {"odl": installed("odl"), "deepinv": installed("deepinv")}
    return {
        "isocenter, ADMM": ours(ADMM, task),
        "isocenter, PDHG": ours(PrimalDual, task),
        "plain PDHG on [A; ∇], same matrix": Way(lambda: plain_pdhg(task), BLOCK),
        "ODL, PDHG on astra_cpu": Way((lambda: odl_pdhg(task)) if present["odl"] else None, BLOCK),
        "deepinv, FISTA with its TV prior": Way((lambda: deepinv_fista(task)) if present["deepinv"] else None, 5),
    }


def plain_pdhg(task: Problem) -> Iterator[Tensor]:
    """Chambolle & Pock (2011), algorithm 1, with θ = 1 and equal steps, as in textbooks."""
    objective = task.objective()
    x = ahead = objective.start()
    q, p = torch.zeros_like(objective.y), torch.zeros_like(gradient(x))
    while True:
        for _ in range(BLOCK):
            q = (q + STEP * (objective.A.A(ahead) - objective.y)) / (1 + STEP)
            p = project_to_ball(p + STEP * gradient(ahead), WEIGHT)
            last, x = x, x - STEP * (objective.A.A_adjoint(q) + gradient_adjoint(p))
            ahead = 2 * x - last
        yield x


def odl_pdhg(task: Problem) -> Iterator[Tensor]:
    """The same with ODL's operators and functionals, whose weights are all one for pixels of 1 mm.

    ODL's first axis is our x and its second points up, so a transposed image is a mirrored one there and is seen under
    the negative angles.
    """
    odl: Any = import_module("odl")  # its types are found or not, depending on the machine
    tomo: Any = import_module("odl.applications.tomo")
    objective, radon = task.objective(), task.physics
    assert isinstance(radon, Radon)
    assert isinstance(radon.geometry, ParallelBeam)
    assert radon.pixel_size == 1
    geometry, size = radon.geometry, radon.image_shape[0]
    reach = geometry.spacing * geometry.detectors / 2
    space = odl.uniform_discr([-size / 2] * 2, [size / 2] * 2, [size] * 2, dtype="float32")
    angles = odl.uniform_partition(-math.pi, 0, len(geometry.angles))
    scan = tomo.Parallel2dGeometry(angles, odl.uniform_partition(-reach, reach, geometry.detectors))
    project = tomo.RayTransform(space, scan, impl="astra_cpu") * (1 / radon.norm)
    differences = odl.Gradient(space, pad_mode="symmetric")
    stacked = odl.BroadcastOperator(project, differences)
    fidelity = odl.functionals.L2NormSquared(project.range).translated(
        project.range.element(_contiguous(objective.y[0, 0].flip(0)))
    )
    f, variation = odl.functionals.ZeroFunctional(space), odl.functionals.GroupL1Norm(differences.range)
    g = odl.functionals.SeparableSum(0.5 * fidelity, WEIGHT * variation)
    x = space.element(_contiguous(objective.start()[0, 0].T))
    ahead, dual = x.copy(), stacked.range.zero()
    while True:
        odl.solvers.pdhg(x, f, g, stacked, BLOCK, tau=STEP, sigma=STEP, x_relax=ahead, y=dual)
        yield torch.from_numpy(_contiguous(x.asarray().T))[None, None]


def deepinv_fista(task: Problem) -> Iterator[Tensor]:
    """Its iteration on our operator, with as many inner iterations as serve it best."""
    from deepinv.optim import L2, TVPrior
    from deepinv.optim.optim_iterators import FISTAIteration

    objective = task.objective()
    step, fidelity, prior = FISTAIteration(), L2(), TVPrior(n_it_max=INNER)
    parameters = {"stepsize": 1.0, "lambda": WEIGHT, "g_param": None, "a": 3}
    state = {"est": (objective.start(),) * 2}
    while True:
        for _ in range(5):
            state = step(state, fidelity, prior, parameters, objective.y, objective.A)
        yield state["est"][0]


def _contiguous(values: Tensor | np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values)


def compare(size: int, tolerances: Sequence[float], certified: float, limit: float, repeats: int) -> None:
    """Print the table."""
    task = problem(size)
    optimum = Optimum(task, certified)
    competitors = ways(task)
    marks = race(competitors, optimum.gap, tolerances, limit, repeats)
    clear_progress()
    print(f"\nTotal variation, CT {size}² × 30 views, 5 % noise, λ = {WEIGHT:g} of A / ‖A‖, one image; ", end="")
    print(f"optimum certified to {optimum.certified:.0e}")
    print_race(competitors, marks, tolerances)
