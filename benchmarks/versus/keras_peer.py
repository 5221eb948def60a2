"""Keras as a peer, on TensorFlow where that is installed, else on PyTorch.

Keras' networks pad in another way and have another epsilon, so that ours beside it is made like them, from
the same weights, and gives what is wanted.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np

from versus.draws import KERAS
from versus.task import LABELS, RATE, Absent, FloatArray, Task, chunks

if importlib.util.find_spec("keras") is None:
    raise Absent("Keras is not installed")
if "KERAS_BACKEND" not in os.environ:
    os.environ["KERAS_BACKEND"] = "tensorflow" if importlib.util.find_spec("tensorflow") else "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras

import facsnet as fn

APPLICATIONS = {
    "mobilenet_v1": ("MobileNet", "alpha"),
    "mobilenet_v2": ("MobileNetV2", "alpha"),
    "densenet121": ("DenseNet121", None),
    "densenet201": ("DenseNet201", None),
}


def version() -> str:
    backend = keras.backend.backend()
    return f"Keras {keras.__version__}, {backend} {importlib.import_module(backend).__version__}"


def set_threads(count: int) -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(count)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    else:
        import torch

        torch.set_num_threads(count)


class KerasPeer:
    """Option xla: whether TensorFlow's compiler is used."""

    def __init__(self, task: Task) -> None:
        if task.network not in APPLICATIONS:
            raise Absent(f"has no {task.network}")
        set_threads(task.threads)
        self.task, self.xla = task, bool(task.options.get("xla"))
        if task.dtype != "float32":
            keras.config.set_dtype_policy(f"mixed_{task.dtype}")
        self.batches = chunks(task.images(), task.chunk)
        self.y = task.targets()
        self.model, self.layers = self.make_model(task.size)
        self.set_weights(self.model, self.layers, self.make_network("weights.npz", task.size))
        if task.job == "train":
            loss = keras.losses.BinaryCrossentropy(from_logits=True)
            self.model.compile(optimizer=keras.optimizers.Adam(RATE), loss=loss, jit_compile=self.xla)
        elif keras.backend.backend() == "tensorflow":
            import tensorflow

            run = tensorflow.function(lambda x: self.model(x, training=False), jit_compile=self.xla)
            self.batches = [tensorflow.constant(x) for x in self.batches]
            self.forward: Any = run
        else:
            import torch

            self.forward = torch.no_grad()(lambda x: self.model(x, training=False))

    # --- the network and its weights

    def make_network(self, weights: str, size: int) -> fn.Network:
        network = fn.Network(
            self.task.network, labels=LABELS, width=self.task.width, input_size=size, dropout=0.0, seed=1,
            threads=self.task.threads, **KERAS[self.task.network],
        )  # fmt: skip
        state = self.task.load(weights)
        network.load_state_dict({k: v for k, v in state.items() if not k.endswith("_")})
        return network

    def make_model(self, size: int) -> tuple[Any, list[tuple[Any, str]]]:
        """The model, and its layers with the names that their variables have in `named`."""
        name, narrow = APPLICATIONS[self.task.network]
        options: dict[str, Any] = {"include_top": False, "pooling": "avg", "weights": None}
        if narrow is not None:
            options[narrow] = self.task.width
        elif self.task.width != 1:
            raise Absent(f"has no {self.task.network} of another width")
        base = getattr(keras.applications, name)(input_shape=(size, size, 3), **options)
        norm = keras.layers.BatchNormalization(epsilon=1e-5)
        last = keras.layers.Dense(LABELS, dtype="float32")
        outputs = last(keras.layers.ReLU()(norm(base.output)))
        layers = [(layer, layer.name) for layer in base.layers]
        return keras.Model(base.input, outputs), [*layers, (norm, "head/norm"), (last, "head/last")]

    @staticmethod
    def named(network: fn.Network) -> dict[str, np.ndarray]:
        """All parameters as Keras arranges them."""
        state = dict(network.state_dict(layout="keras", head=False))
        own = network.parameters()
        for ours, theirs in (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"),
                             ("running_var", "moving_variance")):  # fmt: skip
            state[f"head/norm/{theirs}"] = own[f"head.normalization.{ours}"]
        weight = own["head.classifier.weight"]
        state["head/last/kernel"] = weight.reshape(weight.shape[-2:])
        state["head/last/bias"] = own["head.classifier.bias"]
        return state

    @staticmethod
    def variable_name(layer: Any, name: str, variable: Any) -> str:
        kernel = "depthwise_kernel" if isinstance(layer, keras.layers.DepthwiseConv2D) else "kernel"
        return f"{name}/{kernel if 'kernel' in variable.name else variable.name}"

    def set_weights(self, model: Any, layers: list[tuple[Any, str]], network: fn.Network) -> None:
        state = self.named(network)
        for layer, name in layers:
            layer.set_weights([state[self.variable_name(layer, name, v)] for v in layer.weights])

    # --- running

    def run(self) -> None:
        if self.task.job == "train":
            self.model.train_on_batch(self.task.images(), self.y)
        else:
            self.outputs()

    def outputs(self) -> FloatArray:
        return np.concatenate([keras.ops.convert_to_numpy(self.forward(x)) for x in self.batches])

    def logits(self) -> FloatArray:
        return self.outputs()

    def wanted_logits(self) -> FloatArray:
        return self.make_network("weights.npz", self.task.size).forward(self.task.images())

    def gradients(self) -> dict[str, np.ndarray]:
        check = self.task.load("check_keras.npz")
        x, y = check["images_"], check["targets_"]
        network = self.make_network("check_keras.npz", x.shape[1])
        model, layers = self.make_model(x.shape[1])
        self.set_weights(model, layers, network)
        variables = {self.variable_name(layer, name, v): v for layer, name in layers for v in layer.trainable_variables}
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        found = differentiate(lambda: loss(y, model(x, training=True)), list(variables.values()))
        network.backward(fn.losses.bce(network.forward(x, training=True), y)[1])
        network.set_parameters({name: np.array(value) for name, value in network.gradients().items()})
        wanted = self.named(network)
        answer = dict(zip(variables, found, strict=True))
        return answer | {f"wanted:{name}": wanted[name] for name in variables}


def differentiate(loss: Any, variables: list[Any]) -> list[np.ndarray]:
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        with tensorflow.GradientTape() as tape:
            value = loss()
        return [g.numpy() for g in tape.gradient(value, [v.value for v in variables])]
    loss().backward()
    return [v.value.grad.numpy() for v in variables]


def make(task: Task) -> KerasPeer:
    return KerasPeer(task)
