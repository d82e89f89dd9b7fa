"""Dual-domain post-processing: one network repairs the measurement, another one the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..physics import FourierSampling, LinearOperator, MultiCoilSampling
from ..physics.subset import unwrapped
from .cnn import stack, unet
from .contract import Network
from .planes import from_planes, to_planes


class DualDomain(Network):
    """x = x₁ + U(x₁) with x₁ = direct(y + N(y)): a CNN before and one after the direct reconstruction.

    The scheme of KIKI-net (Eo et al., MRM 2018) without its iterations, and of dual-domain networks for sinograms (Lin
    et al., CVPR 2019). N is a plain stack of convolutions and sees measurements divided by their root mean square; U is
    a U-Net. Both start at zero, so that training starts from direct(y). Of k-space the direct reconstruction takes all
    that N fills in, not only what the mask samples. Coils share N, each on its own.

    N sees complex numbers, so that one network takes any operator: a real measurement has a second plane of zeros, and
    what N makes of that is dropped.

    Args:
        channels: of the image; 1, or 2 for complex images.
        depth: convolutions of N.
        width: its feature maps.
        widths: of U, feature maps at each scale, finest first.
        gain: of U's first weights, over PyTorch's own, as that of :class:`Hybrid`.
    """

    def __init__(
        self,
        channels: int = 1,
        depth: int = 5,
        width: int = 32,
        widths: Sequence[int] = (24, 48, 96),
        gain: float = 10.0,
    ) -> None:
        super().__init__()
        self.settings = {
            "network": "Dual-domain post-processing",
            "channels": channels,
            "depth": depth,
            "width": width,
            "widths": list(widths),
        }
        self.measurement = stack(2, 2, width, depth)
        self.image = unet(channels, channels, widths, gain)

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x = direct_of_all(self.run(self.repair, y), physics)
        self.show(x)
        return x + self.run(self.image, x)

    def repair(self, y: Tensor) -> Tensor:
        """y + N(y)."""
        size = y.square().mean(tuple(range(1, y.ndim)), keepdim=True).clamp_min(torch.finfo(y.dtype).tiny).sqrt()
        if y.shape[1] == 2:
            return y + size * from_planes(self.measurement(to_planes(y / size, 2)), y.shape[1:])
        real = to_planes(y / size, 1)
        made = self.measurement(torch.cat((real, torch.zeros_like(real)), dim=1))[:, :1]
        return y + size * from_planes(made, y.shape[1:])


def direct_of_all(y: Tensor, physics: LinearOperator) -> Tensor:
    """direct(y), with the whole of a k-space even where the operator does not sample it."""
    operator, scale = unwrapped(physics)
    if isinstance(operator, FourierSampling):
        everywhere = torch.ones_like(operator.mask)
        return FourierSampling(everywhere, complex_image=operator.complex_image).direct(scale * y)
    if isinstance(operator, MultiCoilSampling):
        return MultiCoilSampling(torch.ones_like(operator.mask), operator.coil_maps).direct(scale * y)
    return physics.direct(y)
