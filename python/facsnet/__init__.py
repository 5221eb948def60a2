"""Training and running detectors of facial action units."""

from facsnet._core import DeviceError, FormatError
from facsnet.images import augment_image, crop_image, decode_image, read_image, resize_image

__all__ = [
    "DeviceError",
    "FormatError",
    "augment_image",
    "crop_image",
    "decode_image",
    "read_image",
    "resize_image",
]
