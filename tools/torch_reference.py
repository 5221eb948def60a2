"""Pieces that the PyTorch twins of our networks share, and the twin of MobileNet-v1; the others are in torch_networks.

Modules have the names of the public checkpoints, so state dicts go both ways.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

ROWS = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
]


def scaled(channels: int, width: float, least: int = 1) -> int:
    """Channels of a narrower or wider network, halves rounded up as the C tables do."""
    return max(least, math.floor(channels * width + 0.5))


def activation_layer(name: str) -> nn.Module:
    return {"relu": nn.ReLU, "relu6": nn.ReLU6}[name]()


class Convolution(nn.Conv2d):
    """Without bias unless asked; padding symmetric, TensorFlow's SAME or that of Keras' MobileNet-v1."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
        padding: str = "symmetric",
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, 0, groups=groups, bias=bias)
        self.mode = padding

    def pads(self, size: int) -> tuple[int, int]:
        """Zeros before and after an axis."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if self.mode == "symmetric":
            return (kernel - 1) // 2, (kernel - 1) // 2
        if self.mode == "keras" and stride > 1 and self.groups > 1:
            return 0, kernel - 2
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top, bottom = self.pads(x.shape[2])
        left, right = self.pads(x.shape[3])
        if (top, left) == (bottom, right):
            return functional.conv2d(x, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        return super().forward(functional.pad(x, (left, right, top, bottom)))


class Unit(nn.Module):
    """Convolution, BatchNorm, activation."""

    def __init__(self, convolution: Convolution, activation: str, epsilon: float) -> None:
        super().__init__()
        self.convolution = convolution
        self.normalization = nn.BatchNorm2d(convolution.out_channels, eps=epsilon)
        self.activation = activation_layer(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.normalization(self.convolution(x)))


class Body(nn.Module):
    def __init__(self, width: float, padding: str, activation: str, epsilon: float) -> None:
        super().__init__()
        channels = scaled(32, width, 8)
        self.conv_stem = Unit(Convolution(3, channels, 3, 2, padding=padding), activation, epsilon)
        self.layer = nn.ModuleList()
        for outputs, stride in ROWS:
            depthwise = Convolution(channels, channels, 3, stride, groups=channels, padding=padding)
            pointwise = Convolution(channels, scaled(outputs, width, 8), 1)
            self.layer.extend(Unit(convolution, activation, epsilon) for convolution in (depthwise, pointwise))
            channels = pointwise.out_channels
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_stem(x)
        for unit in self.layer:
            x = unit(x)
        return x.mean((2, 3))


class Head(nn.Module):
    def __init__(self, features: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.normalization = nn.BatchNorm1d(features)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.activation(self.normalization(x))))


class MobileNetV1(nn.Module):
    """Backbone and head; input NCHW, output logits."""

    def __init__(
        self,
        labels: int,
        *,
        width: float = 1.0,
        padding: str = "same",
        activation: str = "relu6",
        epsilon: float = 1e-3,
        dropout: float = 0.2,
        head: str = "action_units",
    ) -> None:
        super().__init__()
        self.mobilenet_v1 = Body(width, padding, activation, epsilon)
        self.last = "head" if head == "action_units" else "classifier"
        if head == "action_units":
            self.head = Head(self.mobilenet_v1.channels, labels, dropout)
        else:
            self.classifier = nn.Linear(self.mobilenet_v1.channels, labels)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.mobilenet_v1(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.get_submodule(self.last)(self.features(x))


def load(model: nn.Module, state: dict) -> None:
    """Sets every tensor of a module from arrays under its own names; counters of batches may be missing."""
    missing, unexpected = model.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"missing {missing[:3]}, unexpected {unexpected[:3]}")
