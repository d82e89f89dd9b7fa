"""The breast phantom of Sidky et al., whose gradient is sparse: the setting in which total variation is exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2
from scipy.ndimage import gaussian_filter

from .random_fields import generator

FIELD_MM = 180.0
RADIUS_MM = 80.0
SKIN_MM = 2.0
ADIPOSE = 0.0194  # attenuations in 1/mm
FIBROGLANDULAR = 0.0233
SPECKS = (0.0333, 0.0733)

_LATTICE = 512  # the finest size that has texture of its own; larger images are smooth below it
_EXPONENT = 3.0  # power spectrum ∝ frequency^-3, mammographic texture (Burgess 1999; Reiser & Nishikawa 2010)
_GLANDULAR_FRACTION = 0.25  # with the spectrum, this makes about 1,700 non-zero gradients at 128² without blur


def breast(seed: int, index: int, size: int = 512, *, blur: bool = False, specks: int | None = None) -> NDArray:
    """A slice of breast, ``[size, size]`` float32 in 1/mm over 180 mm (Sidky et al., TBME 2021, §III).

    A disc of radius 80 mm: skin at the rim, adipose tissue inside, fibroglandular tissue where a random field with a
    power-law spectrum passes a threshold, and single-pixel specks of .0333 to .0733 1/mm. Piecewise constant unless
    blurred. The texture is one random field for every size; the specks are pixels, so they shrink with the grid.

    Args:
        seed, index: image k of seed s is the same however many are asked for.
        size: pixels in each direction.
        blur: Gaussian of 1 pixel full width at half maximum, as in the challenge of 2021.
        specks: how many; drawn from 10 to 25 when absent.
    """
    if size < 16:
        raise ValueError(f"breast: size {size} leaves no room for its 2 mm skin; at least 16 pixels are needed")
    rng = generator("breast", seed, index)
    drawn = int(rng.integers(10, 26))
    field = _power_law_field(rng, size)

    axis = (np.arange(size) + 0.5) * FIELD_MM / size - FIELD_MM / 2
    radius = np.hypot(axis[:, None], axis[None, :])
    inside = radius < RADIUS_MM - SKIN_MM
    # Glands gather in the middle: the threshold rises towards the skin and nothing passes it there.
    score = field - 2.0 * (radius / RADIUS_MM) ** 4
    threshold = np.quantile(score[inside], 1 - _GLANDULAR_FRACTION)
    image = np.where(radius < RADIUS_MM, FIBROGLANDULAR, 0.0)
    image[inside & (score <= threshold)] = ADIPOSE

    count = drawn if specks is None else specks
    # Uniform over the disc by area, away from the skin.
    distance = (RADIUS_MM - 4 * SKIN_MM) * np.sqrt(rng.uniform(size=count))
    angle = rng.uniform(0, 2 * np.pi, count)
    columns, rows = (
        np.floor((distance * f(angle) + FIELD_MM / 2) / FIELD_MM * size).astype(int) for f in (np.cos, np.sin)
    )
    image[rows, columns] = rng.uniform(*SPECKS, count)
    if blur:
        image = gaussian_filter(image, 1 / np.sqrt(8 * np.log(2)), truncate=6)
    return image.astype(np.float32)


def _power_law_field(rng: np.random.Generator, size: int) -> NDArray:
    """A periodic Gaussian field, spectrum ∝ f^-3, from Fourier coefficients that do not depend on the size."""
    half = _LATTICE // 2
    coefficients = rng.standard_normal((2 * half - 1, half)) + 1j * rng.standard_normal((2 * half - 1, half))
    rows, columns = np.arange(-half + 1, half)[:, None], np.arange(half)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[half - 1, 0] = np.inf  # no mean
    coefficients *= frequency ** (-_EXPONENT / 2)
    coefficients[:, 0] *= np.sqrt(2)  # the only column that holds both signs of its frequencies

    keep = min(half, (size + 1) // 2) - 1
    spectrum = np.zeros((size, size // 2 + 1), dtype=complex)
    spectrum[np.arange(-keep, keep + 1), : keep + 1] = coefficients[half - 1 - keep : half + keep, : keep + 1]
    # Sample at pixel centres, half a pixel into each cell, so that sizes agree on where the structures are.
    shift = np.exp(1j * np.pi * np.fft.fftfreq(size))
    field = irfft2(spectrum * shift[:, None] * shift[None, : size // 2 + 1], s=(size, size), norm="forward")
    return np.asarray(field / field.std())
