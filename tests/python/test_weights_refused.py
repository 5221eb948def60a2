"""Checkpoints that do not fit: another network, damage, half of it. All or nothing is loaded."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from weight_files import frozen, nothing_neutral, small, write

import facsnet as fn
from facsnet._dialects import NETWORKS, dialects_of


def refused(network: fn.Network, path: Path, message: str, *, strict: bool = False) -> None:
    before, config = frozen(network), network.config
    with pytest.raises(fn.FormatError, match=message):
        network.load_weights(path, strict=strict)
    assert (frozen(network), network.config) == (before, config)


@pytest.mark.parametrize(("held", "wanted"), list(itertools.permutations(NETWORKS, 2)))
def test_another_network_is_refused(held: str, wanted: str, tmp_path: Path) -> None:
    for dialect in dialects_of(held):
        state = nothing_neutral(small(held)).state_dict(layout=dialect.layout)
        refused(small(wanted, epsilon=0.1), write(tmp_path / "w.safetensors", state), r"w\.safetensors")


def test_a_file_of_no_network(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", {"encoder.weight": np.zeros((3, 3), np.float32)})
    refused(small("vgg19"), path, "not a checkpoint of vgg19.*'features.0.weight'.*begins with 'encoder.weight'")
    with pytest.raises(fn.FormatError, match="not a checkpoint of any of mobilenet_v1"):
        fn.load_weights(path)


def test_strict_refuses_what_is_missing_or_left_over(tmp_path: Path) -> None:
    network = nothing_neutral(small("mobilenet_v2"))
    state = network.state_dict()
    other = small("mobilenet_v2", epsilon=0.1, seed=2)
    more = write(tmp_path / "more.safetensors", {**state, "ema.decay": np.ones(1, np.float32)})
    refused(other, more, r"strict.*unused \('ema.decay'", strict=True)
    less = write(tmp_path / "less.safetensors", {k: v for k, v in state.items() if not k.startswith("head.")})
    refused(other, less, r"strict.*missing \['head\.", strict=True)
    assert other.load_weights(more).unused == ("ema.decay",)
    assert frozen(other) == frozen(network)


@pytest.mark.parametrize("gone", ["features.0.0.weight", "features.9.conv.1.1.running_var", "features.18.1.bias"])
def test_part_of_a_backbone_is_refused(gone: str, tmp_path: Path) -> None:
    state = small("mobilenet_v2").state_dict()
    state.pop(gone)
    path = write(tmp_path / "w.safetensors", state)
    refused(small("mobilenet_v2", epsilon=0.1), path, f"1 of its tensors are missing, first '{gone}'")
    with pytest.raises(fn.FormatError, match="not a checkpoint"):
        fn.load_weights(path)


def test_half_a_head_is_left_alone(tmp_path: Path) -> None:
    state = nothing_neutral(small("densenet121")).state_dict()
    state.pop("head.normalization.running_mean")
    network = small("densenet121", seed=2)
    before = {k: v.copy() for k, v in network.parameters().items() if k.startswith("head.")}
    report = network.load_weights(write(tmp_path / "w.safetensors", state))
    assert set(before) == set(report.missing)
    assert "head.classifier.weight" in report.unused
    assert all((network.parameters()[k] == v).all() for k, v in before.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_classifier_of_other_labels_is_left_alone(name: str, tmp_path: Path) -> None:
    for dialect in dialects_of(name):
        state = nothing_neutral(small(name, head="classifier", labels=10)).state_dict(layout=dialect.layout)
        path = write(tmp_path / "w.safetensors", state)
        network = small(name, head="classifier", seed=2)
        before = {n: v.copy() for n, v in network.parameters().items() if n.startswith("classifier")}
        assert before
        report = network.load_weights(path)
        assert set(report.missing) == set(before)
        assert all((network.parameters()[n] == v).all() for n, v in before.items())
        # nor does one get in the way of the action-unit head
        report = small(name).load_weights(path)
        assert len(report.unused) == len(before) and all(n.startswith("head.") for n in report.missing)


def test_a_classifier_of_another_map_needs_its_size(tmp_path: Path) -> None:
    """VGG's classifier reads the whole map, so it fits one input size."""
    nothing_neutral(small("vgg19", head="classifier")).save_weights(tmp_path / "w.safetensors")
    assert fn.load_weights(tmp_path / "w.safetensors", input_size=64).config.head == "classifier"
    with pytest.raises(fn.FormatError, match=r"head does not fit input_size=96, 'classifier\.0\.weight'"):
        fn.load_weights(tmp_path / "w.safetensors", input_size=96)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite(value: float, tmp_path: Path) -> None:
    for name in ("mobilenet_v2", "vgg19_bn"):
        state = nothing_neutral(small(name)).state_dict()
        for key in (next(iter(state)), next(k for k in state if "running_var" in k), "head.classifier.bias"):
            bad = {k: v.astype(np.float64) if k == key else v for k, v in state.items()}
            bad[key].flat[-1] = value
            path = write(tmp_path / "w.safetensors", bad)
            refused(small(name, epsilon=0.1), path, rf"'{key}' holds numbers that are not finite")


def test_variances_below_0(tmp_path: Path) -> None:
    state = nothing_neutral(small("vgg19_bn")).state_dict()
    state["features.4.running_var"][0] = -1e-3
    refused(small("vgg19_bn"), write(tmp_path / "w.safetensors", state), r"'features\.4\.running_var'.*below 0")


@pytest.mark.parametrize("dtype", ["f8", "f2", "i4", "u1"])
def test_other_number_types(dtype: str, tmp_path: Path) -> None:
    state = {k: np.round(v * 2).astype(dtype) for k, v in nothing_neutral(small("mobilenet_v2")).state_dict().items()}
    network = small("mobilenet_v2")
    network.load_weights(write(tmp_path / "w.safetensors", state), strict=True)
    found = network.state_dict()
    assert all((found[k] == v).all() and found[k].dtype == np.float32 for k, v in state.items())


def test_truth_values_are_refused(tmp_path: Path) -> None:
    state = small("mobilenet_v2").state_dict()
    state["features.0.1.bias"] = np.ones(state["features.0.1.bias"].shape, bool)
    refused(small("mobilenet_v2"), write(tmp_path / "w.safetensors", state), r"'features\.0\.1\.bias' holds bool")


@pytest.mark.parametrize("shape", [(8,), (8, 3), (3, 3, 3, 8), (8, 3, 3, 3, 1), (8, 3, 3, 4), (0, 3, 3, 3)])
def test_other_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    state = small("mobilenet_v2").state_dict()
    state["features.0.0.weight"] = np.ones(shape, np.float32)
    path = write(tmp_path / "w.safetensors", state)
    refused(small("mobilenet_v2", epsilon=0.1), path, r"'features\.0\.0\.weight' has shape .*, want \(8, 3, 3, 3\)")


# --- the description that our files have


def damaged(field: str, value: object) -> str:
    config = small("mobilenet_v1").config.to_dict()
    if field in ("mean", "std"):
        config["preprocessing"][field] = value
    else:
        config[field] = value
    return json.dumps(config)


@pytest.mark.parametrize(
    "description",
    [
        "",
        "null",
        "[]",
        "3",
        "{",
        "{}",
        "[" * 100_000,
        *(damaged("padding", value) for value in (None, 3, [], "", "valid", "same\0")),
        *(damaged("activation", value) for value in (None, 3, {}, "gelu")),
        *(damaged("epsilon", value) for value in (None, True, "x", 0, 1, -1, 10**400, float("nan"))),
        *(damaged("head", value) for value in (None, 3, [])),
        *(damaged("labels", value) for value in (None, 3, [], "", [1, 2, 3], ["a", "a", "b"])),
        *(damaged("width", value) for value in (None, "x", float("nan"), 10**400)),
        *(damaged("preprocessing", value) for value in (None, 3, {}, {"mean": 1})),
        *(damaged("mean", value) for value in (None, [1], [1, 2, "x"], [1e300] * 3, [10**400] * 3)),
        *(damaged("std", value) for value in (None, [0] * 3, [-1] * 3, [float("nan")] * 3)),
        damaged("unknown", 1),
    ],
)
def test_damaged_descriptions(description: str, tmp_path: Path) -> None:
    network = small("mobilenet_v1")
    path = write(
        tmp_path / "w.safetensors",
        nothing_neutral(small("mobilenet_v1")).state_dict(),
        {"facsnet.network": description},
    )
    before, config = frozen(network), network.config
    with pytest.raises(fn.FormatError, match=r"w\.safetensors"):
        network.load_weights(path)
    assert (frozen(network), network.config) == (before, config)
    with pytest.raises(fn.FormatError, match=r"w\.safetensors"):
        fn.load_weights(path, input_size=64)


@pytest.mark.parametrize("width", [0.0, -1.0, 8.5, 1e9])
def test_impossible_widths(width: float, tmp_path: Path) -> None:
    path = write(
        tmp_path / "w.safetensors", small("mobilenet_v1").state_dict(), {"facsnet.network": damaged("width", width)}
    )
    with pytest.raises(fn.FormatError, match="times as wide as mobilenet_v1"):
        fn.load_weights(path, input_size=64)


def test_a_description_of_another_head_is_refused(tmp_path: Path) -> None:
    labels = damaged("labels", ["a", "b", "c", "d"])
    path = write(tmp_path / "w.safetensors", small("mobilenet_v1").state_dict(), {"facsnet.network": labels})
    with pytest.raises(fn.FormatError, match="3 outputs.*4 labels"):
        fn.load_weights(path, input_size=64)
