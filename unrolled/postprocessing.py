"""CNN post-processing: a direct reconstruction, and a convolutional network that repairs it."""

from __future__ import annotations

from collections.abc import Sequence

from deepinv.models import UNet
from torch import Tensor, nn

from ..physics import LinearOperator
from .blocks import ConvolutionBlock
from .contract import Network


class UNetPostProcessing(Network):
    """x = x₀ + U(x₀) with x₀ = direct(y) (Jin, McCann, Froustey, Unser, TIP 2017): zero iterations of any solver.

    U is deepinv's U-Net without normalisation, so that an image never depends on the others of its batch; images of any
    size are padded to what its scales need, and cropped. Its last layer starts at zero: training starts from x₀.

    Args:
        channels: of the image; 1, or 2 for complex images.
        widths: feature maps at each scale, finest first.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = (24, 48, 96)) -> None:
        super().__init__()
        self.settings = {"network": "U-Net post-processing", "channels": channels, "widths": list(widths)}
        body = UNet(channels, channels, residual=False, batch_norm=False, channels_per_scale=list(widths), device=None)
        nn.init.zeros_(body.Conv_1x1.weight)
        nn.init.zeros_(body.Conv_1x1.bias)
        self.correction = ConvolutionBlock(body)

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x = physics.direct(y)
        return x + self.correction(x)
