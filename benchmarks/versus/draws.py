"""Weights, images and answers that all peers get: python -m versus.draws NETWORK FOLDER --size ... --batch ...

A process of its own, since PyTorch is wanted here and nowhere else beside its peers. Without
PyTorch only the images and weights of ours are written.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

from versus.task import LABELS

COMPARED = 8
PADDING = {"mobilenet_v1": "symmetric"}  # PyTorch would copy every map for another one
KERAS: dict[str, dict[str, Any]] = {
    "mobilenet_v1": {"padding": "keras"},
    "mobilenet_v2": {"padding": "same", "epsilon": 1e-3},
    "densenet121": {"epsilon": 1.001e-5},
    "densenet201": {"epsilon": 1.001e-5},
}


def images(n: int, size: int, seed: int) -> np.ndarray:
    """Coloured squares with noise, scaled to -1 ... 1: unlike noise alone, no two have the same features."""
    rng = np.random.default_rng(seed)
    side = -(-size // 16)
    squares = rng.uniform(-1, 1, (n, side, side, 3)).repeat(16, 1).repeat(16, 2)[:, :size, :size]
    return np.clip(squares + rng.normal(0, 0.15, squares.shape), -1, 1).astype(np.float32)


def write(name: str, folder: Path, *, size: int, batch: int, width: float, bfloat16: bool, onnx: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    x = images(batch, size, 1)
    np.save(folder / "images.npy", x)
    try:
        import torch
    except ImportError:
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
    from torch_draws import clear_corners, randomise, settle
    from torch_networks import twin

    def drawn(inputs: torch.Tensor, seed: int, **options: Any) -> torch.nn.Module:
        model = twin(name, LABELS, width=width, dropout=0.0, **{"padding": PADDING.get(name), **options})
        randomise(model, seed)
        if bfloat16:
            open_activations(model, seed)
        settle(model, inputs, seed)
        return model

    def save(path: str, model: torch.nn.Module, **more: np.ndarray) -> None:
        state = {k: v.float().numpy() for k, v in model.state_dict().items() if "batches" not in k}
        np.savez(folder / path, **state, **more)

    suffix = "_bf16" if bfloat16 else ""
    first = torch.tensor(x[:COMPARED]).permute(0, 3, 1, 2)
    model = drawn(first, 1).eval()
    save(f"weights{suffix}.npz", model)
    if onnx:
        export(model, first, folder / f"network{suffix}.onnx")
    with torch.no_grad():
        np.save(folder / f"logits{suffix}.npy", model.double()(first.double()).numpy())

    # gradients want images for which no activation stands on a corner
    count, side = (16 if bfloat16 else 6), min(size, 97)
    x = images(count, side, 2)
    inputs = torch.tensor(x).permute(0, 3, 1, 2)
    y = (np.random.default_rng(2).random((count, LABELS)) < 0.4).astype(np.float32)

    def checked(path: str, **options: Any) -> torch.nn.Module:
        model = drawn(inputs, 2, **options)
        before = {k: v for k, v in copy.deepcopy(model.state_dict()).items() if "running" in k}
        if not bfloat16:
            clear_corners(model.double(), inputs.double())
            model.float().load_state_dict(before, strict=False)
        save(path, model, images_=x, targets_=y)
        return model

    model = checked(f"check{suffix}.npz").double().train()
    logits = model(inputs.double())
    torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(y).double()).backward()
    np.savez(folder / f"gradients{suffix}.npz", **{k: p.grad.float().numpy() for k, p in model.named_parameters()})
    if importlib.util.find_spec("keras") is not None and name in KERAS:
        checked(f"check_keras{suffix}.npz", **KERAS[name])


def open_activations(model: Any, seed: int) -> None:
    """Biases at which most ReLUs pass what they get.

    As `randomise` draws them, a rounding grows from layer to layer, and bfloat16 leaves nothing of the gradients:
    PyTorch's own have a cosine of 0.7 with those in double.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.weight.data.copy_(0.8 + 0.4 * torch.rand(module.weight.shape, generator=generator))
            module.bias.data.copy_(2.0 + torch.rand(module.bias.shape, generator=generator))


def export(model, x, path: Path) -> None:
    """ONNX with a batch of any size, for the peers that read it; they say that it is not there where this fails."""
    import torch

    options = {"input_names": ["images"], "output_names": ["logits"], "opset_version": 18, "dynamo": True}
    try:
        shapes = {"x": {0: torch.export.Dim("n", min=1, max=4096)}}
        torch.onnx.export(model, (x,), path, dynamic_shapes=shapes, external_data=False, verbose=False, **options)
    except (ImportError, RuntimeError, torch.onnx.errors.OnnxExporterError) as problem:
        print(f"ONNX: {problem}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--bfloat16", action="store_true", help="weights on which roundings do not grow")
    parser.add_argument("--onnx", action="store_true", help="write the network too")
    o = parser.parse_args()
    write(
        o.network, o.folder, size=o.size, batch=max(o.batch, COMPARED), width=o.width, bfloat16=o.bfloat16, onnx=o.onnx
    )


if __name__ == "__main__":
    main()
