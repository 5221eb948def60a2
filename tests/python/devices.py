"""The devices that tests run on: a pretended one everywhere, and the GPU where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import facsnet as fn
from facsnet import _core, _device

__all__ = ["MISSING", "PLACES"]

# The plugin that device="cuda" loads, where it is not the one beside the module.
if os.environ.get("FACS_TEST_PLUGIN"):
    _device.plugin_path = lambda: Path(os.environ["FACS_TEST_PLUGIN"])


def missing() -> str:
    """Why there is no GPU here, "" where there is one."""
    try:
        _core.device_facts(_device.plugin_of("cuda"))
    except fn.DeviceError as problem:
        return str(problem)
    return ""


MISSING = missing()
PLACES = ["pretend"] if MISSING else ["pretend", "gpu"]
