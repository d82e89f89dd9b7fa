"""The Wiener filter: the best linear estimate for images and noise of known power spectra (Wiener 1949)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..physics import LinearOperator, Normalised
from ..physics.periodic import filter_image
from .tuned import Estimate, Parameter, TunedMethod, Tuning


class Wiener(TunedMethod):
    """x̂ = F⁻¹[F(Aᵀy) / (s(k) + ν |k|^p)], s the spectrum of AᵀA, where that is a circular convolution.

    It is the linear estimate of least mean square error for white noise and images with the power spectrum |k|^−p; that
    of natural images falls with p = 2 (Field 1987). A is divided by its norm, and |k| by the Nyquist frequency, so that
    ν is the noise-to-signal ratio there.

    Args:
        noise_to_signal: ν ≥ 0; None tunes it in :meth:`fit`. It has no unit: results scale with the data.
        exponent: p ≥ 0; 0 is a white spectrum, the same ν at every frequency.
        tuning: how ν is chosen.
    """

    searched = (Parameter("noise_to_signal", 1e-6, 1e3),)

    def __init__(
        self, noise_to_signal: float | None = None, exponent: float = 2.0, tuning: Tuning | None = None
    ) -> None:
        super().__init__({"noise_to_signal": noise_to_signal}, tuning)
        if not exponent >= 0:
            raise ValueError(f"Wiener: exponent is {exponent}, expected a number ≥ 0")
        self.exponent = exponent

    def estimate(
        self, y: Tensor, physics: LinearOperator, values: Mapping[str, float], *, start: Any = None, rough: bool = False
    ) -> Estimate:
        A = Normalised(physics)
        if A.fourier_normal is None:
            raise ValueError(
                f"Wiener: AᵀA of {type(physics).__name__} is no circular convolution, so that it is no filter; "
                "take tikhonov with penalty: gradient"
            )
        spectrum = A.fourier_normal.double()
        rows, columns = (2 * torch.fft.fftfreq(n, dtype=torch.float64, device=spectrum.device) for n in spectrum.shape)
        frequency = (rows[:, None] ** 2 + columns**2).sqrt()
        total = spectrum + values["noise_to_signal"] * frequency**self.exponent
        # Aᵀy holds nothing but rounding error of a frequency that is not measured, and a small ν would amplify it.
        seen = spectrum > (10 * torch.finfo(y.dtype).eps) ** 2
        inverse = torch.where(seen, 1 / torch.where(seen, total, 1), 0)
        return Estimate(filter_image(A.A_adjoint(y / A.scale), inverse))
