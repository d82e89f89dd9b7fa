"""Datasets, phantoms, readers, splits and measurement sets."""

from .datasets import Dataset, Sample
from .problem import Problem, SimulatedProblem, StoredProblem
from .read import read
from .volume import Metadata, ReadError, Volume

__all__ = [
    "Dataset",
    "Metadata",
    "Problem",
    "ReadError",
    "Sample",
    "SimulatedProblem",
    "StoredProblem",
    "Volume",
    "read",
]
