"""Worst-case perturbations of measurements: projected gradient ascent, the same for classical and learned methods."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..baselines.method import Method
from ..data.problem import Problem
from ..physics import LinearOperator
from ..physics.noise import seeded_generator
from .metrics import NAMES, metrics

COLUMNS = ("strength", "perturbation", "image", "patient", *NAMES, "change")
STEP = 1.0  # the length of a step over the radius: near to power iteration, which is right where a method is linear


@dataclass(frozen=True)
class Attack:
    """How measurements are perturbed.

    Attributes:
        strengths: ‖e‖ / ‖y‖.
        steps: of the gradient ascent.
        images: of the test images, the first so many.
    """

    strengths: tuple[float, ...] = (0.01,)
    steps: int = 20
    images: int = 8


def attacked(
    method: Method,
    test: Problem,
    physics: LinearOperator,
    attack: Attack,
    seed: int,
    clip: tuple[float, float] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of ``attack.csv``: each image unperturbed, and with a random and the worst perturbation of every strength.

    The worst is max ‖x(y + e) − x*‖² over ‖e‖ ≤ δ ‖y‖ for the measurement y of the run, noise included (Genzel,
    Macdonald & März 2022). It is looked for by projected gradient ascent from the random one, and the best perturbation
    on the way is kept. Gradients go through the method as it is, by automatic differentiation: through networks, and
    through the iterations of solvers. Those of a method that cannot be differentiated are left out, with a warning.

    Args:
        method: fitted.
        test: the test images.
        physics: A; only what its support holds is perturbed.
        attack: how.
        seed: of the random perturbations, which depend on the image and on nothing of the method.
        clip: bounds that reconstructions are clipped to before they are judged.
    """
    for i in range(min(attack.images, len(test))):
        truth, y = test.truth(i)[None], test.measurement(i)[None]
        with torch.no_grad():
            clean = method.reconstruct(y, physics)
        start = torch.randn(y.shape, generator=seeded_generator("attack", seed, test.ids[i])) * _support(y, physics)

        def row(strength: float, name: str, x: Tensor, i: int = i, truth: Tensor = truth, clean: Tensor = clean) -> Any:
            judged = x if clip is None else x.clamp(*clip)
            values = {key: float(value[0]) for key, value in metrics(judged.float(), truth, test.data_range).items()}
            named = {"strength": strength, "perturbation": name, "image": test.ids[i], "patient": test.patients[i]}
            return {**named, **values, "change": float((x - clean).norm() / clean.norm())}

        yield row(0.0, "none", clean)
        for strength in attack.strengths:
            radius = strength * y.norm()
            e = start * (radius / start.norm())
            with torch.no_grad():
                yield row(strength, "random", method.reconstruct(y + e, physics))
            worst = _ascend(method, y, truth, physics, e, radius, attack.steps)
            if worst is None:
                warnings.warn("worst-case perturbations need gradients, and this method has none", stacklevel=2)
                continue
            yield row(strength, "worst", worst)


def _ascend(
    method: Method, y: Tensor, truth: Tensor, physics: LinearOperator, e: Tensor, radius: Tensor, steps: int
) -> Tensor | None:
    """The reconstruction that is farthest from the truth; None where there is no gradient."""
    support, length = _support(y, physics), STEP * radius
    farthest, worst = -torch.inf, None
    for step in range(steps + 1):
        e = e.detach().requires_grad_()
        with torch.enable_grad():
            x = method.reconstruct(y + e, physics)
            error = (x - truth).square().sum()
        if not x.requires_grad:
            return None
        if float(error.detach()) > farthest:
            farthest, worst = float(error.detach()), x.detach()
        if step == steps:
            break
        (slope,) = torch.autograd.grad(error, e)
        slope = slope.nan_to_num() * support
        e = e.detach() + slope * (length / slope.norm().clamp_min(torch.finfo(slope.dtype).tiny))
        e = e * (radius / e.norm()).clamp(max=1)
    return worst


def _support(y: Tensor, physics: LinearOperator) -> Tensor:
    return torch.ones_like(y) if physics.support is None else physics.support.to(y).expand_as(y)
