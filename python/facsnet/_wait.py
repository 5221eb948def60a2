"""How long idle workers of the C core wait before they give their processor away; imported before the core.

libgomp's default spins for milliseconds. That is right on an idle machine and ruinous on a shared
one: with one other busy process on two cores, training ran at a half to a tenth of its speed. What is
set here is just longer than the gaps between the layers of one image, some tenths of a millisecond. The
runtime reads its environment once, when it is loaded, so the variable is set for that moment alone.
"""

from __future__ import annotations

import os

_SPINS = "4000"


def load_core() -> None:
    """Imports the C core with short waits, unless the user has chosen otherwise."""
    chosen = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = _SPINS
    try:
        import facsnet._core  # noqa: F401
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]


load_core()
