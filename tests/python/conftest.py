"""What several tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of weights and faces that are not in the repository: $FACSNET_DATA, else ../shared/data."""
    root = Path(os.environ.get("FACSNET_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"needs private test data: there is none at {root} (set FACSNET_DATA)")
    return root
