"""A denoiser of our own: trained once on images alone, and then a prior for every operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..baselines.denoisers import Denoiser, noise_level
from ..baselines.plug_and_play import PlugAndPlay
from ..data.problem import Problem
from ..physics import LinearOperator
from ..physics.noise import seeded_generator
from .blocks import ConvolutionBlock
from .contract import Network
from .network import LearnedMethod
from .trained_then_tuned import TrainedThenTuned
from .training import Training


class NoisyImage(LinearOperator):
    """x ↦ (x, 0).  ``[B, C, H, W]`` → ``[B, C + 1, H, W]``: noise makes it (x + σ n, σ), an image and its noise level.

    Args:
        domain: (C, H, W).
    """

    def __init__(self, domain: Sequence[int]) -> None:
        channels, height, width = domain
        super().__init__(domain=(channels, height, width), range=(channels + 1, height, width))
        self._norm = 1.0

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return pad(x, (0, 0, 0, 0, 0, 1))

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        return y[:, :-1]


class DenoisingProblem(Problem):
    """The images of a problem in white Gaussian noise of every level, whatever they are measured by elsewhere.

    Args:
        problem: whose images and units to take.
        levels: lowest and highest σ, fractions of the data range; log-uniform between them.
    """

    def __init__(self, problem: Problem, levels: tuple[float, float]) -> None:
        self.problem, self.levels = problem, levels
        self.physics = NoisyImage(problem.physics.domain)
        self.data_range, self.ids, self.patients = problem.data_range, problem.ids, problem.patients

    def truth(self, i: int) -> Tensor:
        return self.problem.truth(i)

    def measurement(self, i: int, draw: int = 0) -> Tensor:
        generator, x = seeded_generator("denoising", self.ids[i], draw), self.truth(i)
        low, high = self.levels
        level = self.data_range * low * (high / low) ** float(torch.rand((), generator=generator))
        noise = torch.randn(x.shape, generator=generator).to(x)
        return torch.cat((x + level * noise, torch.full_like(x[:1], level)))


class DenoisingNetwork(Network):
    """D_σ(x) = x + U(x, σ), a U-Net of residual blocks that sees σ as one more channel (Zhang et al. 2018, 2022).

    No layer has a bias, so that D_{aσ}(a x) = a D_σ(x) for a > 0: it scales as noise does, and generalises to levels
    that it was not trained on (Mohan et al. 2020). Its last layer starts at zero, so that D_σ starts as the identity.
    As a network it takes the measurements of :class:`NoisyImage`.

    Args:
        channels: of the image; 1, or 2 for complex images.
        widths: feature maps at each scale, finest first; each scale halves the resolution.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = (32, 48, 64)) -> None:
        super().__init__()
        self.settings = {"network": "denoiser", "channels": channels, "widths": list(widths)}
        last = _convolution(widths[0], channels)
        nn.init.zeros_(last.weight)
        body = nn.Sequential(_convolution(channels + 1, widths[0]), _Scale(list(widths)), last)
        self.correction, self.multiple = ConvolutionBlock(body), 2 ** (len(widths) - 1)

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """(noisy image, σ) ``[B, C + 1, H, W]`` → ``[B, C, H, W]``."""
        height, width = y.shape[-2:]
        below, right = -height % self.multiple, -width % self.multiple
        correction = self.correction(pad(y, (0, right, 0, below), mode="replicate"))
        return y[:, :-1] + correction[..., :height, :width]


class _Residual(nn.Module):
    """x + C(relu(C x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width), _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


class _Scale(nn.Module):
    """A residual block on the way down and one on the way up, and all coarser scales between them."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.down = _Residual(widths[0])
        self.coarser: nn.Module | None = None
        if len(widths) > 1:
            halve = nn.Conv2d(widths[0], widths[1], 2, stride=2, bias=False)
            double = nn.ConvTranspose2d(widths[1], widths[0], 2, stride=2, bias=False)
            self.coarser = nn.Sequential(halve, _Scale(widths[1:]), double)
            self.up = _Residual(widths[0])

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x if self.coarser is None else self.up(x + self.coarser(x))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class NetworkDenoiser(Denoiser):
    """A trained :class:`DenoisingNetwork` as a denoiser; in float32, whatever the image.

    Args:
        method: that holds it.
    """

    def __init__(self, method: LearnedMethod) -> None:
        self.method = method

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        levels = noise_level(sigma, x).expand(-1, 1, *x.shape[-2:])
        noisy = torch.cat((x, levels), dim=1)
        denoised = self.method.reconstruct(noisy, NoisyImage(x.shape[1:]).to(x.device)).to(x.dtype)
        return torch.where(levels > 0, denoised, x)


class PlugAndPlayNetwork(TrainedThenTuned):
    """Plug-and-play with a denoiser that is trained on the training images, never on their measurements.

    So one training serves every operator; only the noise level and the penalty of the plug-and-play method, which
    depend on the measurements, are then tuned on the validation images.

    Args:
        make: makes the network for images of so many channels; its random initial weights depend on ``seed`` alone.
        plug_and_play: takes the denoiser and makes the method that uses it.
        levels: lowest and highest σ that the denoiser is trained for, fractions of the data range.
        training: of the denoiser.
        seed: of its initial weights and of the order of the images.

    Raises:
        ValueError: unless 0 < low < high.
    """

    def __init__(
        self,
        make: Callable[[int], DenoisingNetwork] = DenoisingNetwork,
        plug_and_play: Callable[[Denoiser], PlugAndPlay] = PlugAndPlay,
        levels: tuple[float, float] = (0.003, 0.3),
        training: Training | None = None,
        seed: int = 0,
    ) -> None:
        if not 0 < levels[0] < levels[1] < math.inf:
            raise ValueError(f"PlugAndPlayNetwork: noise levels are {levels}, expected 0 < lowest < highest")
        super().__init__(LearnedMethod(make, training, seed), lambda trained: plug_and_play(NetworkDenoiser(trained)))
        self.levels = levels

    def training_problems(self, train: Problem, validation: Problem) -> tuple[Problem, Problem]:
        """Their images in noise of every level."""
        return DenoisingProblem(train, self.levels), DenoisingProblem(validation, self.levels)
