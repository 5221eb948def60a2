"""Our reader of Keras files: every layout that Keras wrote, real models, and broken files."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import facsnet as fn
from facsnet._keras_file import ordered_layers, read_keras

h5py = pytest.importorskip("h5py", reason="needs h5py: pip install facsnet[keras]")

SHAPES = {
    "kernel": (3, 3, 2, 4), "depthwise_kernel": (3, 3, 4, 1), "bias": (4,),
    "gamma": (4,), "beta": (4,), "moving_mean": (4,), "moving_variance": (4,),
}  # fmt: skip
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# layers of a small network, in its order
SMALL = {"conv1": ("kernel", "bias"), "conv1_bn": NORM, "conv1_relu": (), "conv_dw_1": ("depthwise_kernel",)}
CLASSES = {"conv1": "conv2d", "conv1_bn": "batch_normalization", "conv1_relu": "re_lu", "conv_dw_1": "depthwise_conv2d"}


def array(layer: str, variable: str, dtype: str = "<f4") -> np.ndarray:
    """Values that belong to one variable of one layer."""
    seed = [ord(c) for c in f"{layer}/{variable}"]
    return np.random.default_rng(seed).normal(size=SHAPES[variable]).astype(dtype)


def wanted(layers: dict[str, tuple[str, ...]] = SMALL) -> dict[str, np.ndarray]:
    return {f"{layer}/{variable}": array(layer, variable) for layer, variables in layers.items() for variable in variables}  # fmt: skip


def write_legacy(
    path: Path,
    layers: dict[str, tuple[str, ...]] = SMALL,
    name: Callable[[str, str], str] = lambda layer, variable: f"{layer}/{variable}:0",
    *,
    root: str = "/",
    dtype: str = "<f4",
) -> None:
    """Writes as Keras does: `name` gives the path of a variable within the group of its layer."""
    with h5py.File(path, "a") as file:
        group = file.require_group(root)
        group.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, variables in layers.items():
            folder = group.create_group(layer)
            folder.attrs["weight_names"] = [name(layer, variable).encode() for variable in variables]
            for variable in variables:
                value = array(layer, variable, dtype)
                folder.create_dataset(name(layer, variable), value.shape, value.dtype)[...] = value


def write_counted(
    path: Path,
    layers: dict[str, tuple[str, ...]] = SMALL,
    classes: dict[str, str] = CLASSES,
    *,
    named: bool = True,
    root: str = "layers",
) -> None:
    """Writes a .weights.h5, with the layers' names as Keras 3.6 does or without."""
    count: dict[str, int] = {}
    with h5py.File(path, "a") as file:
        file.require_group("vars")
        for layer, variables in layers.items():
            kind = classes[layer]
            count[kind] = count.get(kind, -1) + 1
            group = file.create_group(f"{root}/{kind}" + (f"_{count[kind]}" if count[kind] else "")).create_group(
                "vars"
            )
            if named:
                group.attrs["name"] = layer
            for i, variable in enumerate(variables):
                group[str(i)] = array(layer, variable)


def check(found: dict[str, np.ndarray], layers: dict[str, tuple[str, ...]] = SMALL) -> None:
    expected = wanted(layers)
    assert set(found) == set(expected)
    for tensor, value in expected.items():
        assert found[tensor].dtype == value.dtype
        np.testing.assert_array_equal(found[tensor], value)


# --- what Keras writes


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(lambda layer, variable: f"{layer}/{variable}:0", id="Keras 2"),
        pytest.param(lambda layer, variable: f"{layer}_1/{variable}:0", id="Keras 2, built twice"),
        pytest.param(lambda layer, variable: variable, id="Keras 3.0"),
        pytest.param(lambda layer, variable: f"{layer}/{variable}", id="Keras 3.3"),
        pytest.param(lambda layer, variable: f"sequential_1/{layer}/{variable}", id="Keras 3.3, Sequential"),
    ],
)
@pytest.mark.parametrize("root", ["/", "model_weights"])
def test_legacy_layouts(tmp_path: Path, name: Callable[[str, str], str], root: str) -> None:
    write_legacy(tmp_path / "w.h5", name=name, root=root)
    found = read_keras(tmp_path / "w.h5")
    check(found)
    assert list(found) == list(wanted())


def test_keras_1_names(tmp_path: Path) -> None:
    layers = {"block1_conv1": ("kernel", "bias"), "block1_conv2": ("kernel", "bias")}
    write_legacy(tmp_path / "w.h5", layers, lambda layer, variable: f"{layer}_{'W' if variable == 'kernel' else 'b'}_1:0")  # fmt: skip
    check(read_keras(tmp_path / "w.h5"), layers)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("conv1/conv", "conv1_conv"),
        ("conv1/bn", "conv1_bn"),
        ("conv2_block1_0_bn", "conv2_block1_0_bn"),
        ("mobl0_conv_0_depthwise", "expanded_conv_depthwise"),
        ("bn0_conv_0_bn_project", "expanded_conv_project_BN"),
        ("mobl16_conv_16_expand", "block_16_expand"),
        ("bn16_conv_16_bn_depthwise", "block_16_depthwise_BN"),
        ("mobl16_conv_1_expand", "mobl16_conv_1_expand"),
        ("bn_Conv1", "bn_Conv1"),
        ("fc1000", "predictions"),
        ("Logits", "predictions"),
    ],
)
def test_old_names_of_layers(tmp_path: Path, written: str, read: str) -> None:
    write_legacy(tmp_path / "w.h5", {written: NORM})
    assert list(read_keras(tmp_path / "w.h5")) == [f"{read}/{variable}" for variable in NORM]


def test_counted_with_names(tmp_path: Path) -> None:
    write_counted(tmp_path / "x.weights.h5")
    check(read_keras(tmp_path / "x.weights.h5"))


@pytest.mark.parametrize("root", ["layers", "_layer_checkpoint_dependencies"])
def test_counted_without_names(tmp_path: Path, root: str) -> None:
    layers = {f"conv{i}" if i % 2 else f"bn{i}": ("kernel",) if i % 2 else NORM for i in range(24)}
    classes = {layer: "conv2d" if layer.startswith("conv") else "batch_normalization" for layer in layers}
    write_counted(tmp_path / "x.weights.h5", layers, classes, named=False, root=root)
    found = read_keras(tmp_path / "x.weights.h5")
    assert "conv2d/kernel" in found and "batch_normalization_11/gamma" in found
    order = ordered_layers(found)
    for kind in ("conv2d", "batch_normalization"):
        ours = [layer for layer in layers if classes[layer] == kind]
        assert order[kind] == [kind, *(f"{kind}_{i}" for i in range(1, 12))]
        for layer, counted in zip(ours, order[kind], strict=True):
            for variable in layers[layer]:
                np.testing.assert_array_equal(found[f"{counted}/{variable}"], array(layer, variable))


def config(layers: dict[str, str], *, name: str = "model") -> dict[str, Any]:
    return {
        "class_name": "Functional",
        "config": {"name": name, "layers": [{"class_name": kind, "config": {"name": layer}} for layer, kind in layers.items()]},
    }  # fmt: skip


def test_keras_3_calls_depthwise_kernels_kernel(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_legacy(path, name=lambda layer, variable: f"{layer}/{variable.removeprefix('depthwise_')}", root="model_weights")  # fmt: skip
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps(config({"conv1": "Conv2D", "conv_dw_1": "DepthwiseConv2D"}))
    check(read_keras(path))


def test_a_model_within_a_model(tmp_path: Path) -> None:
    """Keras writes what trains first, so conv1, which is frozen, comes last."""
    path = tmp_path / "w.h5"
    weights = ["conv2/kernel:0", "conv2_bn/gamma:0", "conv1/bn/gamma:0", "conv1/conv/kernel:0"]
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"inner", b"dense"]
        for layer, names in {"inner": weights, "dense": ["dense/bias:0"]}.items():
            group.create_group(layer).attrs["weight_names"] = [weight.encode() for weight in names]
            for weight in names:
                group[layer][weight] = np.zeros(SHAPES[weight.split("/")[-1][:-2]], np.float32)
        inner = config({"conv1/conv": "Conv2D", "conv1/bn": "X", "conv2": "Conv2D", "conv2_bn": "X"}, name="inner")
        outer = {"class_name": "Sequential", "config": {"name": "s", "layers": [inner, {"class_name": "Dense", "config": {"name": "dense"}}]}}  # fmt: skip
        file.attrs["model_config"] = json.dumps(outer)
    order = ("conv1_conv/kernel", "conv1_bn/gamma", "conv2/kernel", "conv2_bn/gamma", "dense/bias")
    assert tuple(read_keras(path)) == order


def test_a_counted_model_within_a_model(tmp_path: Path) -> None:
    path = tmp_path / "x.weights.h5"
    write_counted(path, root="layers/functional/layers")
    write_counted(path, {"head": ("kernel",)}, {"head": "dense"})
    check(read_keras(path), {**SMALL, "head": ("kernel",)})


def test_long_lists_of_names_are_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    layers = {f"{'x' * 200}_{i}": ("bias",) for i in range(400)}
    write_legacy(path, layers)
    with h5py.File(path, "a") as file:
        del file.attrs["layer_names"]
        for part, names in enumerate(np.array_split(np.array([layer.encode() for layer in layers]), 3)):
            file.attrs[f"layer_names{part}"] = names
            assert names.dtype.kind == "S"  # as h5py 2 wrote all lists
    assert list(read_keras(path)) == [f"{layer}/bias" for layer in layers]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_arrays_are_read_only_views(tmp_path: Path, dtype: str) -> None:
    write_legacy(tmp_path / "w.h5", dtype=dtype)
    for tensor, value in read_keras(tmp_path / "w.h5").items():
        np.testing.assert_array_equal(value, array(*tensor.split("/"), dtype))
        assert value.dtype == np.dtype(dtype)
        assert value.flags.aligned and not value.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            value[0] = 9


def test_counters_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_legacy(path)
    with h5py.File(path, "a") as file:
        file["conv1_relu"].attrs["weight_names"] = [b"seed_generator_state"]
        file["conv1_relu"]["seed_generator_state"] = np.array([1, 2], np.uint32)
    check(read_keras(path))
    path = tmp_path / "x.weights.h5"
    write_counted(path)
    with h5py.File(path, "a") as file:
        file["layers/re_lu/seed_generator/vars/0"] = np.array([1, 2], np.uint32)
        file["optimizer/vars/0"] = np.array(7)
    check(read_keras(path))


def test_order_of_classes(tmp_path: Path) -> None:
    write_legacy(tmp_path / "w.h5", {**SMALL, "block/conv": ("kernel",), "block/bn": NORM})
    tensors = read_keras(tmp_path / "w.h5")
    tensors["fc/kernel"] = np.zeros((4, 2))
    assert ordered_layers(tensors) == {
        "conv2d": ["conv1", "block_conv"],
        "depthwise_conv2d": ["conv_dw_1"],
        "batch_normalization": ["conv1_bn", "block_bn"],
        "dense": ["fc"],
    }
    with pytest.raises(ValueError, match="'odd' has gamma: it is none of conv2d"):
        ordered_layers({"odd/gamma": np.zeros(1)})


# --- files that are not there, and things that are no Keras file


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_legacy(tmp_path / "w.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install facsnet\[keras\]"):
        read_keras(tmp_path / "w.h5")


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_keras(tmp_path / "absent.h5")
    with pytest.raises(IsADirectoryError):
        read_keras(tmp_path)
    write_legacy(tmp_path / "w.h5")
    (tmp_path / "w.h5").chmod(0)
    if not os.access(tmp_path / "w.h5", os.R_OK):  # root may read all
        with pytest.raises(PermissionError):
            read_keras(tmp_path / "w.h5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"begins with b''"),
        (b"\x89HDF\r\n\x1a", "not an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an HDF5 file"),
        (b"PK\x03\x04" + bytes(100), r'zip archive.*model\.save_weights\("x\.weights\.h5"\)'),
        (b"\x89HDF\r\n\x1a\n", "damaged"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(512), "not an HDF5 file"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other.h5"
    path.write_bytes(content)
    with pytest.raises(fn.FormatError, match=rf"other\.h5: .*{message}"):
        read_keras(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(fn.FormatError, match=r"pipe\.h5: begins with b''"):
        read_keras(tmp_path / "pipe.h5")


# --- hostile files


@pytest.fixture
def bounded() -> Iterator[None]:
    """Little memory is taken, whatever the file claims to need."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


KERNEL = "conv1/conv1/kernel:0"
BIAS = "conv1/conv1/bias:0"
VARS = "layers/conv2d/vars"


def put(path: str, value: Any) -> Callable[[Any], None]:
    """Puts a link, an array or a type in a place; None leaves it empty, text links the object of that name."""

    def write(file: Any) -> None:
        there = file[value] if isinstance(value, str) else value
        if path in file:
            del file[path]
        if there is not None:
            file[path] = there

    return write


def replaced(path: str, **options: Any) -> Callable[[Any], None]:
    def write(file: Any) -> None:
        del file[path]
        file.create_dataset(path, **options)

    return write


def external_storage(file: Any) -> None:
    Path(f"{file.filename}.bytes").write_bytes(bytes(288))
    replaced(KERNEL, shape=(3, 3, 2, 4), dtype="<f4", external=[(f"{file.filename}.bytes", 0, 288)])(file)


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 3, 2, 4), "<f4")
    layout[...] = h5py.VirtualSource(file.filename, "other", (3, 3, 2, 4))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def compact(file: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    del file[KERNEL]
    h5py.h5d.create(file["conv1/conv1"].id, b"kernel:0", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), plist)


def odd_float(file: Any) -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 20, 11, 0, 20)
    del file[KERNEL]
    h5py.h5d.create(file["conv1/conv1"].id, b"kernel:0", kind, h5py.h5s.create_simple((4,)))


def named_type(file: Any) -> None:
    file["type"] = np.dtype("<f4")
    replaced(KERNEL, shape=(4,), dtype=file["type"])(file)


def shared_layer(file: Any) -> None:
    file["again"] = file["conv1"]
    file.attrs["layer_names"] = [b"conv1", b"again"]


def layer_names(*names: Any, **options: Any) -> Callable[[Any], None]:
    return lambda file: file.attrs.create("layer_names", *names, **options)


def lists_of_names(file: Any) -> None:
    kind = h5py.h5t.vlen_create(h5py.h5t.IEEE_F64LE)
    del file.attrs["layer_names"]
    h5py.h5a.create(file.id, b"layer_names", kind, h5py.h5s.create_simple((1,)))


def weight_names(*names: bytes) -> Callable[[Any], None]:
    return lambda file: file["conv1"].attrs.__setitem__("weight_names", list(names))


def another_variable(file: Any) -> None:
    file["conv1"].move("conv1/bias:0", "conv1/pointwise_kernel:0")
    weight_names(b"conv1/pointwise_kernel:0")(file)


def two_names_for_one(file: Any) -> None:
    for layer in ("a/b", "a_b"):
        file.create_group(layer).attrs["weight_names"] = [b"bias"]
        file[layer]["bias"] = np.zeros(2, np.float32)
    file.attrs["layer_names"] = [b"a/b", b"a_b"]


def model_config(text: str) -> Callable[[Any], None]:
    def write(file: Any) -> None:
        group = file.create_group("model_weights")
        for layer in list(file):
            if layer != "model_weights":
                file.move(layer, f"model_weights/{layer}")
        group.attrs["layer_names"] = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["model_config"] = text

    return write


def deep(file: Any) -> None:
    file.move("layers", "inner")
    file.move("inner", "/".join(["layers/functional"] * 20) + "/layers")


def more_arrays(*numbers: str, layer: str = "conv2d") -> Callable[[Any], None]:
    def write(file: Any) -> None:
        for number in numbers:
            file[f"layers/{layer}/vars/{number}"] = np.zeros(4, np.float32)

    return write


def layer_name(name: Any) -> Callable[[Any], None]:
    return lambda file: file[VARS].attrs.__setitem__("name", name)


def removed(*paths: str) -> Callable[[Any], None]:
    def write(file: Any) -> None:
        for path in paths:
            del file[path]

    return write


LEGACY: list[tuple[str, Callable[[Any], None], str]] = [
    ("soft link to an array", put(KERNEL, h5py.SoftLink(f"/{BIAS}")), "'kernel:0'.*soft link"),
    ("soft link to a layer", put("conv1", h5py.SoftLink("/conv1_bn")), "'conv1'.*soft link"),
    ("external link to an array", put(KERNEL, h5py.ExternalLink("target.h5", f"/{KERNEL}")), "'conv1' in '/conv1'.*newer form"),
    ("external link to a layer", put("conv1", h5py.ExternalLink("target.h5", "/conv1")), "the root.*newer form"),
    ("bytes in another file", external_storage, "'kernel:0'.*bytes in another file"),
    ("virtual dataset", virtual, "virtual dataset|newer form"),
    ("compressed", replaced(KERNEL, data=np.zeros((3, 3, 2, 4), "<f4"), compression="gzip"), "'kernel:0'.*filters"),
    ("compressed bomb", replaced(KERNEL, shape=(1 << 22, 1 << 22), dtype="<f4", chunks=(1, 1 << 10), compression="gzip"), "filters"),
    ("checksums", replaced(KERNEL, data=np.zeros((4, 4), "<f4"), fletcher32=True), "filters"),
    ("chunks", replaced(KERNEL, data=np.zeros((4, 4), "<f4"), chunks=(2, 2)), "'conv1/kernel': stored in chunks"),
    ("chunks of nothing", replaced(KERNEL, shape=(1 << 22, 1 << 22), dtype="<f4", chunks=(1, 1 << 10)), "in chunks"),
    ("resizable", replaced(KERNEL, shape=(4, 4), dtype="<f4", maxshape=(None, None)), "in chunks"),
    ("array never written", replaced(KERNEL, shape=(1 << 20, 1 << 20), dtype="<f4"), r"\(1048576, 1048576\) wants 4398046511104 bytes.*stores 0"),
    ("compact array", compact, "stored in its header"),
    ("integers", replaced(KERNEL, data=np.zeros((3, 3, 2, 4), "<i4")), "'conv1/kernel': dtype int32, want float16"),
    ("big-endian", replaced(KERNEL, data=np.zeros((3, 3, 2, 4), ">f4")), "dtype >f4"),
    ("another float", odd_float, "'conv1/kernel': dtype"),
    ("complex", replaced(KERNEL, data=np.zeros(4, "<c8")), "dtype complex64"),
    ("texts", replaced(KERNEL, data=np.array([b"ab"])), r"dtype \|S2"),
    ("heaped texts", replaced(KERNEL, data=["a", "b"]), "dtype object"),
    ("references", replaced(KERNEL, shape=(4,), dtype=h5py.ref_dtype), "dtype object"),
    ("lists", replaced(KERNEL, shape=(4,), dtype=h5py.vlen_dtype(np.float32)), "dtype object"),
    ("opaque", replaced(KERNEL, data=np.zeros(4, "V8")), r"dtype \|V8"),
    ("named type", named_type, "'kernel:0'.*flags 0x"),
    ("empty array", replaced(KERNEL, shape=(0, 4), dtype="<f4"), r"shape \(0, 4\)"),
    ("no dataspace", replaced(KERNEL, data=h5py.Empty("<f4")), "shape None"),
    ("many sides", replaced(KERNEL, data=np.zeros((1,) * 20, "<f4")), "want 0 to 8 sides"),
    ("group for an array", put(KERNEL, "conv1_bn"), "'conv1/kernel': found a group, want a dataset"),
    ("array for a group", put("conv1", np.zeros(3, "<f4")), "'conv1': found a dataset, want a group"),
    ("type for a group", put("conv1", np.dtype("<f4")), "'conv1': found a datatype, want a group"),
    ("array on the way", weight_names(b"conv1/kernel:0/x"), "parent is a dataset"),
    ("two arrays in one place", put("conv1_bn/conv1_bn/beta:0", "conv1_bn/conv1_bn/gamma:0"), "'conv1_bn/gamma' and 'conv1_bn/beta' share bytes"),
    ("two layers in one place", shared_layer, "layer 'conv1' is in 'conv1/conv1' and in 'again/conv1'"),
    ("absent layer", layer_names([b"conv1", b"conv2"]), "'conv2' in '/': found nothing"),
    ("absent array", weight_names(b"conv1/kernel:0", b"conv1/x:0"), "'x:0' in '/conv1/conv1': found nothing"),
    ("layer twice", layer_names([b"conv1", b"conv1"]), "'conv1/kernel' is there twice"),
    ("array twice", weight_names(b"conv1/bias:0", b"conv1/bias:0"), "'conv1/bias' is there twice"),
    ("two names for one layer", two_names_for_one, "layer 'a_b' is in 'a/b/' and in 'a_b/'"),
    ("no weight_names", lambda file: file["conv1"].attrs.__delitem__("weight_names"), "layer 'conv1' has no attribute weight_names"),
    ("another variable", another_variable, "tensor 'conv1/conv1/pointwise_kernel:0': want one of beta, bias"),
    ("no layers", layer_names([], dtype="f8"), "none of its layers has weights"),
    ("layer without a name", layer_names([b"conv1", b""]), "'' is not a name"),
    ("layer is its parent", layer_names([b"conv1", b"."]), "'.' is not a name"),
    ("layer above", layer_names([b"../conv1"]), "'../conv1' is not a name"),
    ("layer from the root", layer_names([b"/conv1"]), "'/conv1' is not a name"),
    ("two slashes", weight_names(b"conv1//kernel:0"), "'conv1//kernel:0' is not a name"),
    ("line break", layer_names([b"conv1\n"]), r"'conv1\\n' is not a name"),
    ("long name", layer_names([b"x" * 2000]), "is not a name"),
    ("not UTF-8", layer_names(np.array([b"conv1\xff"])), "'layer_names'.*not UTF-8"),
    ("names are numbers", layer_names([1, 2]), "'layer_names': datatype of class 0, want text"),
    ("names are references", layer_names(np.zeros(1), shape=(1,), dtype="f8"), "'layer_names': datatype of class 1"),
    ("one name", layer_names(b"conv1"), "'layer_names': 0 sides.*want 1"),
    ("names in a square", layer_names(np.array([[b"conv1"]])), "'layer_names': 2 sides.*want 1"),
    ("no names", layer_names(h5py.Empty("S5")), "'layer_names': .*dataspace of version 2"),
    ("lists of names", lists_of_names, "datatype of class 9, want text"),
    ("broken configuration", model_config("{"), "'model_config' is not JSON"),
    ("deep configuration", model_config("[" * 200_000), "'model_config' is not JSON"),
]  # fmt: skip

COUNTED: list[tuple[str, Callable[[Any], None], str]] = [
    ("neither layout", put("layers", None), "no attribute layer_names, no group model_weights or layers"),
    ("no arrays", removed(f"{VARS}/0", f"{VARS}/1", "layers/batch_normalization", "layers/depthwise_conv2d"), "none of its layers"),
    ("models without end", put("layers/functional/layers", "layers"), "group '/layers.*' is in two places"),
    ("models twenty deep", deep, "deeper than 8"),
    ("two layers are one", put("layers/conv2d_1", "layers/conv2d"), "is in two places"),
    ("soft link to the layers", put("layers", h5py.SoftLink("/vars")), "soft link"),
    ("external link to the layers", put("layers/conv2d_1", h5py.ExternalLink("target.h5", "/layers/conv2d")), "newer form"),
    ("another class", more_arrays("0", layer="lstm_cell_1"), "layer 'lstm_cell_1' has weights: want a layer of conv2d"),
    ("too many arrays", more_arrays("2"), "layer 'conv2d' has the arrays '0, 1, 2', want 1 or 2 from 0"),
    ("other numbers", more_arrays("00"), "want 1 or 2 from 0"),
    ("no number", more_arrays("kernel"), "want 1 or 2 from 0"),
    ("too few arrays", put("layers/batch_normalization/vars/3", None), "layer 'batch_normalization' has the arrays '0, 1, 2', want 4 from 0"),
    ("group for an array", put(f"{VARS}/0", "vars"), "found a group"),
    ("array for vars", put(VARS, np.zeros(4, "<f4")), "'vars': found a dataset, want a group"),
    ("integers", replaced(f"{VARS}/0", data=np.zeros(4, "<i8")), "'conv1/kernel': dtype int64"),
    ("counter with a zero", lambda file: file.move("layers/conv2d", "layers/conv2d_01"), "layer 'conv2d_01' has weights"),
    ("name twice", layer_name("conv_dw_1"), "layer 'conv_dw_1' is in '/layers/conv2d/vars' and in '/layers/depthwise_conv2d/vars'"),
    ("name is a number", layer_name(3), "'name': datatype of class 0, want text"),
    ("name is a list", layer_name([b"conv1"]), "'name': 1 sides"),
    ("name leads up", layer_name("../conv1"), "'../conv1' is not a name"),
    ("name of nothing", layer_name(""), "'' is not a name"),
]  # fmt: skip


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(("change", "message"), [pytest.param(*case[1:], id=case[0]) for case in LEGACY])
def test_hostile_legacy_files(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    path = tmp_path / "hostile.h5"
    write_legacy(path)
    shutil.copy(path, tmp_path / "target.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(fn.FormatError, match=rf"hostile\.h5: .*({message})"):
        read_keras(path)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(("change", "message"), [pytest.param(*case[1:], id=case[0]) for case in COUNTED])
def test_hostile_weights_files(tmp_path: Path, change: Callable[[Any], object], message: str) -> None:
    path = tmp_path / "hostile.weights.h5"
    write_counted(path)
    shutil.copy(path, tmp_path / "target.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(fn.FormatError, match=rf"hostile\.weights\.h5: .*({message})"):
        read_keras(path)


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"libver": "v110"}, {"userblock_size": 512}, {"track_order": True}])  # fmt: skip
def test_newer_formats_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "new.h5"
    with h5py.File(path, "w", **options) as file:
        file.create_group("layers", track_order=options.get("track_order"))
    with pytest.raises(fn.FormatError, match=r"new\.h5: "):
        read_keras(path)


def test_too_many_names(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        for part in range(8):
            file.attrs[f"layer_names{part}"] = np.array([b"conv1"] * 12_000)
    with pytest.raises(fn.FormatError, match="12000 texts of 5 bytes|12000"):
        read_keras(path)


# --- damage that the library itself does not survive


def patched(path: Path, start: int, form: str, *values: int) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, start, *values)
    path.write_bytes(content)


def header_of(path: Path, name: str) -> int:
    with h5py.File(path) as file:
        return int(h5py.h5o.get_info(file[name].id).addr)


@pytest.mark.usefixtures("bounded")
def test_a_text_that_claims_four_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_legacy(path)
    place = path.read_bytes().index(struct.pack("<IQ", len("conv1"), path.read_bytes().index(b"GCOL")))
    patched(path, place, "<I", 0xFFFFFFFF)
    with pytest.raises(fn.FormatError, match=r"w\.h5: .*4294967295 bytes"):
        read_keras(path)


@pytest.mark.usefixtures("bounded")
def test_texts_that_are_one_long_text(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_legacy(path)
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = ["x" * 100_000] + ["y"] * 3000
    content = path.read_bytes()
    first = content.index(struct.pack("<I", 100_000))
    path.write_bytes(content[: first + 16] + content[first : first + 16] * 3000 + content[first + 16 * 3001 :])
    with pytest.raises(fn.FormatError, match=r"w\.h5: .*100000 bytes"):
        read_keras(path)


@pytest.mark.parametrize("length", [0, 8, 1 << 20, 1 << 62])
def test_a_heap_that_stands_still_or_overflows(tmp_path: Path, length: int) -> None:
    path = tmp_path / "w.h5"
    write_legacy(path)
    heap = path.read_bytes().index(b"GCOL")
    patched(path, heap + 16, "<HHIQ", 0 if length < 16 else 1, 0, 0, length)
    with pytest.raises(fn.FormatError, match=r"w\.h5: the HDF5 structure is damaged"):
        read_keras(path)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", ["/", "conv1", KERNEL])
def test_a_header_that_continues_in_itself(tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.h5"
    write_legacy(path)
    address = header_of(path, name)
    patched(path, address + 16, "<HHB3xQQ", 0x10, 16, 0, address + 16, 24)
    patched(path, address + 8, "<I", 24)
    with pytest.raises(fn.FormatError, match=r"w\.h5: "):
        read_keras(path)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("free", [0, 8, 1 << 40])
def test_free_places_without_end(tmp_path: Path, free: int) -> None:
    path = tmp_path / "w.h5"
    write_legacy(path)
    heap = path.read_bytes().rindex(b"HEAP")
    segment = struct.unpack_from("<Q", path.read_bytes(), heap + 24)[0]
    patched(path, heap + 16, "<Q", free)
    if free < 1 << 40:
        patched(path, segment + free, "<Q", free)
    with pytest.raises(fn.FormatError, match=r"w\.h5: "):
        read_keras(path)


@pytest.mark.parametrize(("start", "form", "value"), [(8, "B", 1), (8, "B", 9), (13, "B", 4), (14, "B", 2), (24, "<Q", 8), (40, "<Q", 1 << 40), (48, "<Q", 96), (64, "<Q", 1 << 60), (88, "<Q", 0)])  # fmt: skip
def test_odd_superblocks(tmp_path: Path, start: int, form: str, value: int) -> None:
    write_legacy(tmp_path / "w.h5")
    patched(tmp_path / "w.h5", start, form, value)
    with pytest.raises(fn.FormatError, match=r"w\.h5: "):
        read_keras(tmp_path / "w.h5")


def test_a_shape_beyond_what_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    write_legacy(path)
    header = header_of(path, KERNEL)
    shape = path.read_bytes().index(struct.pack("<8Q", *SHAPES["kernel"] * 2), header)
    for sides in ((3, 3, 2, 5), (1 << 15, 1 << 15, 1 << 15, 4), (3, 3, 2, 3)):
        patched(path, shape, "<8Q", *sides * 2)
        with pytest.raises(
            fn.FormatError, match=r"w\.h5: .*(kernel:0.*invalid dataset size|'conv1/kernel': shape .* wants)"
        ):
            read_keras(path)


@pytest.mark.parametrize("write", [write_legacy, write_counted])
def test_truncations(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "w.h5"
    write(path)
    content = path.read_bytes()
    for size in (*range(120), *range(120, len(content), 61), len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(fn.FormatError, match=r"w\.h5: "):
            read_keras(path)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("write", [write_legacy, write_counted])
def test_random_damage(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """No damage does more than change values and names, or be found."""
    path = tmp_path / "w.h5"
    write(path)
    content = path.read_bytes()
    dice = random.Random(0)
    used = [i for i in range(len(content)) if content[i]]
    found = 0
    for turn in range(600):
        damaged = bytearray(content)
        for _ in range(1 + turn % 3):
            damaged[dice.choice(used)] = dice.choice((0, 1, 0x7F, 0xFF, dice.randrange(256)))
        path.write_bytes(damaged)
        message, tensors = "", {}
        try:
            tensors = read_keras(path)
        except fn.FormatError as problem:
            message = str(problem)
        assert message.startswith(f"{path}: ") or tensors
        assert sum(value.nbytes for value in tensors.values()) <= len(content)
        found += bool(message)
    assert found > 50


# --- Keras itself

MODELS = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "DenseNet121": {},
    "DenseNet201": {},
    "VGG19": {},
}
KINDS = {"Conv2D": "conv2d", "DepthwiseConv2D": "depthwise_conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}  # fmt: skip


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", minversion="3.6", reason="needs Keras 3: pip install keras torch")


def randomise(model: Any) -> None:
    """Gives every variable values of its own, as Keras gives to kernels only."""
    dice = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(dice.uniform(0.5, 1.5, size=weight.shape))


def content_of(model: Any) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """What the model holds, and its layers by class in its order."""
    tensors: dict[str, np.ndarray] = {}
    order: dict[str, list[str]] = {kind: [] for kind in KINDS.values()}
    for layer in model.layers:
        for weight in layer.weights:
            depthwise = "depthwise_" if type(layer).__name__ == "DepthwiseConv2D" and weight.name == "kernel" else ""
            tensors[f"{layer.name}/{depthwise}{weight.name}"] = np.array(weight.value.detach().cpu())
        if layer.weights:
            order[KINDS[type(layer).__name__]].append(layer.name)
    return tensors, order


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "top"), [(name, top) for name in MODELS for top in (False, True) if (name, top) != ("VGG19", True)]
)
def test_models_of_keras(tmp_path: Path, keras: Any, name: str, top: bool) -> None:
    keras.utils.clear_session()
    options = {"include_top": True, "classes": 10} if top else {"include_top": False, "input_shape": (64, 64, 3)}
    model = getattr(keras.applications, name)(weights=None, **MODELS[name], **options)
    randomise(model)
    tensors, order = content_of(model)
    model.save_weights(tmp_path / "x.weights.h5")
    model.save(tmp_path / "whole.h5")
    for path in (tmp_path / "x.weights.h5", tmp_path / "whole.h5"):
        found = read_keras(path)
        assert ordered_layers(found) == order
        assert set(found) == set(tensors)
        for tensor, value in tensors.items():
            np.testing.assert_array_equal(found[tensor], value)
    # as Keras before 3.6 wrote it
    with h5py.File(tmp_path / "x.weights.h5", "a") as file:
        for layer in file["layers"].values():
            layer["vars"].attrs.pop("name", None)
    found = read_keras(tmp_path / "x.weights.h5")
    counted = ordered_layers(found)
    for kind, layers in order.items():
        assert len(counted[kind]) == len(layers)
        for ours, theirs in zip(counted[kind], layers, strict=True):
            for variable in SHAPES:
                assert (f"{ours}/{variable}" in found) == (f"{theirs}/{variable}" in tensors)
                if f"{theirs}/{variable}" in tensors:
                    np.testing.assert_array_equal(found[f"{ours}/{variable}"], tensors[f"{theirs}/{variable}"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_trained_model_within_a_model_of_keras(tmp_path: Path, keras: Any) -> None:
    keras.utils.clear_session()
    base = keras.applications.MobileNet(weights=None, alpha=0.25, include_top=False, input_shape=(32, 32, 3))
    for layer in base.layers[:40]:
        layer.trainable = False
    randomise(base)
    layers = keras.layers
    head = [
        layers.GlobalAveragePooling2D(),
        layers.BatchNormalization(),
        layers.Dropout(0.2),
        layers.Dense(3, activation="sigmoid"),
    ]
    model = keras.Sequential([base, *head])
    model.compile("adam", "binary_crossentropy")
    model.fit(np.zeros((2, 32, 32, 3), np.float32), np.zeros((2, 3), np.float32), verbose=0)
    tensors, order = content_of(base)
    model.save_weights(tmp_path / "x.weights.h5")
    model.save(tmp_path / "whole.h5")
    for path in (tmp_path / "x.weights.h5", tmp_path / "whole.h5"):
        found = read_keras(path)
        assert len(found) == len(tensors) + 6
        for tensor, value in tensors.items():
            np.testing.assert_array_equal(found[tensor], value)
        for kind, names in order.items():
            assert ordered_layers(found)[kind][: len(names)] == names
    model.save(tmp_path / "x.keras")
    with pytest.raises(fn.FormatError, match=r"x\.keras: a zip archive.*save_weights"):
        read_keras(tmp_path / "x.keras")
