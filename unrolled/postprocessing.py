"""CNN post-processing: a direct reconstruction, and a convolutional network that repairs it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepinv.models import DnCNN
from torch import Tensor

from ..physics import LinearOperator
from .blocks import ConvolutionBlock
from .cnn import starting_at_zero, unet
from .conditioning import CONDITIONS, conditions
from .contract import Network


class UNetPostProcessing(Network):
    """x = x₀ + U(x₀) with x₀ = direct(y) (Jin, McCann, Froustey, Unser, TIP 2017): zero iterations of any solver.

    U is deepinv's U-Net without normalisation, so that an image never depends on the others of its batch; images of any
    size are padded to what its scales need, and cropped. Its last layer starts at zero: training starts from x₀.

    Args:
        channels: of the image; 1, or 2 for complex images.
        widths: feature maps at each scale, finest first.
        conditioned: whether U sees the :func:`conditions` of noise and sampling too.
        gain: of the first weights, over PyTorch's own, as that of :class:`Hybrid`.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (24, 48, 96),
        conditioned: bool = False,
        gain: float = 10.0,
    ) -> None:
        super().__init__()
        self.settings = {"network": "U-Net post-processing", "channels": channels, "widths": list(widths)}
        if conditioned:  # cards of others do not know the word
            self.settings["conditioned"] = True
        self.conditioned = conditioned
        self.correction = unet(channels + CONDITIONS * conditioned, channels, widths, gain)

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x = physics.direct(y)
        return x + self.correction(torch.cat((x, conditions(x, physics)), dim=1) if self.conditioned else x)


class DnCNNPostProcessing(Network):
    """x = x₀ + N(x₀) with x₀ = direct(y), and N a plain stack of 3 × 3 convolutions with ReLU between them.

    The residual DnCNN (Zhang, Zuo, Chen, Meng, Zhang, TIP 2017) as post-processing; the paper's has 17 layers of width
    64 (20 without a known noise level) and batch normalisation, which is left out here, as in deepinv's DnCNN, so that
    an image never depends on the others of its batch. Its last layer starts at zero: training starts from x₀. It sees
    2 · depth + 1 pixels, and is for artefacts that are as local: noise and blur rather than aliasing.

    Args:
        channels: of the image; 1, or 2 for complex images.
        depth: number of convolutions.
        width: feature maps.
    """

    def __init__(self, channels: int = 1, depth: int = 17, width: int = 64) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"DnCNN: {depth} convolutions; expected at least 2")
        self.settings = {"network": "DnCNN post-processing", "channels": channels, "depth": depth, "width": width}
        body = DnCNN(channels, channels, depth=depth, nf=width, pretrained=None)
        self.denoiser = ConvolutionBlock(starting_at_zero(body, body.out_conv))

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        return self.denoiser(physics.direct(y))  # the sum with its input is inside
