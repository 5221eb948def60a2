"""Our reader of PyTorch checkpoints, against torch and against broken and hostile files."""

from __future__ import annotations

import io
import os
import random
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_archives import (
    ARCHIVES,
    FOUR,
    GOOD,
    PICKLES,
    REBUILD,
    STATE,
    TENSORS,
    Code,
    call,
    code,
    outside,
    pickled,
    storage,
    tensor,
    write,
)

import facsnet as fn
from facsnet._torch_file import read_torch

KINDS = {
    "Double": "f8", "Float": "f4", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip


def refusal(path: Path) -> str:
    """The message of the refusal, which begins with the file's name."""
    with pytest.raises(fn.FormatError) as caught:
        read_torch(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


# --- files without torch


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes_and_layouts(file: Path, kind: str, order: str) -> None:
    dtype = np.dtype(KINDS[kind])
    values = (np.arange(24).reshape(4, 6) % 2).astype(dtype)
    data = storage(24, kind)
    state = {
        "rows": tensor((4, 6), (6, 1), data=data),
        "columns": tensor((6, 4), (1, 6), data=data),
        "part": tensor((2, 3), (6, 2), 7, data=data),
        "scalar": tensor((), (), 8, data=data),
        "repeated": tensor((3, 6), (0, 1), 6, data=data),
        "row": tensor((1, 6), (1 << 61, 1), 6, data=data),
        "empty": tensor((0, 1 << 50), (1, 1), 99, data=data),
    }
    stored = values.astype(dtype.newbyteorder("<" if order == "little" else ">"))
    write(file, pickled(state), {"0": stored.tobytes()}, byteorder=order.encode())
    found = read_torch(file)
    wanted = {
        "rows": values,
        "columns": values.T,
        "part": values[1:3, 1:6:2],
        "scalar": values[1, 2],
        "repeated": values[[1, 1, 1]],
        "row": values[1:2],
        "empty": np.zeros((0, 1 << 50), dtype),
    }
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == dtype
        assert found[name].dtype.isnative
        assert found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("order", ["little", "big"])
def test_bfloat16(file: Path, order: str) -> None:
    values = np.array([0x3FC0, 0xC000, 0x7F80, 0x8000], "<u2" if order == "little" else ">u2")
    data = storage(4, "BFloat16")
    state = {
        "all": tensor(data=data),
        "pairs": tensor((2, 2), (1, 2), data=data),
        "scalar": tensor((), (), data=data),
        "none": tensor((0,), (1,), data=data),
    }
    write(file, pickled(state), {"0": values.tobytes()}, byteorder=order.encode())
    found = read_torch(file)
    assert found["all"].tolist() == [1.5, -2.0, np.inf, -0.0]
    assert found["pairs"].tolist() == [[1.5, np.inf], [-2.0, -0.0]]
    assert (found["scalar"].shape, float(found["scalar"])) == ((), 1.5)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    check_arrays(found)


def check_arrays(arrays: dict[str, np.ndarray]) -> None:
    for array in arrays.values():
        assert type(array) is np.ndarray
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert not array.flags.writeable


def test_arrays_are_aligned_and_read_only_views(file: Path) -> None:
    for pad in range(8):
        write(file, pickled({"x": tensor(), "y": tensor((2, 2), (1, 2))}), pad=b"p" * pad)
        found = read_torch(file)
        check_arrays(found)
        assert found["x"].tolist() == [0, 1, 2, 3]
        assert found["y"].tolist() == [[0, 2], [1, 3]]
    write(file, pickled({"x": tensor(data=storage(4, "Byte"))}), {"0": b"1234"})
    assert not read_torch(file)["x"].flags.owndata


def test_the_folder_has_any_name(file: Path) -> None:
    for root in ("archive", "ä", "a b", ".pth", "x" * 200):
        write(file, pickled({"x": tensor()}), root=root)
        assert read_torch(file)["x"].shape == (4,)


def test_entries_of_folders_are_none_of_ours(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for title, data in (("", b""), ("data/", b""), ("data/0", FOUR), ("data.pkl", GOOD), ("version", b"3\n")):
            archive.writestr(f"net/{title}", data)
    assert read_torch(file)["x"].tolist() == [0, 1, 2, 3]


def test_equal_tensors_are_read_once(file: Path) -> None:
    write(file, pickled({"a": tensor((2, 2), (1, 2)), "b": tensor((2, 2), (1, 2))}))
    found = read_torch(file)
    assert found["a"] is found["b"]


@pytest.mark.parametrize(
    "value",
    [
        STATE,
        {"state_dict": STATE},
        {"model": STATE},
        {"epoch": 3, "model_state_dict": STATE, "losses": [1.5, [2, None]], "arch": "net", 7: (True, -(2**70))},
        {"model": "resnet", "state_dict": STATE},
        {"model": {"width": 3}, "state_dict": STATE, "optimizer": {"state": {0: {"step": tensor()}}}},
        {f"module.{key}": row for key, row in STATE.items()},
        {"state_dict": {f"module.{key}": row for key, row in STATE.items()}},
        Code(call("collections OrderedDict") + b"(" + b"".join(code(k) + code(v) for k, v in STATE.items()) + b"u" + code({"_metadata": {"": {"version": 1}}}) + b"b"),
        {key: call("torch._utils _rebuild_parameter", row, True, call("collections OrderedDict")) for key, row in STATE.items()},
    ],
    ids=["bare", "state_dict", "model", "model_state_dict", "name", "config", "module", "both", "ordered", "parameters"],
)  # fmt: skip
def test_wrappers(file: Path, value: object) -> None:
    write(file, pickled(value))
    found = read_torch(file)
    assert list(found) == ["a", "b.c"]
    assert found["b.c"].tolist() == [[0, 1], [2, 3]]


def test_a_prefix_of_some_names_stays(file: Path) -> None:
    write(file, pickled({"module.a": tensor(), "b": tensor()}))
    assert list(read_torch(file)) == ["module.a", "b"]


def test_nothing_is_a_state_dict_too(file: Path) -> None:
    write(file, pickled({}))
    assert read_torch(file) == {}


def test_later_protocols(file: Path) -> None:
    """Frames, short strings, names on the stack and counted memos, as torch.save(pickle_protocol=5) writes them."""

    def short(text: str) -> bytes:
        return b"\x8c" + bytes([len(text)]) + text.encode() + b"\x94"

    def on_stack(module: str, name: str) -> bytes:
        return short(module) + short(name) + b"\x93\x94"

    key = short("storage") + on_stack("torch", "FloatStorage") + short("0") + short("cpu") + b"K\4t\x94"
    hooks = on_stack("collections", "OrderedDict") + b")R\x94"
    row = on_stack("torch._utils", "_rebuild_tensor_v2") + b"((" + key + b"QK\0K\2K\2\x86K\1K\2\x86\x89" + hooks + b"tR"
    others = short("bytes") + b"C\2ab" + short("many") + b"B\2\0\0\0ab" + short("size") + b"M\1\2J\xff\xff\xff\xff\x86"
    body = b"}\x94(" + short("model") + b"}\x94" + short("x") + row + b"s" + others + b"u."
    write(file, b"\x80\5\x95" + struct.pack("<Q", len(body)) + body)
    assert read_torch(file)["x"].tolist() == [[0, 2], [1, 3]]


def test_a_long_memo(file: Path) -> None:
    many = b"".join(code(f"k{i}") + b"r" + struct.pack("<L", i) + code(0) for i in range(1000))
    again = b"](" + b"".join(b"j" + struct.pack("<L", i) for i in range(1000)) + b"e"
    top = b"}(" + code("config") + b"}(" + many + b"u" + code("keys") + again + code("model") + code(STATE) + b"u"
    write(file, b"\x80\2" + top + b".")
    assert list(read_torch(file)) == ["a", "b.c"]


# --- files of torch


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def same(file: Path, torch: Any, state: dict[str, Any]) -> dict[str, np.ndarray]:
    """What we read of a file, where it is what torch saved."""
    found = read_torch(file)
    assert list(found) == list(state)
    for name, value in state.items():
        wanted = (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        assert found[name].dtype == wanted.dtype
        assert found[name].shape == wanted.shape
        np.testing.assert_array_equal(found[name], wanted)
    check_arrays(found)
    return found


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_dtypes(file: Path, torch: Any, protocol: int) -> None:
    names = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    state = {name: (torch.arange(15.0).reshape(3, 5) - 7).to(getattr(torch, name)) for name in names}
    state |= {f"{name}.scalar": value[1, 1].clone() for name, value in state.items()}
    state |= {f"{name}.none": torch.zeros(0, 4, dtype=getattr(torch, name)) for name in names}
    torch.save(state, file, pickle_protocol=protocol)
    same(file, torch, state)


def test_torch_views(file: Path, torch: Any) -> None:
    base = torch.arange(120.0).reshape(4, 5, 6)
    state = {
        "base": base, "turned": base.permute(2, 0, 1), "part": base[1:3, ::2, 1::3], "one": base[2, 3, 4],
        "end": base[4:, 2:], "repeated": base[0, 0].expand(7, 6), "windows": base.flatten().unfold(0, 20, 3),
        "channels": torch.ones(2, 3, 4, 5).cumsum(1).to(memory_format=torch.channels_last),
        "half": base.bfloat16()[:, 1].t(), "wide": torch.ones(1, 1).expand(1, 500),
    }  # fmt: skip
    torch.save(state, file)
    same(file, torch, state)


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
    torch.save({wrapper: saved, **beside} if wrapper else saved, file)
    found = same(file, torch, state)
    assert found["1.num_batches_tracked"].shape == ()
    assert found["1.num_batches_tracked"] == 1


def test_torch_parameters_and_shared_storages(file: Path, torch: Any) -> None:
    weight = torch.nn.Parameter(torch.arange(12.0).reshape(4, 3))
    state = {"a": weight, "tied": weight, "detached": weight.detach(), "t": weight.data.t(), "row": weight.data[1]}
    torch.save(state, file)
    found = same(file, torch, state)
    assert found["a"] is found["tied"]
    assert found["a"] is found["detached"]


def test_torch_file_names(tmp_path: Path, torch: Any) -> None:
    state = {"x": torch.ones(3)}
    for name in ("ä.pt", "two.dots.pth", "none", "a b.pt"):
        torch.save(state, tmp_path / name)
        same(tmp_path / name, torch, state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (tmp_path / "written.bin").write_bytes(buffer.getvalue())
    same(tmp_path / "written.bin", torch, state)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torch_script(file: Path, torch: Any) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), file)
    assert "TorchScript" in refusal(file)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torch_values_that_are_not_tensors(file: Path, torch: Any) -> None:
    complexes = torch.ones(2, dtype=torch.complex64)
    odd = {
        "'torch.ComplexFloatStorage'": complexes,
        "a tensor is made of (Storage, int, tuple, tuple, bool, OrderedDict, dict)": complexes.conj().imag,
        "'torch._utils._rebuild_tensor_v3'": torch.ones(2, dtype=torch.uint16),
        "'torch._utils._rebuild_sparse_tensor'": torch.ones(2, 2).to_sparse(),
        "'torch._utils._rebuild_meta_tensor_no_storage'": torch.ones(2, device="meta"),
        "'torch.storage.UntypedStorage'": torch.ones(2).untyped_storage(),
        "'torch.nn.modules.linear.Linear'": torch.nn.Linear(2, 2),
        "'torch.float32'": torch.float32,
        "'__builtin__.set'": {1, 2},
        "'_codecs.encode'": b"ab",
        "multiarray": np.ones(2),
        "'pathlib.": Path("x"),
    }
    for message, value in odd.items():
        torch.save({"state_dict": {"x": torch.ones(1)}, "odd": value}, file)
        assert message in refusal(file)


def test_torch_without_checksums(file: Path, torch: Any) -> None:
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes them")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.ones(3)}, file)
    finally:
        torch.serialization.set_crc32_options(True)
    assert "checksum" in refusal(file)


# --- hostile pickles


@pytest.mark.parametrize("kind", PICKLES)
def test_hostile_pickles(file: Path, kind: str) -> None:
    pickle, message = PICKLES[kind]
    write(file, pickle)
    assert message in refusal(file)


def test_nothing_is_executed(file: Path, tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    for module in ("os", "posix", "subprocess", "builtins"):
        for name in ("system", "call", "exec"):
            write(file, pickled({"x": call(f"{module} {name}", f"touch {victim}"), "y": tensor()}))
            refusal(file)
    assert not victim.exists()


# each level holds the one below twice: 2**60 leaves, which no one may visit
TWICE = Code(b")" + b"q\0h\0\x86" * 60)


@pytest.mark.parametrize(
    "value",
    [
        {"model": {"x": TWICE}},
        {"x": tensor(shape=TWICE)},
        {"x": tensor(strides=TWICE)},
        {"x": tensor(offset=TWICE)},
        Code(b"}" + TWICE + b"Ns"),
        outside(TWICE),
        outside(("storage", TWICE, TWICE, TWICE, TWICE)),
        storage(TWICE),
        Code(REBUILD + TWICE + b"R"),
        Code(TWICE + TWICE + b"R"),
        TWICE,
    ],
)
def test_tuples_of_tuples_do_not_take_forever(file: Path, value: object) -> None:
    write(file, pickled(value))
    start = time.perf_counter()
    refusal(file)
    assert time.perf_counter() - start < 10


def test_a_long_chain_of_values_is_let_go(file: Path) -> None:
    chain = Code(b")" + b"\x85" * 300_000)  # a tuple in a tuple in a tuple
    write(file, pickled({"model": STATE, "chain": chain}))
    assert list(read_torch(file)) == ["a", "b.c"]


# --- hostile tensors


@pytest.mark.parametrize("kind", TENSORS)
def test_hostile_tensors(file: Path, kind: str) -> None:
    value, message = TENSORS[kind]
    write(file, pickled({"good": tensor(), "bad": value}))
    tracemalloc.start()
    try:
        found = refusal(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert any(part in found for part in message.split("|"))
    if "made of" not in message and "storage" not in kind.split("_"):
        assert found.startswith("tensor 'bad': ")
    assert peak < 1 << 20


def test_many_views_do_not_add_up(file: Path) -> None:
    """A short pickle can ask for many copies of one storage."""
    numel = 1 << 18
    data = storage(numel)
    state = {f"{i}": tensor((2, numel // 2 - i), (1, 2), data=data) for i in range(100)}
    write(file, pickled(state), {"0": bytes(4 * numel)})
    assert "over 4 times the file's bytes" in refusal(file)


# --- hostile archives


@pytest.mark.parametrize("kind", ARCHIVES)
def test_hostile_archives(file: Path, kind: str) -> None:
    build, message = ARCHIVES[kind]
    build(file)
    found = refusal(file)
    assert any(part in found for part in message.split("|")), found


def test_a_large_pickle_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, GOOD)
    monkeypatch.setattr("facsnet._torch_file.PICKLE_LIMIT", len(GOOD))
    assert list(read_torch(file)) == ["x"]
    monkeypatch.setattr("facsnet._torch_file.PICKLE_LIMIT", len(GOOD) - 1)
    assert "the limit is" in refusal(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_torch(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_torch(tmp_path / "none.pth")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "0 bytes" in refusal(tmp_path / "pipe")


# --- damage

SMALL = {"a": tensor(), "b": tensor((2, 2), (1, 2)), "n": tensor((), (), data=storage(1, "Long", "1"))}


def small_files(path: Path) -> Iterator[bytes]:
    write(path, pickled({"model": SMALL, "epoch": 3}), {"0": FOUR, "1": bytes(8)}, byteorder=b"little", version=b"3\n")
    yield path.read_bytes()
    try:
        import torch
    except ImportError:
        return
    state = {"a": torch.arange(4.0), "b": torch.arange(4.0).reshape(2, 2).t(), "n": torch.tensor(0)}
    torch.save(state, path)
    yield path.read_bytes()


def test_every_prefix_is_refused(file: Path) -> None:
    for data in small_files(file):
        file.write_bytes(data)
        for size in reversed(range(len(data))):
            os.truncate(file, size)
            refusal(file)


def test_flipped_bits_change_nothing_or_are_found(file: Path) -> None:
    chance = random.Random(0)
    for data in small_files(file):
        file.write_bytes(data)
        wanted = read_torch(file)
        found = 0
        with open(file, "r+b", buffering=0) as stream:
            for _ in range(3000):
                places = [chance.randrange(len(data)) for _ in range(chance.choice((1, 1, 2, 8)))]
                for at in places:
                    os.pwrite(stream.fileno(), bytes([data[at] ^ 1 << chance.randrange(8)]), at)
                try:
                    arrays = read_torch(file)
                except fn.FormatError as problem:
                    found += str(problem).startswith(f"{file}: ")
                else:
                    found += check_equal(arrays, wanted)
                for at in places:
                    os.pwrite(stream.fileno(), data[at : at + 1], at)
        assert found == 3000


def check_equal(arrays: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return list(arrays) == list(wanted) and all(
        (array.dtype, array.shape, array.tobytes()) == (wanted[name].dtype, wanted[name].shape, wanted[name].tobytes())
        for name, array in arrays.items()
    )


def test_random_opcodes(file: Path) -> None:
    """Pickles that are changed before they get their checksum, so that the changes reach the machine."""
    chance = random.Random(1)
    good = pickled({"model": SMALL, "epoch": 3})
    opcodes = b"N\x88\x89KMJ\x8aGX\x8cBC)]}(t\x85\x86\x87aesuqr\x94hjc\x93RbQ\x95."
    read = refused = 0
    for _ in range(1000):
        pickle = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 4))):
            at = chance.randrange(2, len(pickle))
            some = bytes(chance.choices(opcodes, k=chance.randrange(1, 4)))
            pickle[at : at + chance.choice((0, len(some)))] = chance.choice((some, bytes([chance.randrange(256)])))
        write(file, bytes(pickle), {"0": FOUR, "1": bytes(8)})
        try:
            arrays = read_torch(file)
        except fn.FormatError as problem:
            refused += str(problem).startswith(f"{file}: ")
        else:
            read += 1
            check_arrays(arrays)
    assert read + refused == 1000
    assert read
