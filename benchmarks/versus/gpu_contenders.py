"""What runs a network on the GPU: facsnet, and PyTorch at its best (channels_last, bfloat16, compiled, CUDA graphs).

Images lie on the GPU before anything is measured, for facsnet as pixels, for PyTorch as scaled bfloat16
in channels_last. A run of training is a whole step of Adam with its loss read; of inference, with its
logits read.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import facsnet as fn
from facsnet.benchmark import training_step

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from torch_draws import clear_corners, randomise, settle
from torch_networks import twin

LABELS, RATE = 16, 1e-5
PADDING = {"mobilenet_v1": "symmetric"}  # PyTorch would copy every map for another one
bce = torch.nn.functional.binary_cross_entropy_with_logits


@dataclass(frozen=True)
class Contender:
    title: str
    run: Callable[[], object]


def pixels(n: int, size: int, seed: int) -> np.ndarray:
    """Coloured squares with noise: unlike noise alone, no two have the same features."""
    rng = np.random.default_rng(seed)
    side = -(-size // 16)
    squares = rng.integers(0, 256, (n, side, side, 3)).repeat(16, 1).repeat(16, 2)[:, :size, :size]
    return np.clip(squares + rng.normal(0, 15, squares.shape), 0, 255).astype(np.uint8)


def labels(n: int) -> np.ndarray:
    return (np.random.default_rng(9).random((n, LABELS)) < 0.3).astype(np.float32)


class Subject:
    """One network in both libraries, with the same weights."""

    def __init__(self, name: str, *, size: int, width: float) -> None:
        self.name, self.size, self.width = name, size, width
        self.weights: dict[str, np.ndarray] = {}
        model = twin(name, LABELS, width=width, padding=PADDING.get(name), dropout=0.0)
        randomise(model, 1)
        config = self.facsnet("float32", "cpu").config
        self.scale, self.shift = (torch.tensor(v) for v in config.preprocessing.scale_and_shift())
        settle(model, self.scaled(pixels(8, size, 1)), 1)
        self.weights = plain_state(model)
        self.model = model.cuda().to(memory_format=torch.channels_last)

    def facsnet(
        self, dtype: str, device: str = "cuda", *, weights: dict[str, np.ndarray] | None = None, size: int | None = None
    ) -> fn.Network:
        net = fn.Network(
            self.name, labels=LABELS, width=self.width, input_size=size or self.size, dropout=0.0, dtype=dtype,
            device=device,
            padding=PADDING.get(self.name),
        )  # fmt: skip
        if weights or self.weights:
            net.load_state_dict(weights or self.weights)
        return net

    def scaled(self, x: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(x).float() * self.scale + self.shift).permute(0, 3, 1, 2)

    def torch_copy(self) -> torch.nn.Module:
        return copy.deepcopy(self.model)

    # --- the same results

    def logits(self, n: int = 16) -> dict[str, np.ndarray]:
        """Of PyTorch in float32, and of facsnet in both dtypes."""
        x = pixels(n, self.size, 2)
        with torch.inference_mode():
            found = {"torch": self.torch_copy().eval()(self.scaled(x).cuda()).float().cpu().numpy()}
        return {**found, **{dtype: self.facsnet(dtype).forward(x) for dtype in ("float32", "bfloat16")}}

    def gradients(self, n: int = 6) -> dict[str, np.ndarray]:
        """All together, of PyTorch in both dtypes and of facsnet in both, of a small image.

        No activation stands within rounding of a corner: it would fall to either side of it.
        """
        size = min(self.size, 64)
        x, y = pixels(n, size, 3), labels(n)
        model = self.torch_copy().cpu().to(memory_format=torch.contiguous_format)
        settle(model, self.scaled(x), 2)
        clear_corners(model, self.scaled(x))
        weights = plain_state(model)
        model = model.cuda().to(memory_format=torch.channels_last)
        found = {}
        for dtype in ("float32", "bfloat16"):
            twin = copy.deepcopy(model).train()
            with autocast(dtype):
                logits = twin(self.scaled(x).cuda().to(memory_format=torch.channels_last))
            bce(logits.float(), torch.from_numpy(y).cuda()).backward()
            grads = {name: p.grad.float().cpu().numpy() for name, p in twin.named_parameters()}
            found[f"torch {dtype}"] = np.concatenate([grads[name].ravel() for name in sorted(grads)])
            net = self.facsnet(dtype, weights=weights, size=size)
            net.backward(fn.losses.bce(net.forward(x, training=True), y)[1])
            ours = {name: as_torch(name, value) for name, value in net.gradients().items()}
            found[dtype] = np.concatenate([ours[name].ravel() for name in sorted(grads)])
        return found

    # --- inference

    def infer(self, batch: int, compiled: str) -> Iterator[Contender | str]:
        """Contenders one by one; text says of one why it is not there."""
        x = pixels(batch, self.size, 4)
        net = self.facsnet("bfloat16")
        there = net.to_device(x)
        yield Contender("facsnet", lambda: net.forward(there))
        inputs = self.scaled(x).cuda().to(torch.bfloat16).contiguous(memory_format=torch.channels_last)

        def plain(model: Any) -> Callable[[], object]:
            def run() -> object:
                with torch.inference_mode():
                    return model(inputs).float().cpu()

            return run

        def graph(model: Any) -> Callable[[], object]:
            with torch.inference_mode():
                replay, output = captured(lambda: model(inputs))

            def run() -> object:
                replay()
                return output.float().cpu()

            return run

        def half() -> Any:
            return self.torch_copy().eval().requires_grad_(False).to(torch.bfloat16)

        yield attempt("PyTorch eager + graph", lambda: graph(half()))
        if compiled:
            import torch._inductor.config as inductor

            inductor.freezing = True
            mode = {"mode": compiled, "dynamic": False}
            yield attempt(f"PyTorch {compiled}", lambda: plain(torch.compile(half(), **mode)))
            inductor.freezing = False

    # --- training

    def train(self, batch: int, compiled: str) -> Iterator[Contender | str]:
        x, y = pixels(batch, self.size, 5), labels(batch)
        net = self.facsnet("bfloat16")
        yield Contender("facsnet", training_step(net, net.to_device(x), y, rate=RATE))
        inputs = self.scaled(x).cuda().to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        target = torch.from_numpy(y).cuda()

        def parts(mode: str) -> tuple[Callable[[], torch.Tensor], torch.optim.Optimizer]:
            model = self.torch_copy().train()
            optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True, capturable=True)

            def loss() -> torch.Tensor:
                with autocast("bfloat16"):
                    logits = model(inputs)
                return bce(logits.float(), target)

            return (torch.compile(loss, mode=mode, dynamic=False) if mode else loss), optimiser

        def graph() -> Callable[[], object]:
            loss, optimiser = parts("")

            def step() -> torch.Tensor:
                optimiser.zero_grad(set_to_none=True)
                value = loss()
                value.backward()
                optimiser.step()
                return value

            replay, value = captured(step)

            def run() -> float:
                replay()
                return value.item()

            return run

        def plain(mode: str) -> Callable[[], object]:
            loss, optimiser = parts(mode)

            def run() -> float:
                optimiser.zero_grad(set_to_none=True)
                value = loss()
                value.backward()
                optimiser.step()
                return value.item()

            return run

        yield attempt("PyTorch eager + graph", graph)
        if compiled:
            yield attempt(f"PyTorch {compiled}", lambda: plain(compiled))


def attempt(title: str, make: Callable[[], Callable[[], object]]) -> Contender | str:
    """Made and run three times, so that what compiles is compiled; or why not."""
    try:
        run = make()
        for _ in range(3):
            run()
        torch.cuda.synchronize()
    except Exception as problem:  # a peer that fails is left out and named
        return f"{title}: {type(problem).__name__}: {problem}"[:300]
    return Contender(title, run)


def captured(work: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
    """A CUDA graph of the work, and the tensor that a replay fills."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = work()
    return graph.replay, output


def autocast(dtype: str) -> contextlib.AbstractContextManager[Any]:
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast("cuda", getattr(torch, dtype), cache_enabled=False)


def plain_state(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {k: v.float().cpu().numpy() for k, v in model.state_dict().items() if "batches" not in k}


def as_torch(name: str, value: np.ndarray) -> np.ndarray:
    """A gradient in PyTorch's arrangement."""
    if value.ndim != 4:
        return value
    return value[0, 0].T if name.endswith("classifier.weight") else value.transpose(3, 2, 0, 1)
