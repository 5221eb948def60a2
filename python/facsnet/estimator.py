"""The whole job in one object: train, evaluate, predict, save, load."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import numpy.typing as npt

from facsnet import _core, metrics
from facsnet._device import check_device
from facsnet._inputs import Images, listed, pixels_of, read_all
from facsnet._model import image_digests, parse_model, write_model
from facsnet._plain import to_plain
from facsnet._recipe import check_recipe, make_cutter
from facsnet._safetensors import read_safetensors, write_safetensors
from facsnet.faces import Alignment, FaceSource
from facsnet.history import History
from facsnet.loading import Reader
from facsnet.losses import Loss
from facsnet.network import LoadReport, Network, check_dtype
from facsnet.pretrained import pretrained
from facsnet.report import Report
from facsnet.samples import Samples
from facsnet.stages import Stage, two_stage
from facsnet.training import Trainer
from facsnet.weights import read_checkpoint

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AUClassifier"]

FloatArray = npt.NDArray[np.float32]
# Columns of predict_frame beside the labels.
_COLUMNS = ("input", "success", "error")

# Arguments that are of the machine and not of the model.
_OF_THE_MACHINE = ("threads", "dtype", "device", "progress", "memory", "cache_limit", "cache_folder")


class AUClassifier:
    """A detector of action units: network, two-stage training, thresholds.

    Parameters
    ----------
    backbone : str
        One of the networks of `Network`.
    weights : path, "imagenet" or "demo", optional
        Checkpoint of the backbone, see `Network.load_weights`. ``"imagenet"`` fetches the public one
        with `pretrained`; ``"demo"`` is the small MobileNet-v1 that ships with the package (width
        0.25, for trying things out). None starts from random weights, which is no backbone to freeze.
    loss : str or Loss
        One of `losses.NAMES`, or a `Loss`.
    width, input_size : float, int
        Of the backbone.
    stages : sequence of Stage, optional
        Default `two_stage` with the five arguments below.
    head_epochs, finetune_epochs : int
    unfreeze : str
        What fine-tuning trains: ``"all"`` or everything from a block.
    finetune_rate : float
        The paper's 1e-5; small sets want more (1e-4).
    block_rates : mapping of block name to factor, optional
        Multiplies the fine-tuning rate of single blocks of `Network.blocks`.
    batch_size : int
    monitor : str
        Validation score that picks the epoch, see `Trainer`.
    threshold_shrinkage : float
        How far thresholds of rare labels are drawn to the median, see `metrics.fit_thresholds`.
    flip_average : bool
        Predict the mean of the plain and the mirrored image's logits.
    random_state : int
        Of weights, order, augmentation, dropout and the inner split.
    threads, dtype, device, progress, memory, cache_limit, cache_folder
        See `Network`, `Trainer`. They belong to the process: a saved model knows nothing of them.

    Attributes
    ----------
    network_ : Network
    history_ : History
    thresholds_ : float64 array (k,)
        Per label the threshold of the best F1 on the validation part, see `threshold_shrinkage`.
    training_subjects_ : tuple of str
        Subjects of the training and validation parts; `evaluate` refuses them.
    recipe_ : Alignment, or None
        How the faces it was trained on were cut out of their images; `evaluate` and predictions want
        faces cut alike.
    training_images_ : tuple of str
        Digests of the bytes of their images, which `evaluate` refuses too.
    load_report_ : LoadReport, or None
        What the backbone took from ``weights``.
    trainer_ : Trainer, or None
        Of the last `fit`, also of one that failed: its ``network`` holds the best weights so far,
        its ``history_`` the epochs.
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
        block_rates: Mapping[str, float] | None = None,
        batch_size: int = 64,
        monitor: str = "roc_auc",
        threshold_shrinkage: float = 5.0,
        flip_average: bool = True,
        random_state: int = 0,
        threads: int | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        progress: bool | None = None,
        memory: str = "normal",
        cache_limit: int | str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.backbone, self.weights, self.loss = backbone, weights, loss
        self.width, self.input_size = width, input_size
        self.stages = stages
        self.head_epochs, self.finetune_epochs = head_epochs, finetune_epochs
        self.unfreeze, self.finetune_rate, self.block_rates = unfreeze, finetune_rate, block_rates
        self.batch_size, self.monitor = batch_size, monitor
        self.threshold_shrinkage, self.flip_average = threshold_shrinkage, flip_average
        self.random_state, self.threads, self.dtype, self.device = random_state, threads, dtype, device
        self.progress, self.memory = progress, memory
        self.cache_limit, self.cache_folder = cache_limit, cache_folder
        self.network_: Network | None = None
        self.history_ = History()
        self.thresholds_: npt.NDArray[np.float64] = np.zeros(0)
        self.training_subjects_: tuple[str, ...] = ()
        self.training_images_: tuple[str, ...] = ()
        self.recipe_: Alignment | None = None
        self.load_report_: LoadReport | None = None
        self.trainer_: Trainer | None = None

    # --- training

    def fit(self, train: Samples, valid: Samples | None = None) -> AUClassifier:
        """Trains on ``train``; epoch and thresholds are chosen on ``valid``.

        Ctrl-C ends training early and leaves a whole detector, see `Trainer.fit`. Where fit raises,
        the detector is what it was before, but for `trainer_`.

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

        Raises
        ------
        ValueError, OSError
            As `Trainer.fit`; or a label has the name of a column of `predict_frame`.

        Warns
        -----
        UserWarning
            Subjects are not known, or a stage freezes a backbone of random weights.
        """
        self._check(train, valid)
        if valid is not None:
            check_recipe("valid", valid.recipe, train.recipe, "train")
        inner = train
        if valid is None:
            inner, valid = train.inner_split(every=5, seed=self.random_state)
        network, loaded = self._make_network(train.label_names)
        trainer = Trainer(
            network,
            loss=self.loss,
            stages=self._training_stages(network),
            batch_size=self.batch_size,
            seed=self.random_state,
            monitor=self.monitor,
            progress=self.progress,
            memory=self.memory,
            cache_limit=self.cache_limit,
            cache_folder=self.cache_folder,
        )
        self.trainer_ = trainer
        history = trainer.fit(inner, valid)
        thresholds = metrics.fit_thresholds(
            self._scores(network, valid), valid.labels, shrinkage=self.threshold_shrinkage, names=valid.label_names
        )
        subjects = tuple(sorted({*_subjects(inner), *_subjects(valid)}))
        images = tuple(sorted({*image_digests(inner), *image_digests(valid)}))
        # all at the end, so that what fails leaves no network without its thresholds
        self.network_, self.load_report_, self.history_, self.thresholds_ = network, loaded, history, thresholds
        self.training_subjects_, self.training_images_ = subjects, images
        self.recipe_ = train.recipe
        return self

    def _check(self, train: Samples, valid: Samples | None) -> None:
        if len(train) == 0:
            raise ValueError("train: there are no samples")
        taken = [name for name in train.label_names if name in _COLUMNS]
        if taken:
            raise ValueError(f"train: label {taken[0]!r} has the name of a column of predict_frame")
        if train.subjects is None or (valid is not None and valid.subjects is None):
            warnings.warn(
                "subjects are not known: where one is in both the training and the validation part, scores of "
                "epochs and thresholds look better than they are",
                stacklevel=3,
            )

    def _training_stages(self, network: Network) -> Sequence[Stage]:
        stages = self.stages
        if stages is None:
            stages = two_stage(
                head_epochs=self.head_epochs,
                finetune_epochs=self.finetune_epochs,
                unfreeze=self.unfreeze,
                finetune_rate=self.finetune_rate,
                block_rates=self.block_rates,
            )
        frozen = [stage.name for stage in stages if network.resolve_block(stage.unfreeze) != network.blocks[0]]
        if self.weights is None and frozen:
            warnings.warn(
                f"stage {frozen[0]!r} freezes a backbone of random weights: pass weights='imagenet' or a checkpoint",
                stacklevel=3,
            )
        return stages

    def _make_network(self, labels: Sequence[str]) -> tuple[Network, LoadReport | None]:
        checkpoint = None if self.weights is None else read_checkpoint(self._weights_path())
        width = self.width
        if width is None:
            width = (
                1.0 if checkpoint is None else Network(self.backbone, labels=1, threads=1).checkpoint_width(checkpoint)
            )
        network = Network(
            self.backbone,
            labels=labels,
            width=width,
            input_size=self.input_size,
            threads=self.threads,
            seed=self.random_state,
            dtype=self.dtype,
            device=self.device,
        )
        return network, None if checkpoint is None else network.load_weights(checkpoint)

    def _weights_path(self) -> str | os.PathLike[str]:
        assert self.weights is not None
        if self.weights == "demo":
            return Path(__file__).parent / "models" / "mobilenet_v1_0.25_synthetic.safetensors"
        if self.weights == "imagenet":
            return pretrained(self.backbone, progress=self.progress)
        return self.weights

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

    def _scores(self, network: Network, samples: Samples) -> FloatArray:
        reader = Reader(network, samples, progress=self.progress)
        logits = reader.logits(title="scores")
        if self.flip_average:
            logits = (logits + reader.logits(flip=True, title="scores of mirrored images")) * np.float32(0.5)
        return _core.sigmoid(logits)

    def evaluate(self, test: Samples, *, allow_training_subjects: bool = False) -> Report:
        """Scores on subjects the model has not seen.

        Raises
        ------
        ValueError
            Labels differ, a subject or an image of the training data is in ``test`` (unless
            allowed), or faces are cut out in another way than those of the training data.

        Warns
        -----
        UserWarning
            Another finder of faces said where they are; or the model knows its training subjects and
            ``test`` does not know its own.
        """
        if tuple(test.label_names) != self.label_names:
            raise ValueError(f"test: labels are {list(test.label_names)}, the model's are {list(self.label_names)}")
        check_recipe("test", test.recipe, self.recipe_, "the model")
        if not allow_training_subjects:
            self._check_unseen(test)
        return Report(
            label_names=self.label_names,
            scores=self._scores(self.network, test),
            target=test.labels,
            thresholds=self.thresholds_,
            config=self._facts(),
            history=self.history_.rows,
            samples=test,
        )

    def _check_unseen(self, test: Samples) -> None:
        way_on = "pass allow_training_subjects=True to score them all the same"
        if test.subjects is None and self.training_subjects_:
            warnings.warn(
                "test: subjects are not known: only images, and not people, can be held against those trained on",
                stacklevel=3,
            )
        seen = sorted(set(self.training_subjects_) & set(_subjects(test)))
        if seen:
            raise ValueError(f"test: {len(seen)} subjects were trained on, first {seen[:5]}; {way_on}")
        known = set(self.training_images_)
        rows = [i for i, digest in enumerate(image_digests(test)) if digest in known]
        if rows:
            first = rows[0] if test.paths is None else test.paths[rows[0]]
            raise ValueError(f"test: {len(rows)} images were trained on, first {first!r}; {way_on}")

    def _facts(self) -> dict[str, Any]:
        c, history = self.network.config, self.history_
        facts = {
            "backbone": c.name,
            "width": c.width,
            "input size": c.input_size,
            "parameters": self.network.parameter_count(),
            "loss": _loss_text(self.loss),
            "batch size": self.batch_size,
            "epochs kept": ", ".join(f"{stage} {epoch}" for stage, epoch in history.best.items()),
            "training subjects": len(self.training_subjects_),
            "weights": str(self.weights) if self.weights is not None else "random",
        }
        if self.recipe_ is not None:
            facts["faces"] = str(self.recipe_)
        return facts | ({"training": "interrupted"} if history.interrupted else {})

    def predict_proba(
        self, images: Images | Samples, *, faces: FaceSource | None = None, aligned: bool = False
    ) -> FloatArray:
        """Probabilities (n, k) of images.

        Parameters
        ----------
        images : Samples, uint8 array (n, h, w, 3), or iterable of (h, w, 3) uint8 arrays or of image files
        faces : Faces, sequence of Face, or callable, optional
            Where the faces are, see `align_faces`; they are cut out by the model's recipe.
        aligned : bool
            The images are faces that were cut out so already. One of the two is wanted where the
            model has a recipe, but for Samples, which know theirs.

        Raises
        ------
        ValueError
            The model has a recipe and nothing says that the images follow it, or the other way
            round; an image has no face.
        """
        if isinstance(images, Samples):
            if faces is None and not aligned:
                check_recipe("images", images.recipe, self.recipe_, "the model")
                aligned = self.recipe_ is not None
            images = images.images if images.paths is None else images.paths
        cutter = make_cutter(self.recipe_, faces, aligned, self.network.input_size)
        x = pixels_of(images, self.network.input_size, cutter)
        logits = self.network.forward(x)
        if self.flip_average:
            logits = (logits + self.network.forward(np.ascontiguousarray(x[:, :, ::-1]))) * np.float32(0.5)
        return _core.sigmoid(logits)

    def predict(
        self, images: Images | Samples, *, faces: FaceSource | None = None, aligned: bool = False
    ) -> npt.NDArray[np.bool_]:
        """Which labels are on, (n, k), at the fitted thresholds; images and faces as in `predict_proba`."""
        return np.asarray(self.predict_proba(images, faces=faces, aligned=aligned) >= self.thresholds_, dtype=np.bool_)

    def predict_frame(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        batch_size: int = 64,
        decisions: bool = False,
        faces: FaceSource | None = None,
        aligned: bool = False,
    ) -> pd.DataFrame:
        """One row per file: input, success, and the probability of every label.

        A file that cannot be read, or in which there is no face, is a row with success 0, no
        probabilities and the reason in the column ``error``.

        Parameters
        ----------
        paths : iterable of path
        batch_size : int
            Images that are in memory at once.
        decisions : bool
            Add a column per label, named with ``_c`` behind it as OpenFace does: 1 where its
            probability reaches the fitted threshold, else 0.
        faces, aligned
            As in `predict_proba`.

        Raises
        ------
        ValueError
            There are no paths, batch_size is less than 1, or nothing says that the images follow the
            model's recipe.
        """
        import pandas as pd

        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, want at least 1")
        files = [os.fspath(path) for path in listed(paths, "paths")]
        size, names = self.network.input_size, self.label_names
        cutter = make_cutter(self.recipe_, faces, aligned, size)
        scores = np.full((len(files), len(names)), np.nan, np.float32)
        errors: list[str] = []
        for start in range(0, len(files), batch_size):
            pixels, problems = read_all(files[start : start + batch_size], size, cutter, start)
            if pixels:
                read = [start + i for i, problem in enumerate(problems) if not problem]
                scores[read] = self.predict_proba(np.stack(pixels), aligned=self.recipe_ is not None)
            errors += problems
        frame = pd.DataFrame(scores, columns=pd.Index(names))
        if decisions:
            on = pd.DataFrame(scores >= self.thresholds_, columns=[f"{name}_c" for name in names])
            frame = pd.concat([frame, on.astype("Int64").mask(np.isnan(scores))], axis=1)
        frame.insert(0, "input", files)
        frame.insert(1, "success", [int(not error) for error in errors])
        return frame.assign(error=errors)

    # --- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one safetensors file: weights, and as its metadata all that `load` brings back.

        That is the arguments this detector was made with, but for those of the process, the network's
        config, thresholds, the training subjects and digests of the training images, how their faces
        were cut out, and the history.
        """
        metadata = write_model(
            network=self.network.config,
            arguments={name: to_plain(getattr(self, name)) for name in self._argument_types()},
            thresholds=tuple(self.thresholds_.tolist()),
            training_subjects=self.training_subjects_,
            training_images=self.training_images_,
            history=self.history_,
            recipe=self.recipe_,
        )
        write_safetensors(path, self.network.state_dict(), metadata, checksums=True)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        progress: bool | None = None,
    ) -> AUClassifier:
        """Reads what `save` wrote; the rest is as of this process.

        Raises
        ------
        FormatError
            The file is damaged or is not a model of this library.
        ValueError
            There is no such dtype or device.
        DeviceError
            As `Network`.
        """
        check_dtype(dtype)
        check_device(device)
        tensors, metadata = read_safetensors(path)
        model = parse_model(path, metadata, cls._argument_types())
        try:
            network = Network.from_config(model.network, threads=threads, dtype=dtype, device=device)
        except (ValueError, ZeroDivisionError, OverflowError) as problem:
            raise _core.FormatError(f"{os.fspath(path)}: the model's network is not possible: {problem}") from None
        network.load_state_dict(tensors, source=os.fspath(path))
        detector = cls(**model.arguments, threads=threads, dtype=dtype, device=device, progress=progress)
        detector.network_ = network
        detector.thresholds_ = np.asarray(model.thresholds, np.float64)
        detector.training_subjects_, detector.training_images_ = model.training_subjects, model.training_images
        detector.history_, detector.recipe_ = model.history, model.recipe
        return detector

    @classmethod
    def _argument_types(cls) -> dict[str, Any]:
        """Annotations of the arguments that a model keeps."""
        hints = get_type_hints(AUClassifier.__init__)
        names = list(inspect.signature(AUClassifier.__init__).parameters)[1:]
        return {name: hints[name] for name in names if name not in _OF_THE_MACHINE}


def _loss_text(loss: str | Loss) -> str:
    if isinstance(loss, str):
        return loss
    usual = Loss(loss.name)
    changed = {name: getattr(loss, name) for name in vars(usual) if name != "name"}
    options = [f"{name} {value}" for name, value in changed.items() if value != getattr(usual, name)]
    return f"{loss.name} ({', '.join(options)})" if options else loss.name


def _subjects(samples: Samples) -> list[str]:
    return [] if samples.subjects is None else [str(s) for s in samples.subjects]
