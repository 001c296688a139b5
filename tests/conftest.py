"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def pku_reid() -> Path:
    """Real pedestrians (PKU-Reid, 50 people): not part of the repository; tests that want them skip without them."""
    folder = Path(os.environ.get("PRSNET_PKU_REID", REPOSITORY.parent / "shared" / "data" / "PKUv1a_128x48"))
    if not folder.is_dir():
        pytest.skip(f"real data absent: {folder} is not there; set PRSNET_PKU_REID to run this test")
    return folder
