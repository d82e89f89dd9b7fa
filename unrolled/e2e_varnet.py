"""E2E-VarNet: soft data consistency and a U-Net in each cascade, and coil maps that can be learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..physics import LinearOperator, MultiCoilSampling
from ..physics.fourier import fft2, ifft2, to_channels, to_complex
from ..physics.subset import unwrapped
from .cnn import unet
from .coil_maps import CoilMapEstimation, combine, normalise_maps, standardise
from .contract import Network


class E2EVarNet(Network):
    """E2E-VarNet (Sriram et al., MICCAI 2020, eq. 6–8), for every operator A of norm one.

    For several coils the state is their k-space, from what was measured, k = y. A cascade, with its own weight w and
    U-Net, is ::

        k = k − w M (k − y) − F S U(Sᴴ Fᴴ k)

    with the mask M and the coil maps S, Σ |s|² = 1. At the end the coil images Fᴴ k are combined as the operator's maps
    demand, Σ s̄ Fᴴ k / Σ |s|². For any other operator the state is the image, from x = direct(y) ::

        x = x − w Aᴴ(A x − y) − U(x)

    With one coil of constant sensitivity F S is unitary and both are the same iteration. With several they are not: the
    k-space of the coils also holds what no image explains, such as noise, and measured values stay as they are where
    w = 1. Weights start at 1, as in the paper.

    U sees images with each channel shifted and scaled to mean 0 and deviation 1, image by image, and its output is
    scaled back: the network is equivariant to the scale of y. Unlike in fastMRI's code the mean is not added to the
    output, which is a correction: here it starts at zero, so that training starts from the direct reconstruction. The
    paper has 12 cascades of U-Nets with widths 18, 36, 72, 144, 288, and one with 8, 16, 32, 64, 128 for the maps, with
    instance normalisation: 30 million parameters. Here U-Nets are deepinv's, without normalisation inside.

    Args:
        channels: of the image; 1, or 2 for complex images.
        cascades: their number.
        widths: of the U-Nets, feature maps at each scale, finest first.
        coil_maps: ``"operator"`` takes S from the operator; ``"estimated"`` from the calibration region by a learned
            network, see :class:`CoilMapEstimation`.
        gain: of the first weights for images, over PyTorch's own, as that of :class:`Hybrid`.
    """

    def __init__(
        self,
        channels: int = 1,
        cascades: int = 6,
        widths: Sequence[int] = (12, 24, 48),
        coil_maps: Literal["operator", "estimated"] = "operator",
        gain: float = 10.0,
    ) -> None:
        super().__init__()
        if cascades < 1 or coil_maps not in ("operator", "estimated"):
            raise ValueError(
                f"E2EVarNet: {cascades} cascades with coil_maps={coil_maps!r}; expected at least 1, and 'operator' or "
                "'estimated'"
            )
        self.settings = {
            "network": "E2E-VarNet",
            "channels": channels,
            "cascades": cascades,
            "widths": list(widths),
            "coil_maps": coil_maps,
        }
        self.cascades = nn.ModuleList(_Cascade(channels, widths, gain) for _ in range(cascades))
        self.estimate = CoilMapEstimation(widths) if coil_maps == "estimated" else None

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``.

        Raises:
            ValueError: if maps are to be estimated and the operator has no coils, or no calibration region.
        """
        space = self._space(y, physics)
        state = space.start
        for cascade in self.cascades:
            state = self.run(cascade, state, space)
            self.show(space.image(state))
        return space.image(state)

    def _space(self, y: Tensor, physics: LinearOperator) -> _Space:
        operator, scale = unwrapped(physics)
        if isinstance(operator, MultiCoilSampling):
            mask, maps = physics.support, operator.coil_maps.to(y.dtype)[None]
            assert mask is not None  # even a part of a scan has that of the scan
            used = self.run(self.estimate, y, mask) if self.estimate else normalise_maps(maps)
            return _CoilSpace(scale * y, mask, used, maps)
        if self.estimate:
            raise ValueError(
                f"E2EVarNet: {type(operator).__name__} has no coils whose maps could be estimated; give "
                "coil_maps='operator'"
            )
        return _ImageSpace(y, physics)


class _Cascade(nn.Module):
    """state − w · misfit(state) − expand(U(reduce(state)))."""

    def __init__(self, channels: int, widths: Sequence[int], gain: float) -> None:
        super().__init__()
        self.correction = unet(channels, channels, widths, gain)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, state: Tensor, space: _Space) -> Tensor:
        x, deviation = standardise(space.reduce(state))
        return state - self.weight * space.misfit(state) - space.expand(deviation * self.correction(x))


class _Space(ABC):
    """Where the state lives, and how it meets the measurement and the image."""

    start: Tensor

    @abstractmethod
    def misfit(self, state: Tensor) -> Tensor:
        """The gradient of ½‖A x − y‖², or of ½‖M k − y‖²."""

    def reduce(self, state: Tensor) -> Tensor:
        """The image that the U-Net sees."""
        return state

    def expand(self, x: Tensor) -> Tensor:
        """What the U-Net's image is in the state."""
        return x

    def image(self, state: Tensor) -> Tensor:
        """The reconstruction."""
        return state


class _ImageSpace(_Space):
    def __init__(self, y: Tensor, physics: LinearOperator) -> None:
        self.physics, self.adjoint, self.start = physics, physics.A_adjoint(y), physics.direct(y)

    def misfit(self, state: Tensor) -> Tensor:
        return self.physics.normal(state) - self.adjoint


class _CoilSpace(_Space):
    """k-space of all coils, ``[B, 2, coils, H, W]``."""

    def __init__(self, y: Tensor, mask: Tensor, maps: Tensor, operator_maps: Tensor) -> None:
        self.start, self.mask, self.maps, self.operator_maps = y * mask, mask, maps, operator_maps

    def misfit(self, state: Tensor) -> Tensor:
        return self.mask * state - self.start

    def reduce(self, state: Tensor) -> Tensor:
        return combine(ifft2(state), self.maps)

    def expand(self, x: Tensor) -> Tensor:
        return fft2(to_channels(to_complex(self.maps) * to_complex(x)[:, None]))

    def image(self, state: Tensor) -> Tensor:
        seen = self.operator_maps.square().sum((1, 2))[:, None]
        x = combine(ifft2(state), self.operator_maps)
        return torch.where(seen > 1e-6 * seen.max(), x / seen.clamp_min(torch.finfo(x.dtype).tiny), 0)
