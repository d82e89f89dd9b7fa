"""The penalties that BART and SigPy have, so that all minimise one objective."""

from __future__ import annotations

import torch
from torch import Tensor

from ...baselines.terms import TotalVariationTerm
from ...baselines.wavelet_terms import WaveletTerm


class PeriodicTotalVariation(TotalVariationTerm):
    """Total variation of backward differences that wrap around: BART's isotropic, SigPy's anisotropic."""

    def analysis(self, x: Tensor) -> Tensor:
        return torch.stack([x - x.roll(1, -2), x - x.roll(1, -1)], dim=1)

    def adjoint(self, c: Tensor) -> Tensor:
        rows, columns = c.unbind(1)
        return rows - rows.roll(-1, -2) + columns - columns.roll(-1, -1)


class PeerWavelet(WaveletTerm):
    """λ Σ |W x| over all coefficients of a basis, the coarsest approximation included, on a grid that lies elsewhere.

    BART's and SigPy's filters of n taps begin at the image's first pixel, which ours do when the image is moved by
    n/2 − 1 pixels. Away from the edges the coefficients are the same then. At the edges theirs are not orthonormal,
    except for Haar wavelets, which never see an edge.

    Args:
        weight: λ.
        family: as for :class:`WaveletTerm`.
        levels: as for :class:`WaveletTerm`.
        taps: of a filter.
    """

    def __init__(self, weight: float, family: str, levels: int, taps: int) -> None:
        super().__init__(weight, family, levels)
        self.shift = 1 - taps // 2

    def analysis(self, x: Tensor) -> Tensor:
        return super().analysis(x.roll((self.shift, self.shift), (-2, -1)) if self.shift else x)

    def adjoint(self, c: Tensor) -> Tensor:
        x = super().adjoint(c)
        return x.roll((-self.shift, -self.shift), (-2, -1)) if self.shift else x

    def _shares(self, c: Tensor) -> Tensor:
        return c.new_ones(())
