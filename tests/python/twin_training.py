"""The head, the optimisers and the schedules in NumPy and double, by their definitions."""

from __future__ import annotations

import math

import numpy as np

EPSILON, MOMENTUM = 1e-5, 0.1  # of the head's BatchNorm
WEIGHT, BIAS = "head.normalization.weight", "head.normalization.bias"
MEAN, VARIANCE = "head.normalization.running_mean", "head.normalization.running_var"
MATRIX, OFFSET = "head.classifier.weight", "head.classifier.bias"


def matrix(x):
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"numbers are {x.dtype}")
    if x.ndim != 2:
        raise ValueError(f"shape is {x.shape}")
    return x


def sigmoid(x):
    x = matrix(x)
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def head(parameters, features):
    """Logits: BatchNorm by the running statistics, ReLU, fully connected."""
    features = matrix(features)
    if len(features) == 0 or features.shape[1] != len(parameters[MEAN]) or not np.isfinite(features).all():
        raise ValueError(f"features have shape {features.shape} or are not finite")
    p = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    normal = (features - p[MEAN]) / np.sqrt(p[VARIANCE] + EPSILON)
    return np.maximum(normal * p[WEIGHT] + p[BIAS], 0) @ p[MATRIX][0, 0] + p[OFFSET]


def head_step(parameters, features, target):
    """Loss (binary cross-entropy), gradients and running statistics of one training batch."""
    p = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    n, deviation = len(features), np.sqrt(features.var(axis=0) + EPSILON)
    normal = (features - features.mean(axis=0)) / deviation
    before = normal * p[WEIGHT] + p[BIAS]
    active = np.maximum(before, 0)
    logits = active @ p[MATRIX][0, 0] + p[OFFSET]
    loss = np.mean(np.logaddexp(0, logits) - target * logits)
    dlogits = (sigmoid(logits) - target) / target.size
    dbefore = (dlogits @ p[MATRIX][0, 0].T) * (before > 0)
    gradients = {
        WEIGHT: (dbefore * normal).sum(axis=0),
        BIAS: dbefore.sum(axis=0),
        MATRIX: (active.T @ dlogits)[None, None],
        OFFSET: dlogits.sum(axis=0),
    }
    statistics = {
        MEAN: p[MEAN] + MOMENTUM * (features.mean(axis=0) - p[MEAN]),
        VARIANCE: p[VARIANCE] + MOMENTUM * (features.var(axis=0) * n / (n - 1) - p[VARIANCE]),
    }
    return loss, gradients, statistics


class Optimiser:
    """Adam, AdamW and SGD with momentum; weights decay, BatchNorm and biases do not."""

    def __init__(
        self,
        parameters,
        kind="adam",
        betas=(0.9, 0.999),
        epsilon=1e-8,
        weight_decay=0.0,
        nesterov=False,
        clip_norm=None,
        average_decay=None,
    ):
        if kind not in ("adam", "adamw", "sgd"):
            raise ValueError(kind)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are {betas}")
        if not (epsilon > 0 and weight_decay >= 0 and (clip_norm or 0) >= 0 and 0 <= (average_decay or 0) < 1):
            raise ValueError("an option is out of its range")
        self.kind, self.betas, self.epsilon, self.decay = kind, betas, epsilon, weight_decay
        self.nesterov, self.clip, self.average_decay = nesterov, clip_norm, average_decay
        self.values = {name: np.array(value, np.float64) for name, value in parameters.items()}
        self.average = {name: value.copy() for name, value in self.values.items()}
        self.first = {name: np.zeros_like(value) for name, value in self.values.items()}
        self.second = {name: np.zeros_like(value) for name, value in self.values.items()}
        self.steps = 0

    def step(self, gradients, rate):
        """Moves the values; returns the norm of the gradients before clipping."""
        self.steps += 1
        norm = math.sqrt(sum(float((np.float64(g) ** 2).sum()) for g in gradients.values()))
        scale = min(1.0, self.clip / norm) if self.clip else 1.0
        for name, gradient in gradients.items():
            decay = self.decay if self.values[name].ndim > 1 else 0.0
            move = self.sgd if self.kind == "sgd" else self.adam
            move(name, np.float64(gradient) * scale, rate, decay)
        if self.average_decay:
            kept = min(self.average_decay, (1 + self.steps) / (10 + self.steps))
            for name, value in self.values.items():
                self.average[name] = kept * self.average[name] + (1 - kept) * value
        return norm

    def adam(self, name, gradient, rate, decay):
        w, (b1, b2) = self.values[name], self.betas
        if self.kind == "adamw":
            w -= rate * decay * w
        else:
            gradient = gradient + decay * w
        self.first[name] = b1 * self.first[name] + (1 - b1) * gradient
        self.second[name] = b2 * self.second[name] + (1 - b2) * gradient**2
        m, v = self.first[name] / (1 - b1**self.steps), self.second[name] / (1 - b2**self.steps)
        w -= rate * m / (np.sqrt(v) + self.epsilon)

    def sgd(self, name, gradient, rate, decay):
        w, momentum = self.values[name], self.betas[0]
        gradient = gradient + decay * w
        self.first[name] = momentum * self.first[name] + gradient
        w -= rate * (gradient + momentum * self.first[name] if self.nesterov else self.first[name])


def schedule(kind, epoch, epochs, *, warmup=0.0, factor=None, period=3.0, scores=()):
    """Factor of the rate at an epoch, after epochs with these validation scores."""
    if kind not in ("constant", "step", "cosine", "plateau"):
        raise ValueError(kind)
    if not (0 <= warmup < math.inf and 0 <= (factor or 0) < math.inf and 0 < period < math.inf):
        raise ValueError("an option is out of its range")
    if factor is None:
        factor = {"step": 0.1, "plateau": 0.3}.get(kind, 0.0)
    value, best, waited = 1.0, -math.inf, 0
    if kind == "step":
        value = factor ** (epoch // period)
    elif kind == "cosine":
        done = min(max((epoch - warmup) / (epochs - warmup), 0), 1) if epochs > warmup else 1
        value = factor + (1 - factor) * (1 + math.cos(math.pi * done)) / 2
    elif kind == "plateau":
        for score in scores:
            waited = 0 if score > best else waited + 1
            best = max(best, score) if score == score else best
            if waited >= period:
                value, waited = value * factor, 0
    return value * min(epoch / warmup, 1) if warmup else value
