"""Training and running detectors of facial action units."""

from facsnet._core import DeviceError, FormatError

__all__ = ["DeviceError", "FormatError"]
