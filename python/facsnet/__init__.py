"""Training and running detectors of facial action units, by two-stage transfer learning, in C.

The whole job in one object is `AUClassifier`; `Samples`, `Network` and `Trainer` are its parts.
"""

# first: it decides how the core's workers wait
import facsnet._wait  # noqa: F401  isort: split
from facsnet import datasets, losses, metrics
from facsnet._about import about
from facsnet._core import DeviceError, FormatError
from facsnet._version import __version__
from facsnet.benchmark import benchmark
from facsnet.estimator import AUClassifier
from facsnet.history import History
from facsnet.images import augment_image, crop_image, decode_image, read_image, resize_image
from facsnet.losses import Loss
from facsnet.network import LoadReport, Network, NetworkConfig, Preprocessing, load_weights
from facsnet.pretrained import pretrained, pretrained_table
from facsnet.report import Report
from facsnet.samples import Sample, Samples
from facsnet.sampling import Sampling
from facsnet.stages import Augmentation, Optimiser, Schedule, Stage, two_stage
from facsnet.training import Trainer

__all__ = [
    "AUClassifier",
    "Augmentation",
    "DeviceError",
    "FormatError",
    "History",
    "LoadReport",
    "Loss",
    "Network",
    "NetworkConfig",
    "Optimiser",
    "Preprocessing",
    "Report",
    "Sample",
    "Samples",
    "Sampling",
    "Schedule",
    "Stage",
    "Trainer",
    "__version__",
    "about",
    "augment_image",
    "benchmark",
    "crop_image",
    "datasets",
    "decode_image",
    "load_weights",
    "losses",
    "metrics",
    "pretrained",
    "pretrained_table",
    "read_image",
    "resize_image",
    "two_stage",
]
