"""PyTorch twins of all our networks, with torchvision's module names (MobileNet-v1: Hugging Face's).

Widths are rounded as in the C tables. Input is NCHW, output logits.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch_reference import Convolution, Head, MobileNetV1, activation_layer, scaled

# MobileNet-v2: expansion, channels, repeats, stride of the first
RESIDUALS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
DENSE_BLOCKS = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32), "densenet201": (6, 12, 48, 32)}
# VGG-19: channels and convolutions of a block
VGG_BLOCKS = [(64, 2), (128, 2), (256, 4), (512, 4), (512, 4)]
HIDDEN = 4096


class Pooled(nn.Sequential):
    """Layers one after the other; what they give is averaged over the pixels."""

    def map(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x).mean((2, 3))


class Network(nn.Module):
    """A backbone, and either the action-unit head or the classifier of its ImageNet checkpoints."""

    def __init__(
        self, features: Pooled, last: Head | nn.Module, *, head: str = "action_units", whole_map: bool = False
    ) -> None:
        super().__init__()
        self.features = features
        self.last = "head" if head == "action_units" else "classifier"
        self.add_module(self.last, last)
        self.whole_map = whole_map

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.features.map(x).flatten(1) if self.whole_map else self.features(x)
        return self.get_submodule(self.last)(found)


# --- MobileNet-v2


def divisible(channels: float) -> int:
    """The nearest multiple of 8 that is not below nine tenths of the wanted number."""
    least = max(8, int(channels + 4) // 8 * 8)
    return least + 8 if least < 0.9 * channels else least


def unit(convolution: Convolution, activation: str, epsilon: float) -> nn.Sequential:
    norm = nn.BatchNorm2d(convolution.out_channels, eps=epsilon)
    return nn.Sequential(convolution, norm, activation_layer(activation))


class InvertedResidual(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, padding: str, activation: str, epsilon: float
    ) -> None:
        super().__init__()
        wide = expansion * inputs
        layers: list[nn.Module] = []
        if expansion > 1:
            layers.append(unit(Convolution(inputs, wide, 1), activation, epsilon))
        layers.append(
            unit(Convolution(wide, wide, 3, stride, groups=wide, padding=padding), activation, epsilon),
        )
        layers += [Convolution(wide, outputs, 1), nn.BatchNorm2d(outputs, eps=epsilon)]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


def mobilenet_v2(width: float, padding: str, activation: str, epsilon: float) -> tuple[Pooled, int]:
    channels = divisible(32 * width)
    layers: list[nn.Module] = [unit(Convolution(3, channels, 3, 2, padding=padding), activation, epsilon)]
    for expansion, wanted, repeats, stride in RESIDUALS:
        outputs = divisible(wanted * width)
        for i in range(repeats):
            layers.append(
                InvertedResidual(channels, outputs, expansion, 1 if i else stride, padding, activation, epsilon)
            )
            channels = outputs
    last = divisible(1280 * max(1.0, width))
    layers.append(unit(Convolution(channels, last, 1), activation, epsilon))
    return Pooled(*layers), last


# --- DenseNet


def pre_activated(
    suffix: str, inputs: int, outputs: int, kernel: int, activation: str, epsilon: float
) -> dict[str, nn.Module]:
    return {
        f"norm{suffix}": nn.BatchNorm2d(inputs, eps=epsilon),
        f"relu{suffix}": activation_layer(activation),
        f"conv{suffix}": Convolution(inputs, outputs, kernel),
    }


class DenseLayer(nn.Sequential):
    """Appends `growth` channels to what it reads."""

    def __init__(self, inputs: int, growth: int, activation: str, epsilon: float) -> None:
        super().__init__(
            OrderedDict(
                pre_activated("1", inputs, 4 * growth, 1, activation, epsilon)
                | pre_activated("2", 4 * growth, growth, 3, activation, epsilon)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, super().forward(x)], 1)


def densenet(blocks: tuple[int, ...], width: float, activation: str, epsilon: float) -> tuple[Pooled, int]:
    growth, channels = scaled(32, width), scaled(64, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=Convolution(3, channels, 7, 2),
        norm0=nn.BatchNorm2d(channels, eps=epsilon),
        relu0=activation_layer(activation),
        pool0=nn.MaxPool2d(3, 2, 1),
    )
    for i, count in enumerate(blocks, 1):
        block = nn.Sequential()
        for j in range(1, count + 1):
            block.add_module(f"denselayer{j}", DenseLayer(channels, growth, activation, epsilon))
            channels += growth
        layers[f"denseblock{i}"] = block
        if i < len(blocks):
            transition = nn.Sequential(OrderedDict(pre_activated("", channels, channels // 2, 1, activation, epsilon)))
            transition.add_module("pool", nn.AvgPool2d(2, 2))
            layers[f"transition{i}"] = transition
            channels //= 2
    layers["norm5"] = nn.BatchNorm2d(channels, eps=epsilon)
    layers["relu5"] = activation_layer(activation)
    return Pooled(layers), channels


# --- VGG-19


def vgg(normalised: bool, width: float, activation: str, epsilon: float) -> tuple[Pooled, int]:
    layers: list[nn.Module] = []
    channels = 3
    for wanted, convolutions in VGG_BLOCKS:
        for _ in range(convolutions):
            outputs = scaled(wanted, width)
            layers.append(Convolution(channels, outputs, 3, bias=True))
            if normalised:
                layers.append(nn.BatchNorm2d(outputs, eps=epsilon))
            layers.append(activation_layer(activation))
            channels = outputs
        layers.append(nn.MaxPool2d(2, 2))
    return Pooled(*layers), channels


def vgg_classifier(inputs: int, labels: int, width: float, activation: str, dropout: float) -> nn.Sequential:
    hidden = scaled(HIDDEN, width)
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        activation_layer(activation),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        activation_layer(activation),
        nn.Dropout(dropout),
        nn.Linear(hidden, labels),
    )


def twin(
    name: str,
    labels: int,
    *,
    width: float = 1.0,
    padding: str | None = None,
    activation: str | None = None,
    epsilon: float | None = None,
    dropout: float = 0.2,
    head: str = "action_units",
    size: int = 224,
) -> nn.Module:
    """The module of a network; options None are the network's own defaults.

    It gives logits, its `features` the pooled features. The input size matters to VGG's classifier
    alone, which reads the whole last map.
    """
    is_v1, is_v2 = name == "mobilenet_v1", name == "mobilenet_v2"
    padding = padding or ("same" if is_v1 else "symmetric")
    activation = activation or ("relu6" if is_v1 or is_v2 else "relu")
    epsilon = epsilon or (1e-3 if is_v1 else 1e-5)
    if is_v1:
        return MobileNetV1(
            labels, width=width, padding=padding, activation=activation, epsilon=epsilon, dropout=dropout, head=head
        )
    if is_v2:
        features, channels = mobilenet_v2(width, padding, activation, epsilon)
    elif name in DENSE_BLOCKS:
        features, channels = densenet(DENSE_BLOCKS[name], width, activation, epsilon)
    else:
        features, channels = vgg(name == "vgg19_bn", width, activation, epsilon)
    if head == "action_units":
        return Network(features, Head(channels, labels, dropout))
    if is_v2:
        last: nn.Module = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, labels))
    elif name in DENSE_BLOCKS:
        last = nn.Linear(channels, labels)
    else:
        last = vgg_classifier(channels * (size // 32) ** 2, labels, width, activation, dropout)
    return Network(features, last, head=head, whole_map=name not in DENSE_BLOCKS and not is_v2)
