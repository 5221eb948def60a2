"""Writes tests/golden/*.npz: what PyTorch computes, in double, for small networks of ours.

Needs PyTorch; the tests that read the files do not. Run: python tools/make_golden.py
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch_draws import clear_corners, randomise, settle
from torch_networks import twin
from torch_reference import load

import facsnet as fn

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
LABELS, DRAWS = 3, 40

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A narrow network; tests/python/test_golden.py has the same rows."""

    network: str
    width: float
    size: int
    padding: str
    epsilon: float
    images: int = 12
    packed: bool = True


@dataclass(frozen=True)
class Draw:
    state: State
    x: np.ndarray
    y: np.ndarray


CASES = {
    "mobilenet_v1_same": Case("mobilenet_v1", 1 / 16, 64, "same", 1e-3, packed=False),
    "mobilenet_v1_symmetric": Case("mobilenet_v1", 1 / 16, 49, "symmetric", 1e-3, packed=False),
    "mobilenet_v2_same": Case("mobilenet_v2", 1 / 32, 64, "same", 1e-3, images=8),
    "mobilenet_v2_symmetric": Case("mobilenet_v2", 1 / 32, 49, "symmetric", 1e-5, images=8),
    "densenet121": Case("densenet121", 1 / 16, 65, "symmetric", 1e-5, images=8),
    "vgg19": Case("vgg19", 1 / 32, 64, "symmetric", 1e-5, images=16),
    "vgg19_bn": Case("vgg19_bn", 1 / 32, 70, "symmetric", 1e-5),
}


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


def draw(case: Case, seed: int) -> Draw:
    """Weights, images and labels; no BatchNorm at its neutral values."""
    rng = np.random.default_rng(seed)
    shape = (case.images, case.size, case.size, 3)
    y = (np.arange(case.images * LABELS).reshape(case.images, LABELS) % 4 == 0).astype(np.float32)
    if case.packed:
        x = rng.integers(-8, 9, shape).astype(np.int8)
        model = twin(case.network, LABELS, width=case.width, padding=case.padding, epsilon=case.epsilon, dropout=0.0)
        randomise(model, seed)
        clear_corners(model.double(), tensor(x, torch.float64))
        settle(model, tensor(x, torch.float64), seed)
        state = {k: v.numpy() for k, v in model.float().state_dict().items() if "batches" not in k}
        return Draw(state, x, y)
    network = fn.Network(
        case.network,
        labels=LABELS,
        width=case.width,
        input_size=case.size,
        padding=case.padding,
        dropout=0.0,
        seed=seed,
    )
    state = {}
    for name, value in network.state_dict().items():
        state[name] = value + rng.uniform(0.0, 0.2, value.shape).astype(np.float32) if value.ndim == 1 else value
    return Draw(state, rng.normal(size=shape).astype(np.float16), y)


def stored(case: Case, prefix: str, values: State) -> dict[str, np.ndarray]:
    """A file's entries for a group of arrays; packed, since each array of a file costs 300 bytes."""
    if not case.packed:
        return {f"{prefix}.{k}": v for k, v in values.items()}
    flat = np.concatenate([np.ravel(v) for v in values.values()]).astype(np.float32)
    return {f"{prefix}.names": np.array(list(values)), f"{prefix}.values": flat}


def tensor(x: np.ndarray, kind: torch.dtype) -> torch.Tensor:
    """Images as PyTorch reads them; whole numbers are eighths."""
    values = torch.tensor(x.astype(np.float32) / (8 if x.dtype == np.int8 else 1), dtype=kind)
    return values.permute(0, 3, 1, 2)


def build(case: Case, state: State, kind: torch.dtype) -> nn.Module:
    model = twin(case.network, LABELS, width=case.width, padding=case.padding, epsilon=case.epsilon, dropout=0.0).to(
        kind
    )
    load(model, state)
    return model


def step(case: Case, d: Draw, kind: torch.dtype) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = build(case, d.state, kind).train()
    logits = model(tensor(d.x, kind))
    loss = functional.binary_cross_entropy_with_logits(logits, torch.tensor(d.y, dtype=kind))
    loss.backward()
    return model, logits, loss


def rounding(case: Case, d: Draw) -> float:
    """How far PyTorch's own float32 gradients are from its double ones.

    Those that are zero but for rounding are left out: of a bias that the next BatchNorm takes away.
    """
    models = [step(case, d, kind)[0] for kind in (torch.float32, torch.float64)]
    pairs = [(a.grad, b.grad) for a, b in zip(*(m.parameters() for m in models), strict=True)]
    largest = max(float(b.abs().max()) for _, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs if b.abs().max() > 1e-9 * largest)


def make_network(name: str, case: Case) -> dict[str, np.ndarray]:
    """Logits, loss and gradients of one small network; of MobileNet-v1 also ten steps of three optimisers.

    Of many draws the one that float32 rounds least. MobileNet-v1 needs that: elsewhere an activation
    that lies on the corner of a ReLU6 falls to either side and moves every gradient. The others have
    no activation there.
    """
    found = [(rounding(case, d), i, d) for i, d in enumerate(draw(case, seed) for seed in range(DRAWS))]
    least, seed, d = min(found, key=lambda row: row[0])
    print(f"{name}: float32 gradients of PyTorch are within {least:.1e} at draw {seed}", flush=True)
    out = {"x": d.x, "y": d.y} | stored(case, "state", d.state)
    xt = tensor(d.x, torch.float64)
    model = build(case, d.state, torch.float64).eval()
    with torch.no_grad():
        out["features"], out["logits"] = model.features(xt).numpy(), model(xt).numpy()
    if case.packed:
        out["features"] = out["features"].astype(np.float32)
    model, logits, loss = step(case, d, torch.float64)
    out["train.logits"], out["train.loss"] = logits.detach().numpy(), loss.detach().numpy()
    gradients = {k: p.grad.numpy().astype(np.float32) for k, p in model.named_parameters()}
    after = {k: b.numpy().astype(np.float32) for k, b in model.named_buffers() if "running" in k}
    out |= stored(case, "gradient", gradients) | stored(case, "after", after)
    return out | ({} if case.packed else make_traces(case, d))


def make_traces(case: Case, d: Draw) -> dict[str, np.ndarray]:
    xt, yt = tensor(d.x, torch.float64), torch.tensor(d.y).double()
    optimisers = {
        "adam": lambda p: torch.optim.Adam(p, lr=1e-4),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-4, weight_decay=0.05),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, nesterov=True),
    }
    out = {}
    for kind, make_optimiser in optimisers.items():
        model = build(case, d.state, torch.float64).train()
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["losses", *CASES]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    torch.set_num_threads(2)  # the draw that rounds least depends on it
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        arrays = make_losses() if name == "losses" else make_network(name, CASES[name])
        np.savez_compressed(GOLDEN / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
