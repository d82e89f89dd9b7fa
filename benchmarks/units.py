"""The units in which a report shows what is stored: attenuations in cm⁻¹, as the field does, images of CT in HU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_SHOWN = {"1/mm": (10.0, "cm⁻¹")}


@dataclass(frozen=True)
class Scale:
    """From the unit that values are stored in, that of the dataset, to the unit that they are shown in."""

    factor: float
    offset: float
    unit: str

    @classmethod
    def of_values(cls, info: Mapping[str, Any]) -> Scale:
        """Of errors and ranges of the images of a ``task.json``."""
        unit = str(info.get("units") or "")
        factor, shown = _SHOWN.get(unit, (1.0, unit))
        return cls(factor, 0.0, shown)

    @classmethod
    def of_images(cls, info: Mapping[str, Any]) -> Scale:
        """Of the images themselves: Hounsfield units where the attenuation of water is known."""
        water = info.get("water")
        return cls(1000 / water, -1000.0, "HU") if water else cls.of_values(info)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values.astype(np.float64) * self.factor + self.offset
