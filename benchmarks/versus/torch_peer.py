"""PyTorch as a peer: eager, compiled (inductor), and frozen (TorchScript); channels_last in all."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from versus.draws import PADDING
from versus.task import LABELS, RATE, Absent, FloatArray, Task

try:
    import torch
except ImportError:
    raise Absent("PyTorch is not installed") from None

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from torch_networks import twin
from torch_reference import load

bce = torch.nn.functional.binary_cross_entropy_with_logits


def version() -> str:
    return f"PyTorch {torch.__version__}"


def nchw(x: FloatArray) -> torch.Tensor:
    """The same numbers in channels_last, without a copy."""
    return torch.from_numpy(x).permute(0, 3, 1, 2)


class TorchPeer:
    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        self.task = task
        self.dtype = getattr(torch, task.dtype)
        self.mode: str = task.options.get("mode", "eager")
        x = nchw(task.images())
        self.batches = list(x.split(task.chunk)) if task.job == "infer" else [x]
        self.model = self.make_model("weights.npz")
        self.step: Callable[[], None] | None = None
        if task.job == "infer":
            self.forward = self.make_forward()
        else:
            self.step = self.make_step(self.batches[0], torch.from_numpy(task.targets()))

    def make_model(self, weights: str) -> torch.nn.Module:
        model = twin(
            self.task.network, LABELS, width=self.task.width, padding=PADDING.get(self.task.network), dropout=0.0
        )
        load(model, {k: v for k, v in self.task.load(weights).items() if not k.endswith("_")})
        return model.to(memory_format=torch.channels_last)

    # --- inference

    def make_forward(self) -> Callable[[torch.Tensor], torch.Tensor]:
        import torch._inductor.config as inductor

        model: Any = self.model.eval().requires_grad_(False)
        half = self.dtype != torch.float32
        if half:
            model = model.to(self.dtype)
        if self.mode == "frozen":
            example = self.batches[0].to(self.dtype)
            model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, example)))
        elif self.mode == "compile":
            inductor.freezing = True
            model = torch.compile(model, dynamic=False)
        return (lambda x: model(x.to(self.dtype)).float()) if half else model

    def run(self) -> None:
        if self.step is not None:
            self.step()
        else:
            self.logits()

    def logits(self) -> FloatArray:
        with torch.no_grad():
            return torch.cat([self.forward(x) for x in self.batches]).numpy()

    # --- training

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast("cpu", self.dtype)

    def make_loss(self, model: torch.nn.Module) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            with self.autocast():
                logits = model(x)
            return bce(logits.float(), y)

        return torch.compile(loss, dynamic=False) if self.mode == "compile" else loss

    def make_step(self, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
        model = self.model.train()
        loss = self.make_loss(model)
        optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

        def step() -> None:
            optimiser.zero_grad(set_to_none=True)
            loss(x, y).backward()
            optimiser.step()

        return step

    def gradients(self) -> dict[str, np.ndarray]:
        check = self.task.load("check.npz")
        model = self.make_model("check.npz").train()
        self.make_loss(model)(nchw(check["images_"]), torch.from_numpy(check["targets_"])).backward()
        return {name: p.grad.numpy() for name, p in model.named_parameters()}


def make(task: Task) -> TorchPeer:
    return TorchPeer(task)
