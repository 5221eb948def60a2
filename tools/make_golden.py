"""Writes tests/golden/*.npz: what PyTorch computes, in double, for small networks of ours.

Needs PyTorch; the tests that read the files do not. Run: python tools/make_golden.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch_reference import MobileNetV1, load

import facsnet as fn

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
LABELS, IMAGES, SIZE, WIDTH = 3, 12, 64, 0.0625


def losses(logits: torch.Tensor, y: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses written out plainly."""
    bce = functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    p = torch.sigmoid(logits) * mask
    tp, predicted, actual = (p * y).sum(0), p.sum(0), (y * mask).sum(0)
    has = actual > 0
    pairs = torch.stack(
        [
            sum(
                torch.exp(f[v] - f[u])
                for u in range(LABELS)
                for v in range(LABELS)
                if t[u] * m[u] == 1 and (1 - t[v]) * m[v] == 1
            )
            + torch.zeros((), dtype=logits.dtype)
            for f, t, m in zip(logits, y, mask, strict=True)
        ]
    )
    return {
        "bce": (bce * mask).sum() / mask.sum(),
        "pr": 1 - (tp / predicted * tp / actual.clamp(min=1))[has].mean(),
        "pr_micro": 1 - tp.sum() ** 2 / (predicted.sum() * actual.sum()),
        "lsep": torch.log1p(pairs).mean(),
    }


def make_losses() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    logits = torch.tensor(rng.normal(scale=2, size=(9, LABELS)), requires_grad=True)
    y = torch.tensor((rng.random((9, LABELS)) < 0.4).astype(float))
    mask = torch.tensor((rng.random((9, LABELS)) < 0.8).astype(float))
    out = {"logits": logits.detach().numpy(), "target": y.numpy(), "mask": mask.numpy()}
    for name, value in losses(logits, y, mask).items():
        (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
        out[f"{name}.value"], out[f"{name}.gradient"] = value.detach().numpy(), gradient.numpy()
    return out


def draw(padding: str, size: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Weights, images and labels; no BatchNorm at its neutral values."""
    rng = np.random.default_rng(seed)
    network = fn.Network(
        "mobilenet_v1", labels=LABELS, width=WIDTH, input_size=size, padding=padding, dropout=0.0, seed=seed
    )
    state = {}
    for name, value in network.state_dict().items():
        state[name] = value + rng.uniform(0.0, 0.2, value.shape).astype(np.float32) if value.ndim == 1 else value
    x = rng.normal(size=(IMAGES, size, size, 3)).astype(np.float16).astype(np.float32)
    y = (np.arange(IMAGES * LABELS).reshape(IMAGES, LABELS) % 4 == 0).astype(np.float32)
    return state, x, y


def build(state: dict[str, np.ndarray], padding: str, kind: torch.dtype) -> MobileNetV1:
    model = MobileNetV1(LABELS, width=WIDTH, padding=padding, dropout=0.0).to(kind)
    load(model, state)
    return model


def step(
    state: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, padding: str, kind: torch.dtype
) -> tuple[MobileNetV1, torch.Tensor, torch.Tensor]:
    model = build(state, padding, kind).train()
    logits = model(torch.tensor(x, dtype=kind).permute(0, 3, 1, 2))
    loss = functional.binary_cross_entropy_with_logits(logits, torch.tensor(y, dtype=kind))
    loss.backward()
    return model, logits, loss


def rounding(state: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, padding: str) -> float:
    """How far PyTorch's own float32 gradients are from its double ones."""
    models = [step(state, x, y, padding, kind)[0] for kind in (torch.float32, torch.float64)]
    pairs = zip(*(m.parameters() for m in models), strict=True)
    return max(float((a.grad - b.grad).abs().max() / b.grad.abs().max()) for a, b in pairs)


def make_network(padding: str, size: int) -> dict[str, np.ndarray]:
    """Logits, loss, gradients and ten steps of three optimisers on one small network.

    Of many draws the one that float32 rounds least: elsewhere an activation that lies on the
    corner of a ReLU6 falls to either side and moves every gradient.
    """
    draws = [draw(padding, size, seed) for seed in range(40)]
    state, x, y = min(draws, key=lambda d: rounding(*d, padding))
    print(f"{padding}: float32 gradients of PyTorch are within {rounding(state, x, y, padding):.1e}")
    out = {"x": x.astype(np.float16), "y": y, **{f"state.{k}": v for k, v in state.items()}}
    xt, yt = torch.tensor(x).double().permute(0, 3, 1, 2), torch.tensor(y).double()
    model = build(state, padding, torch.float64).eval()
    with torch.no_grad():
        out["features"], out["logits"] = model.features(xt).numpy(), model(xt).numpy()
    model, logits, loss = step(state, x, y, padding, torch.float64)
    out["train.logits"], out["train.loss"] = logits.detach().numpy(), loss.detach().numpy()
    for name, parameter in model.named_parameters():
        out[f"gradient.{name}"] = parameter.grad.numpy().astype(np.float32)
    for name, buffer in model.named_buffers():
        if "running" in name:
            out[f"after.{name}"] = buffer.numpy().astype(np.float32)
    optimisers = {
        "adam": lambda p: torch.optim.Adam(p, lr=1e-4),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-4, weight_decay=0.05),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, nesterov=True),
    }
    for kind, make_optimiser in optimisers.items():
        model = build(state, padding, torch.float64).train()
        decayed = {"params": [p for p in model.parameters() if p.ndim > 1]}
        others = {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}
        optimiser = make_optimiser([decayed, others])
        trace = []
        for _ in range(10):
            optimiser.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(model(xt), yt)
            loss.backward()
            optimiser.step()
            trace.append(loss.item())
        out[f"{kind}.losses"] = np.array(trace)
    return out


def main() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN / "losses.npz", **make_losses())
    np.savez_compressed(GOLDEN / "mobilenet_v1_same.npz", **make_network("same", SIZE))
    np.savez_compressed(GOLDEN / "mobilenet_v1_symmetric.npz", **make_network("symmetric", 49))


if __name__ == "__main__":
    main()
