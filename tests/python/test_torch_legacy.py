"""Our reader of what torch before 1.6 wrote, against torch and against broken and hostile files."""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_torch_file import KINDS, TWICE, check_arrays, check_equal, refusal, same
from torch_archives import (
    FOUR,
    MACHINE,
    OLD,
    PICKLES,
    STREAMS,
    Code,
    call,
    code,
    counted,
    machine,
    named,
    old_storage,
    old_tensor,
    outside,
    pickled,
    stream,
    tensor,
)

import facsnet as fn
from facsnet._torch_file import read_torch
from facsnet.weights import read_checkpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


# --- files without torch


@pytest.mark.parametrize("kind", KINDS)
def test_dtypes_and_layouts(file: Path, kind: str) -> None:
    values = (np.arange(24).reshape(4, 6) % 2).astype(KINDS[kind])
    data = old_storage(24, kind)
    state = {
        "rows": old_tensor((4, 6), (6, 1), data=data),
        "columns": tensor((6, 4), (1, 6), data=data),
        "part": old_tensor((2, 3), (6, 2), 7, data=data),
        "scalar": tensor((), (), 8, data=data),
        "empty": old_tensor((0, 5), (5, 1), data=data),
    }
    file.write_bytes(stream(state, counted(values.tobytes(), values.itemsize)))
    found = read_torch(file)
    wanted = {
        "rows": values,
        "columns": values.T,
        "part": values[1:3, 1:6:2],
        "scalar": values[1, 2],
        "empty": np.zeros((0, 5), values.dtype),
    }
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found[name], value)
    check_arrays(found)


def test_bfloat16(file: Path) -> None:
    values = np.array([0x3FC0, 0xC000, 0x7F80, 0x8000], "<u2")
    file.write_bytes(stream({"x": old_tensor(data=old_storage(4, "BFloat16"))}, counted(values.tobytes(), 2)))
    assert read_torch(file)["x"].tolist() == [1.5, -2.0, np.inf, -0.0]


def test_arrays_are_aligned_and_read_only_views(file: Path) -> None:
    views = 0
    for pad in range(4):
        file.write_bytes(stream({"model": OLD, "pad": "p" * pad}))
        found = read_torch(file)
        check_arrays(found)
        assert found["x"].tolist() == [0, 1, 2, 3]
        views += not found["x"].flags.owndata
    assert views == 1


def test_storages_are_in_the_order_of_the_list(file: Path) -> None:
    state = {"a": old_tensor(), "b": old_tensor((2,), data=old_storage(2, "Long", "1"))}
    file.write_bytes(stream(state, counted(struct.pack("<2q", 5, 6), 8) + counted(FOUR), ["1", "0"]))
    assert {name: array.tolist() for name, array in read_torch(file).items()} == {"a": [0, 1, 2, 3], "b": [5, 6]}


def test_views_of_storages(file: Path) -> None:
    part = old_storage(view=("1", 1, 3))
    state = {
        "all": old_tensor(),
        "part": old_tensor((3,), data=part),
        "last": old_tensor((2,), (1,), 1, data=part),
        "none": old_tensor((0,), data=old_storage(view=("2", 4, 0))),
    }
    file.write_bytes(stream(state))
    found = {name: array.tolist() for name, array in read_torch(file).items()}
    assert found == {"all": [0, 1, 2, 3], "part": [1, 2, 3], "last": [2, 3], "none": []}


def test_storages_without_elements_share_a_key(file: Path) -> None:
    state = {kind: old_tensor((0,), data=old_storage(0, kind)) for kind in KINDS}
    file.write_bytes(stream(state, counted(b"")))
    assert {name: array.dtype.str[1:] for name, array in read_torch(file).items()} == {**KINDS, "Bool": "b1"}


def test_nothing_is_a_state_dict_too(file: Path) -> None:
    file.write_bytes(stream({}, b"", []))
    assert read_torch(file) == {}


def test_machines_with_long_longs(file: Path) -> None:
    sizes = {"short": 2, "int": 4, "long": 8}
    file.write_bytes(stream(OLD, machine=machine(type_sizes=sizes)))
    assert list(read_torch(file)) == ["x"]


def short(text: str) -> Code:
    return Code(b"U" + bytes([len(text)]) + text.encode())


def written_by_python_2() -> bytes:
    """Byte strings, and an OrderedDict of its items, with an attribute."""
    data = outside((short("storage"), named("torch FloatStorage"), short("0"), short("cpu"), 4, None))
    rows = [[short("a.weight"), old_tensor((2, 2), (2, 1), data=data)], [Code(b"T\3\0\0\0b.w"), old_tensor(data=data)]]
    metadata = call("collections OrderedDict", [[short(""), {short("version"): 1}]])
    state = Code(call("collections OrderedDict", rows) + code({short("_metadata"): metadata}) + b"b")
    return stream(state, keys=[short("0")])


def test_python_2(file: Path) -> None:
    file.write_bytes(written_by_python_2())
    found = read_torch(file)
    assert {name: array.tolist() for name, array in found.items()} == {
        "a.weight": [[0, 1], [2, 3]],
        "b.w": [0, 1, 2, 3],
    }


def test_checkpoints_are_told_apart_by_their_first_bytes(file: Path) -> None:
    file.write_bytes(stream({f"module.{name}": row for name, row in OLD.items()}))
    assert list(read_checkpoint(file).tensors) == ["x"]


# --- files of torch


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def save(torch: Any, value: object, path: Path, protocol: int = 2) -> None:
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_dtypes(file: Path, torch: Any, protocol: int) -> None:
    names = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    state = {name: (torch.arange(15.0).reshape(3, 5) - 7).to(getattr(torch, name)) for name in names}
    state |= {f"{name}.scalar": value[1, 1].clone() for name, value in state.items()}
    state |= {f"{name}.none": torch.zeros(0, 4, dtype=getattr(torch, name)) for name in names}
    save(torch, state, file, protocol)
    same(file, torch, state)


def test_torch_views(file: Path, torch: Any) -> None:
    base = torch.arange(120.0).reshape(4, 5, 6)
    weight = torch.nn.Parameter(torch.arange(12.0).reshape(4, 3))
    state = {
        "base": base, "turned": base.permute(2, 0, 1), "part": base[1:3, ::2, 1::3], "one": base[2, 3, 4],
        "end": base[4:, 2:], "repeated": base[0, 0].expand(7, 6), "half": base.bfloat16()[:, 1].t(),
        "a": weight, "tied": weight, "detached": weight.detach(), "t": weight.data.t(),
    }  # fmt: skip
    save(torch, state, file)
    found = same(file, torch, state)
    assert found["a"] is found["tied"]
    assert found["a"] is found["detached"]


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("parallel", [False, True])
def test_torch_modules(file: Path, torch: Any, wrapper: str | None, parallel: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.PReLU())
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.rand(2, 3, 6, 6)).sum().backward()
    optimiser.step()
    state = net.state_dict()
    saved = state
    if parallel:
        saved = OrderedDict((f"module.{key}", value) for key, value in state.items())
        saved._metadata = state._metadata
    beside = {"epoch": 3, "best": 0.5, "arch": "net", "optimizer": optimiser.state_dict(), "history": [[1, 2.5], None]}
    save(torch, {wrapper: saved, **beside} if wrapper else saved, file)
    same(file, torch, state)
    loaded = torch.load(file, weights_only=True)
    same(file, torch, {key.removeprefix("module."): v for key, v in (loaded[wrapper] if wrapper else loaded).items()})


@pytest.mark.parametrize("kind", ["old", "views", "python_2"])
def test_torch_reads_ours_alike(file: Path, torch: Any, kind: str) -> None:
    part = old_storage(view=("1", 1, 3))
    files = {
        "old": stream({"a": old_tensor((2, 2), (1, 2)), "b": old_tensor((3,), (1,), 1)}),
        "views": stream({"a": old_tensor(), "b": old_tensor((2,), (1,), 1, data=part)}),
        "python_2": written_by_python_2(),
    }
    file.write_bytes(files[kind])
    # its own reader of weights lacks the strings of Python 2
    same(file, torch, torch.load(file, weights_only=kind != "python_2"))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torch_values_that_are_not_tensors(file: Path, torch: Any) -> None:
    odd = {
        "'torch.ComplexFloatStorage'": torch.ones(2, dtype=torch.complex64),
        "'torch._utils._rebuild_tensor_v3'": torch.ones(2, dtype=torch.uint16),
        "'torch._utils._rebuild_sparse_tensor'": torch.ones(2, 2).to_sparse(),
        "'torch.nn.modules.linear.Linear'": torch.nn.Linear(2, 2),
        "'torch.float32'": torch.float32,
        "'__builtin__.set'": {1, 2},
    }
    for message, value in odd.items():
        save(torch, {"state_dict": {"x": torch.ones(1)}, "odd": value}, file)
        assert message in refusal(file)


# --- hostile files


@pytest.mark.parametrize("kind", STREAMS)
def test_hostile_files(file: Path, kind: str) -> None:
    data, message = STREAMS[kind]
    file.write_bytes(data)
    tracemalloc.start()
    try:
        found = refusal(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert any(part in found for part in message.split("|")), found
    assert peak < 1 << 20


@pytest.mark.parametrize("place", range(5))
def test_hostile_pickles(file: Path, place: int) -> None:
    """In the place of each pickle; bombs are slow, and the same everywhere."""
    whole = [pickled(v) for v in (0x1950A86A20F9469CFC6C, 1001, MACHINE, OLD, ["0"])]
    for kind, (pickle, _) in PICKLES.items():
        if not kind.endswith("bomb"):
            file.write_bytes(b"".join([*whole[:place], pickle, *whole[place + 1 :]]) + counted(FOUR))
            refusal(file)


def test_nothing_is_executed(file: Path, tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    bad = call("os system", f"touch {victim}")
    for data in (
        stream(OLD, magic=bad),
        stream(OLD, version=bad),
        stream(OLD, machine=bad),
        stream({"x": bad}),
        stream(OLD, keys=[bad]),
    ):
        file.write_bytes(data)
        assert "'os.system'" in refusal(file)
    assert not victim.exists()


@pytest.mark.parametrize(
    "data",
    [
        stream(OLD, magic=TWICE),
        stream(OLD, version=TWICE),
        stream(OLD, machine=TWICE),
        stream(OLD, machine=machine(protocol_version=TWICE)),
        stream(OLD, machine=machine(type_sizes={"short": TWICE})),
        stream(OLD, keys=TWICE),
        stream(OLD, keys=[TWICE]),
        stream(outside(TWICE)),
        stream(old_storage(TWICE)),
        stream(old_storage(key=TWICE)),
        stream(old_storage(view=TWICE)),
        stream(old_storage(view=(TWICE, TWICE, TWICE))),
        stream(old_storage(view=("1", TWICE, TWICE))),
        stream({"x": old_tensor(TWICE)}),
    ],
)
def test_tuples_of_tuples_do_not_take_forever(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    start = time.perf_counter()
    refusal(file)
    assert time.perf_counter() - start < 10


def test_many_views_do_not_add_up(file: Path) -> None:
    numel = 1 << 18
    data = old_storage(numel)
    state = {f"{i}": old_tensor((2, numel // 2 - i), (1, 2), data=data) for i in range(100)}
    file.write_bytes(stream(state, counted(bytes(4 * numel))))
    assert "over 4 times the file's bytes" in refusal(file)


def test_large_pickles_are_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = stream(OLD)
    size = len(data) - len(counted(FOUR))
    file.write_bytes(data)
    monkeypatch.setattr("facsnet._torch_legacy.PICKLE_LIMIT", size)
    assert list(read_torch(file)) == ["x"]
    monkeypatch.setattr("facsnet._torch_legacy.PICKLE_LIMIT", size - 1)
    assert f"it has {size - 1}" in refusal(file)


# --- damage

SMALL = {"a": old_tensor(), "b": tensor((2, 2), (1, 2), data=old_storage()), "n": old_tensor((), (), data=old_storage(1, "Long", "1"))}  # fmt: skip


def small_files(path: Path) -> Iterator[bytes]:
    yield stream({"model": SMALL, "epoch": 3}, counted(FOUR) + counted(bytes(8), 8), ["0", "1"])
    yield written_by_python_2()
    try:
        import torch
    except ImportError:
        return
    save(torch, {"a": torch.arange(4.0), "b": torch.arange(4.0).reshape(2, 2).t(), "n": torch.tensor(True)}, path)
    yield path.read_bytes()


def test_every_prefix_is_refused(file: Path) -> None:
    for data in small_files(file):
        file.write_bytes(data)
        assert read_torch(file)
        for size in reversed(range(len(data))):
            os.truncate(file, size)
            refusal(file)


def test_flipped_bits_are_found_or_give_arrays(file: Path) -> None:
    """Without checksums the numbers, names and the shapes that still fit can be others."""
    chance = random.Random(0)
    for data in small_files(file):
        file.write_bytes(data)
        wanted = read_torch(file)
        read = refused = changed = 0
        with open(file, "r+b", buffering=0) as stream:
            for _ in range(3000):
                places = [chance.randrange(len(data)) for _ in range(chance.choice((1, 1, 2, 8)))]
                for at in places:
                    os.pwrite(stream.fileno(), bytes([data[at] ^ 1 << chance.randrange(8)]), at)
                try:
                    arrays = read_torch(file)
                except fn.FormatError as problem:
                    refused += str(problem).startswith(f"{file}: ")
                else:
                    read += 1
                    check_arrays(arrays)
                    changed += not check_equal(arrays, wanted)
                for at in places:
                    os.pwrite(stream.fileno(), data[at : at + 1], at)
        assert read + refused == 3000
        assert refused > 2000
        assert changed


def test_random_opcodes(file: Path) -> None:
    chance = random.Random(1)
    good = pickled({"model": SMALL, "epoch": 3})
    start, rest = stream({"model": SMALL, "epoch": 3}, counted(FOUR) + counted(bytes(8), 8), ["0", "1"]).split(good)
    opcodes = b"N\x88\x89KMJ\x8aGXUT\x8cBC)]}(t\x85\x86\x87aesuqr\x94hjc\x93RbQ\x95."
    read = refused = 0
    for _ in range(1000):
        pickle = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 4))):
            at = chance.randrange(2, len(pickle))
            some = bytes(chance.choices(opcodes, k=chance.randrange(1, 4)))
            pickle[at : at + chance.choice((0, len(some)))] = chance.choice((some, bytes([chance.randrange(256)])))
        file.write_bytes(start + pickle + rest)
        try:
            arrays = read_torch(file)
        except fn.FormatError as problem:
            refused += str(problem).startswith(f"{file}: ")
        else:
            read += 1
            check_arrays(arrays)
    assert read + refused == 1000
    assert read
