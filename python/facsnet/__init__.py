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
from facsnet.crossvalidation import CrossValidation
from facsnet.datasets import (
    read_bosphorus,
    read_bp4d,
    read_celeba,
    read_ckplus,
    read_disfa,
    read_faces,
    read_openface,
    read_pyfeat,
)
from facsnet.estimator import AUClassifier
from facsnet.explain import occlusion_map
from facsnet.faces import Alignment, Face, Faces, align_faces
from facsnet.frames import FrameStore, extract_frames, open_frames
from facsnet.history import History
from facsnet.images import augment_image, crop_image, decode_image, read_image, resize_image
from facsnet.losses import Loss
from facsnet.network import LoadReport, Network, NetworkConfig, Preprocessing, load_weights
from facsnet.pretrained import pretrained, pretrained_table
from facsnet.protocol import cross_validate
from facsnet.report import Report
from facsnet.samples import DISFA_FOLDS, Sample, Samples
from facsnet.sampling import Sampling
from facsnet.stages import Augmentation, Optimiser, Schedule, Stage, two_stage
from facsnet.training import Trainer
from facsnet.yunet import YuNet

__all__ = [
    "DISFA_FOLDS",
    "AUClassifier",
    "Alignment",
    "Augmentation",
    "CrossValidation",
    "DeviceError",
    "Face",
    "Faces",
    "FormatError",
    "FrameStore",
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
    "YuNet",
    "__version__",
    "about",
    "align_faces",
    "augment_image",
    "benchmark",
    "crop_image",
    "cross_validate",
    "datasets",
    "decode_image",
    "extract_frames",
    "load_weights",
    "losses",
    "metrics",
    "occlusion_map",
    "open_frames",
    "pretrained",
    "pretrained_table",
    "read_bosphorus",
    "read_bp4d",
    "read_celeba",
    "read_ckplus",
    "read_disfa",
    "read_faces",
    "read_image",
    "read_openface",
    "read_pyfeat",
    "resize_image",
    "two_stage",
]
