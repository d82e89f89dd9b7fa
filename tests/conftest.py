"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tests are small: a second thread costs them more than it brings


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images; tests that need it are skipped where it is absent, as it is for a user."""
    folder = Path(os.environ.get("ISOCENTER_MIRROR") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip(f"no real images at {folder}; set ISOCENTER_MIRROR to a folder that has them")
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
