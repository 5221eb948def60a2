"""The whole job in one object: train, evaluate, predict, save, load."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facsnet import _core, metrics
from facsnet._safetensors import read_safetensors, write_safetensors
from facsnet.history import History
from facsnet.images import read_image, resize_image
from facsnet.loading import logits_of
from facsnet.losses import Loss
from facsnet.network import LoadReport, Network, NetworkConfig
from facsnet.report import Report
from facsnet.samples import Samples
from facsnet.stages import Stage, two_stage
from facsnet.training import Trainer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AUClassifier"]

FloatArray = npt.NDArray[np.float32]
_FORMAT = "facsnet.model"


class AUClassifier:
    """A detector of action units: network, two-stage training, thresholds.

    Parameters
    ----------
    backbone : str
        ``"mobilenet_v1"``.
    weights : path or "demo", optional
        Checkpoint of the backbone; ``"demo"`` is the small network that ships with the package
        (width 0.25, for trying things out). None starts from random weights.
    loss : str or Loss
        ``"bce"``, ``"weighted_bce"``, ``"lsep"`` or ``"pr"``.
    width, input_size : float, int
        Of the backbone.
    stages : sequence of Stage, optional
        Default ``two_stage(head_epochs, finetune_epochs, unfreeze, finetune_rate)``.
    head_epochs, finetune_epochs : int
    unfreeze : str
        What fine-tuning trains: ``"all"`` or everything from a block.
    finetune_rate : float
        The paper's 1e-5; small sets want more (1e-4).
    batch_size : int
    monitor : str
        Validation score that picks the epoch, see `Trainer`.
    threshold_shrinkage : float
        How far thresholds of rare labels are drawn to the median, see `metrics.fit_thresholds`.
    flip_average : bool
        Predict the mean of the plain and the mirrored image's logits.
    random_state : int
        Of weights, order, augmentation, dropout and the inner split.
    threads, progress
        See `Network`, `Trainer`.

    Attributes
    ----------
    network_ : Network
    history_ : History
    thresholds_ : float64 array (k,)
        Per label the threshold of the best F1 on the validation part, see `threshold_shrinkage`.
    training_subjects_ : tuple of str
        Subjects of the training and validation parts; `evaluate` refuses them.
    """

    def __init__(
        self,
        backbone: str = "mobilenet_v1",
        *,
        weights: str | os.PathLike[str] | None = None,
        loss: str | Loss = "bce",
        width: float | None = None,
        input_size: int = 224,
        stages: Sequence[Stage] | None = None,
        head_epochs: int = 10,
        finetune_epochs: int = 10,
        unfreeze: str = "all",
        finetune_rate: float = 1e-5,
        batch_size: int = 64,
        monitor: str = "roc_auc",
        threshold_shrinkage: float = 5.0,
        flip_average: bool = True,
        random_state: int = 0,
        threads: int | None = None,
        progress: bool | None = None,
    ) -> None:
        self.backbone, self.weights, self.loss = backbone, weights, loss
        self.width, self.input_size = width, input_size
        self.stages = stages
        self.head_epochs, self.finetune_epochs = head_epochs, finetune_epochs
        self.unfreeze, self.finetune_rate = unfreeze, finetune_rate
        self.batch_size, self.monitor = batch_size, monitor
        self.threshold_shrinkage, self.flip_average = threshold_shrinkage, flip_average
        self.random_state, self.threads, self.progress = random_state, threads, progress
        self.network_: Network | None = None
        self.history_ = History()
        self.thresholds_: npt.NDArray[np.float64] = np.zeros(0)
        self.training_subjects_: tuple[str, ...] = ()
        self.load_report_: LoadReport | None = None

    # --- training

    def fit(self, train: Samples, valid: Samples | None = None) -> AUClassifier:
        """Trains on ``train``; epoch and thresholds are chosen on ``valid``.

        Parameters
        ----------
        train : Samples
        valid : Samples, optional
            None holds every fifth subject of ``train`` out (every fifth sample where subjects are
            not known).

        Returns
        -------
        AUClassifier
            Itself.
        """
        if len(train) == 0:
            raise ValueError("train: there are no samples")
        inner = train
        if valid is None:
            inner, valid = train.inner_split(every=5, seed=self.random_state)
        network = self._make_network(train.label_names)
        stages = self.stages
        if stages is None:
            stages = two_stage(
                head_epochs=self.head_epochs,
                finetune_epochs=self.finetune_epochs,
                unfreeze=self.unfreeze,
                finetune_rate=self.finetune_rate,
            )
        trainer = Trainer(
            network,
            loss=self.loss,
            stages=stages,
            batch_size=self.batch_size,
            seed=self.random_state,
            monitor=self.monitor,
            progress=self.progress,
        )
        self.history_ = trainer.fit(inner, valid)
        self.network_ = network
        self.training_subjects_ = tuple(sorted({*_subjects(inner), *_subjects(valid)}))
        self.thresholds_ = metrics.fit_thresholds(
            self._scores(valid), valid.labels, shrinkage=self.threshold_shrinkage, names=valid.label_names
        )
        return self

    def _make_network(self, labels: Sequence[str]) -> Network:
        weights = self.weights
        if weights == "demo":
            weights = Path(__file__).parent / "models" / "mobilenet_v1_0.25_synthetic.safetensors"
        width = self.width
        if width is None:
            width = _width_of(weights) if weights is not None else 1.0
        network = Network(
            self.backbone,
            labels=labels,
            width=width,
            input_size=self.input_size,
            threads=self.threads,
            seed=self.random_state,
        )
        self.load_report_ = network.load_weights(weights) if weights is not None else None
        return network

    # --- use

    @property
    def network(self) -> Network:
        """The trained network; raises RuntimeError before `fit` or `load`."""
        if self.network_ is None:
            raise RuntimeError("this AUClassifier is not trained: call fit or load first")
        return self.network_

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.network.label_names

    def _scores(self, samples: Samples) -> FloatArray:
        logits = logits_of(self.network, samples)
        if self.flip_average:
            logits = (logits + logits_of(self.network, samples, flip=True)) * np.float32(0.5)
        return _core.sigmoid(logits)

    def evaluate(self, test: Samples, *, allow_training_subjects: bool = False) -> Report:
        """Scores on subjects the model has not seen.

        Raises
        ------
        ValueError
            Labels differ, or a subject of the training data is in ``test`` (unless allowed).
        """
        if tuple(test.label_names) != self.label_names:
            raise ValueError(f"test: labels are {list(test.label_names)}, the model's are {list(self.label_names)}")
        seen = sorted(set(self.training_subjects_) & set(_subjects(test)))
        if seen and not allow_training_subjects:
            raise ValueError(
                f"test: {len(seen)} subjects were trained on, first {seen[:5]}; pass allow_training_subjects=True to score them all the same"
            )
        return Report(
            label_names=self.label_names,
            scores=self._scores(test),
            target=test.labels,
            thresholds=self.thresholds_,
            config=self._facts(),
            history=self.history_.rows,
            samples=test,
        )

    def _facts(self) -> dict[str, Any]:
        c = self.network.config
        return {
            "backbone": c.name,
            "width": c.width,
            "input size": c.input_size,
            "parameters": self.network.parameter_count(),
            "loss": self.loss if isinstance(self.loss, str) else self.loss.name,
            "training subjects": len(self.training_subjects_),
            "weights": str(self.weights) if self.weights is not None else "random",
        }

    def predict_proba(self, images: npt.ArrayLike | Sequence[str | os.PathLike[str]]) -> FloatArray:
        """Probabilities (n, k) of an (n, h, w, 3) uint8 array or of image files."""
        x = self._pixels(images)
        logits = self.network.forward(x)
        if self.flip_average:
            logits = (logits + self.network.forward(np.ascontiguousarray(x[:, :, ::-1]))) * np.float32(0.5)
        return _core.sigmoid(logits)

    def predict(self, images: npt.ArrayLike | Sequence[str | os.PathLike[str]]) -> npt.NDArray[np.bool_]:
        """Which labels are on, (n, k), at the fitted thresholds."""
        return np.asarray(self.predict_proba(images) >= self.thresholds_, dtype=np.bool_)

    def _pixels(self, images: Any) -> npt.NDArray[np.uint8]:
        size = self.network.input_size
        if isinstance(images, np.ndarray):
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
                raise ValueError(f"images: {images.dtype} array of shape {images.shape}, want uint8 (n, h, w, 3)")
            if images.shape[1:3] == (size, size):
                return images
            return np.stack([resize_image(image, size, size) for image in images])
        if isinstance(images, (str, os.PathLike)):
            raise ValueError(f"images is one path ({os.fspath(images)!r}), want a sequence of paths")
        paths = list(images)
        if not paths:
            raise ValueError("images: the list is empty")
        return np.stack([read_image(path, size=size) for path in paths])

    def predict_frame(self, paths: Sequence[str | os.PathLike[str]], *, batch_size: int = 64) -> pd.DataFrame:
        """One row per file: input, success, and the probability of every label.

        A file that cannot be read is a row with success 0, NaN probabilities and the reason in
        the column ``error``.
        """
        import pandas as pd

        size = self.network.input_size
        rows: list[dict[str, Any]] = []
        for start in range(0, len(paths), batch_size):
            group = [os.fspath(p) for p in paths[start : start + batch_size]]
            pixels, errors = _read_all(group, size)
            scores = iter(self.predict_proba(np.stack(pixels)) if pixels else ())
            for path, error in zip(group, errors, strict=True):
                values = next(scores) if not error else np.full(len(self.label_names), np.nan, np.float32)
                rows.append(
                    {
                        "input": path,
                        "success": int(not error),
                        **dict(zip(self.label_names, values, strict=True)),
                        "error": error,
                    }
                )
        return pd.DataFrame(rows, columns=["input", "success", *self.label_names, "error"])

    # --- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one safetensors file: weights, config, labels, preprocessing, thresholds, training subjects, history."""
        model = {
            "version": 1,
            "network": self.network.config.to_dict(),
            "thresholds": [float(t) for t in self.thresholds_],
            "training_subjects": list(self.training_subjects_),
            "flip_average": self.flip_average,
            "loss": self.loss if isinstance(self.loss, str) else self.loss.name,
            "history": self.history_.rows,
        }
        write_safetensors(path, self.network.state_dict(), {_FORMAT: json.dumps(model)}, checksums=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> AUClassifier:
        """Reads what `save` wrote.

        Raises
        ------
        FormatError
            The file is damaged or is not a model of this library.
        """
        tensors, metadata = read_safetensors(path)
        model = _parse_model(path, metadata)
        config = NetworkConfig.from_dict(model["network"])
        det = cls(
            config.name,
            loss=model["loss"],
            width=config.width,
            input_size=config.input_size,
            flip_average=model["flip_average"],
            threads=threads,
        )
        network = Network.from_config(config, threads=threads)
        network.load_state_dict(tensors, source=os.fspath(path))
        det.network_ = network
        det.thresholds_ = np.asarray(model["thresholds"], np.float64)
        det.training_subjects_ = tuple(model["training_subjects"])
        det.history_ = History(rows=model["history"])
        return det


def _subjects(samples: Samples) -> list[str]:
    return [] if samples.subjects is None else [str(s) for s in samples.subjects]


def _read_all(paths: Sequence[str], size: int) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """The images that can be read, and per path why it cannot ("" where it can)."""
    pixels, errors = [], []
    for path in paths:
        try:
            pixels.append(read_image(path, size=size))
            errors.append("")
        except (OSError, ValueError) as problem:
            errors.append(str(problem))
    return pixels, errors


def _width_of(path: str | os.PathLike[str]) -> float:
    """The width of a MobileNet-v1 checkpoint, from its stem."""
    tensors, _ = read_safetensors(path)
    stem = tensors.get("mobilenet_v1.conv_stem.convolution.weight")
    return 1.0 if stem is None else stem.shape[0] / 32


def _parse_model(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> dict[str, Any]:
    if _FORMAT not in metadata:
        raise _core.FormatError(f"{os.fspath(path)}: not a facsnet model: its metadata has no {_FORMAT!r}")
    try:
        model = json.loads(metadata[_FORMAT])
        for key in ("network", "thresholds", "training_subjects", "flip_average", "loss", "history"):
            model[key]
    except (ValueError, KeyError, TypeError) as problem:
        raise _core.FormatError(f"{os.fspath(path)}: the model's description is damaged: {problem}") from None
    if not isinstance(model, dict):
        raise _core.FormatError(f"{os.fspath(path)}: the model's description is not a table")
    return model
