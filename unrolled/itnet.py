"""ItNet: U-Nets and filtered residuals in turn, the winner of the AAPM sparse-view challenge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..physics import LinearOperator
from .cnn import unet
from .conditioning import CONDITIONS, conditions
from .contract import Network


class ItNet(Network):
    """ItNet (Genzel, Gühring, Macdonald, März, ICML 2022, eq. 4–5; Genzel, Macdonald, März 2021), for every operator A.

    From x = direct(y) and an empty memory m, iteration k is ::

        (c, m) = U_k(x, m)
        x = x + c
        x = x − λ_k direct(A x − y)

    with direct the filtered back-projection of tomography, which makes the residual's gradient well conditioned, and
    the direct reconstruction of any other operator. λ_k starts at 1, and at 0.1 in the last iteration (the paper's
    start at 1.1, 1.4, 1.4, 0.08), for the last one also puts noise back. U_k, a U-Net, starts at zero, so that the
    untrained network repeats the direct reconstruction of what is not yet explained.

    The papers have five memory channels, and first train one large U-Net as post-processing, then four iterations
    that share it, then five of which the last two have their own; here each iteration has its own small one, and all
    are trained together. The first U-Net has no memory to read, the last none to write.

    Args:
        channels: of the image; 1, or 2 for complex images.
        iterations: K.
        memory: channels that go from iteration to iteration.
        widths: of the U-Nets, feature maps at each scale, finest first.
        conditioned: whether the U-Nets see the :func:`conditions` of noise and sampling too.
        gain: of the U-Nets' first weights, over PyTorch's own, as that of :class:`Hybrid`. Ten brings 0.1 dB in
            denoising and 1.2 in reconstruction after 1,000 steps of ``real-mri`` (validation).
    """

    def __init__(
        self,
        channels: int = 1,
        iterations: int = 4,
        memory: int = 5,
        widths: Sequence[int] = (16, 32, 64),
        conditioned: bool = False,
        gain: float = 10.0,
    ) -> None:
        super().__init__()
        if iterations < 1 or memory < 0:
            raise ValueError(f"ItNet: {iterations} iterations with {memory} memory channels; expected ≥ 1 and ≥ 0")
        self.settings = {
            "network": "ItNet",
            "channels": channels,
            "iterations": iterations,
            "memory": memory,
            "widths": list(widths),
        }  # without gain, which changes no shape
        if conditioned:  # cards of others do not know the word
            self.settings["conditioned"] = True
        self.conditioned, last, known = conditioned, iterations - 1, CONDITIONS * conditioned
        self.iterations = nn.ModuleList(
            _Iteration(channels, known + memory * (k > 0), memory * (k < last), widths, 1.0 if k < last else 0.1, gain)
            for k in range(iterations)
        )

    def forward(self, y: Tensor, physics: LinearOperator) -> Tensor:
        """``[B, *range]`` → ``[B, *domain]``."""
        x = physics.direct(y)
        known = conditions(x, physics) if self.conditioned else x[:, :0]
        state = _State(x, x[:, :0])
        for iteration in self.iterations:
            state = self.run(iteration, state, known, y, physics)
            self.show(state.x)
        return state.x


class _State(NamedTuple):
    x: Tensor
    memory: Tensor


class _Iteration(nn.Module):
    def __init__(
        self, channels: int, read: int, written: int, widths: Sequence[int], step_size: float, gain: float
    ) -> None:
        super().__init__()
        self.channels = channels
        self.correction = unet(channels + read, channels + written, widths, gain)
        self.step_size = nn.Parameter(torch.tensor(step_size))

    def forward(self, state: _State, known: Tensor, y: Tensor, physics: LinearOperator) -> _State:
        made = self.correction(torch.cat((*state, known), dim=1))
        x = state.x + made[:, : self.channels]
        return _State(x - self.step_size * physics.direct(physics.A(x) - y), made[:, self.channels :])
