"""Weights of the PyTorch twins for comparisons in float32: none neutral, no activation on a corner."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def uniform(like: torch.Tensor, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=like.dtype)


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Draws every weight and bias; the running statistics are left to `settle`."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            deviation = math.sqrt(2 / module.weight[0].numel())
            module.weight.copy_(deviation * torch.randn(module.weight.shape, generator=generator))
            if module.bias is not None:
                module.bias.copy_(uniform(module.bias, -0.3, 0.3, generator))
        elif isinstance(module, _BatchNorm):
            module.weight.copy_(uniform(module.weight, 0.5, 1.0, generator))
            # away from 0, where the next BatchNorm leaves gamma next to no gradient; some near the 6 of ReLU6
            bias, kind = uniform(module.bias, 0.3, 1.0, generator), torch.rand(module.bias.shape, generator=generator)
            module.bias.copy_(torch.where(kind < 0.15, -bias, torch.where(kind < 0.95, bias, bias + 5)))


@torch.no_grad()
def settle(model: nn.Module, x: torch.Tensor, seed: int) -> None:
    """Sets running statistics near those of images: with unrelated ones a DenseNet's features are 1e12."""
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            statistic.mul_(uniform(statistic, 0.8, 1.25, generator))


@torch.no_grad()
def clear_corners(model: nn.Module, x: torch.Tensor, *, reach: float = 0.05) -> float:
    """Moves biases by at most `reach` so that no input of a ReLU is near its corners for these images in training.

    A number within rounding of a corner falls to either side of it and moves every gradient by per
    cents, and among millions there is always one. Each channel goes to the middle of the widest gap
    within reach.

    Returns
    -------
    float
        The least distance from a corner; rounding should be well below it.
    """
    layers: list[nn.Module] = []
    margins: list[float] = []

    def remember(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        layers.append(module)

    def move(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        (z,) = inputs
        channels = z.shape[1]
        hits = -z.transpose(0, 1).reshape(channels, -1)  # moves that would put a number on a corner
        if isinstance(module, nn.ReLU6):
            hits = torch.cat([hits, 6 + hits], 1)
        ends = hits.new_tensor([[-reach, reach]]).expand(channels, 2)
        hits = torch.cat([hits.clamp(-reach, reach), ends], 1).sort(1).values
        width, widest = hits.diff(dim=1).max(1, keepdim=True)
        by = (hits.gather(1, widest) + width / 2)[:, 0]
        margins.append(float(width.min()) / 2)
        layers[-1].bias += by
        return (z + by.reshape(1, channels, *[1] * (z.ndim - 2)),)

    hooks = [m.register_forward_hook(remember) for m in model.modules() if getattr(m, "bias", None) is not None]
    hooks += [m.register_forward_pre_hook(move) for m in model.modules() if isinstance(m, (nn.ReLU, nn.ReLU6))]
    model.train()(x)
    for hook in hooks:
        hook.remove()
    return min(margins)
