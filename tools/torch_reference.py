"""PyTorch twins of our networks, for golden values and benchmarks.

Modules have the names of the public checkpoints, so state dicts go both ways.
"""

from __future__ import annotations

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


class Unit(nn.Module):
    """Convolution, BatchNorm, ReLU6; padding as TensorFlow's SAME or symmetric."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, padding: str, epsilon: float
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, 0, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(outputs, eps=epsilon)
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def pads(self, size: int) -> tuple[int, int]:
        if self.padding == "symmetric":
            return (self.kernel - 1) // 2, (self.kernel - 1) // 2
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top, bottom = self.pads(x.shape[2])
        left, right = self.pads(x.shape[3])
        if (top, left) == (bottom, right):
            x = functional.conv2d(
                x, self.convolution.weight, None, self.stride, (top, left), 1, self.convolution.groups
            )
        else:
            x = self.convolution(functional.pad(x, (left, right, top, bottom)))
        return functional.relu6(self.normalization(x))


class Body(nn.Module):
    def __init__(self, width: float, padding: str, epsilon: float) -> None:
        super().__init__()

        def scaled(channels: int) -> int:
            return max(8, round(channels * width))

        channels = scaled(32)
        self.conv_stem = Unit(3, channels, 3, 2, 1, padding, epsilon)
        self.layer = nn.ModuleList()
        for outputs, stride in ROWS:
            self.layer.append(Unit(channels, channels, 3, stride, channels, padding, epsilon))
            self.layer.append(Unit(channels, scaled(outputs), 1, 1, 1, padding, epsilon))
            channels = scaled(outputs)
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
        self.classifier = nn.Linear(features, labels)
        self.dropout = dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.normalization(x))
        return self.classifier(functional.dropout(x, self.dropout, self.training))


class MobileNetV1(nn.Module):
    """Backbone and action-unit head; input NCHW, output logits."""

    def __init__(
        self, labels: int, *, width: float = 1.0, padding: str = "same", epsilon: float = 1e-3, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.mobilenet_v1 = Body(width, padding, epsilon)
        self.head = Head(self.mobilenet_v1.channels, labels, dropout)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.mobilenet_v1(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def load(model: nn.Module, state: dict) -> None:
    """Sets every tensor of a module from arrays under its own names; counters of batches may be missing."""
    missing, unexpected = model.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"missing {missing[:3]}, unexpected {unexpected[:3]}")
