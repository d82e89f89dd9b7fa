"""The convolutional networks inside the networks: they start at zero, and no image depends on the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepinv.models import UNet
from torch import nn

from .blocks import ConvolutionBlock
from .prelu import PReLU


def unet(inputs: int, outputs: int, widths: Sequence[int], gain: float = 1.0) -> ConvolutionBlock:
    """deepinv's U-Net without normalisation: ``[B, inputs, H, W]`` → ``[B, outputs, H, W]``, zero at the start.

    Images of any size are padded to what its scales need, and cropped.

    Args:
        inputs: planes that it sees.
        outputs: planes that it makes.
        widths: feature maps at each scale, finest first.
        gain: see :func:`amplify`.
    """
    body = UNet(inputs, outputs, residual=False, batch_norm=False, channels_per_scale=list(widths), device=None)
    amplify(body.Conv1[0], gain)
    return ConvolutionBlock(starting_at_zero(body, body.Conv_1x1))


def stack(inputs: int, outputs: int, width: int, depth: int, gain: float = 1.0) -> ConvolutionBlock:
    """``depth`` 3 × 3 convolutions with ReLU between them: ``[B, inputs, H, W]`` → ``[B, outputs, H, W]``, zero at the
    start. ``gain`` is that of :func:`amplify`.

    Raises:
        ValueError: if there are fewer than two convolutions.
    """
    if depth < 2:
        raise ValueError(f"a stack of {depth} convolutions; expected at least 2")
    first = nn.Conv2d(inputs, width, 3, padding=1)
    amplify(first, gain)
    layers: list[nn.Module] = [first]
    for _ in range(depth - 2):
        layers += [nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
    last = nn.Conv2d(width, outputs, 3, padding=1)
    return ConvolutionBlock(starting_at_zero(nn.Sequential(*layers, nn.ReLU(), last), last))


def prelu_stack(inputs: int, outputs: int, width: int, *, at_zero: bool = False) -> ConvolutionBlock:
    """Three 3 × 3 convolutions with a PReLU per channel between them: ``[B, inputs, H, W]`` → ``[B, outputs, H, W]``.

    Weights are Xavier's, and slopes start at zero (Adler & Öktem, TMI 2018); the last layer is zero with ``at_zero``.
    """
    last = nn.Conv2d(width, outputs, 3, padding=1)
    body = nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        PReLU(width, init=0.0),
        nn.Conv2d(width, width, 3, padding=1),
        PReLU(width, init=0.0),
        last,
    )
    for layer in body:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return ConvolutionBlock(starting_at_zero(body, last) if at_zero else body)


def amplify(first: nn.Conv2d, gain: float, inputs: int | None = None) -> None:
    """Multiply PyTorch's weights of a network's first layer, of its first ``inputs`` planes or all, by ``gain``.

    Biases stay. What ten times larger ones bring is told at :class:`Hybrid`.
    """
    with torch.no_grad():
        first.weight[:, :inputs] *= gain


def starting_at_zero(body: nn.Module, last: nn.Conv2d) -> nn.Module:
    """``body``, with its last layer set to zero: training then starts from the physics alone."""
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return body
