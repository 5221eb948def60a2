"""Our reader and writer of safetensors, against the package of that name and against broken files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import facsnet as fn
from facsnet._safetensors import read_safetensors, write_safetensors

oracle = pytest.importorskip("safetensors.numpy")
TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.weight": np.array([1.5, -2], np.float16), "empty": np.zeros((0, 4), np.int64),
    "scalar": np.array(7, np.uint8), "flag": np.array([True, False]),
}  # fmt: skip


def test_both_ways(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write_safetensors(ours, TENSORS, {"note": "ä"})
    oracle.save_file(TENSORS, theirs, {"note": "ä"})
    for tensors in (oracle.load_file(ours), read_safetensors(ours)[0], read_safetensors(theirs)[0]):
        assert set(tensors) == set(TENSORS)
        for name, value in TENSORS.items():
            assert tensors[name].dtype == value.dtype
            assert tensors[name].shape == value.shape
            np.testing.assert_array_equal(tensors[name], value)
    assert read_safetensors(theirs)[1] == {"note": "ä"}


DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")


@pytest.mark.parametrize("dtype", [*(f"<{d}" for d in DTYPES), ">f4", ">i8"])
def test_dtypes_and_layouts(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "w.safetensors"
    values = (np.arange(24).reshape(4, 6) % 2).astype(dtype)
    tensors = {"rows": values, "columns": values.T, "strided": values[::-2, ::3], "scalar": values[0, 1]}
    write_safetensors(path, tensors, checksums=True)
    for found in (read_safetensors(path)[0], oracle.load_file(path)):
        for name, value in tensors.items():
            assert found[name].dtype == value.dtype.newbyteorder("<")
            assert found[name].shape == value.shape
            np.testing.assert_array_equal(found[name], value)


def test_arrays_are_aligned_and_read_only_views(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"bytes": np.array([1], np.uint8), "floats": np.array([2, 3], np.float32)})
    tensors, _ = read_safetensors(path)
    assert not tensors["bytes"].flags.owndata
    assert tensors["floats"].flags.aligned
    assert tensors["floats"].tolist() == [2, 3]
    for value in tensors.values():
        with pytest.raises(ValueError, match="read-only"):
            value[0] = 9


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_224", "mobilenet_v1_1.0_224", "mobilenet_v2_1.0_224"])
def test_published_weights(shared_data: Path, name: str) -> None:
    path = shared_data / "weights" / f"{name}.safetensors"
    tensors, _ = read_safetensors(path)
    wanted = oracle.load_file(path)
    assert set(tensors) == set(wanted)
    for tensor, value in wanted.items():
        assert tensors[tensor].dtype == value.dtype
        assert tensors[tensor].shape == value.shape
        assert tensors[tensor].tobytes() == value.tobytes()


def test_bfloat16(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    raw(
        path,
        {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}},
        np.array([0x3FC0, 0xC000], "<u2").tobytes(),
    )
    assert read_safetensors(path)[0]["x"].tolist() == [1.5, -2.0]


def test_equal_bytes_and_old_file_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, TENSORS, checksums=True)
    before = path.read_bytes()
    write_safetensors(path, TENSORS, checksums=True)
    assert path.read_bytes() == before
    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space left") as caught:
                write_safetensors(path, {"other": np.zeros(3)})
            assert caught.value.filename == str(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


KILLED_WHILE_SAVING = """
import os, signal, sys
import numpy as np
from facsnet._safetensors import write_safetensors
setattr(os, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
write_safetensors(sys.argv[1], {"other": np.zeros(1000)})
"""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_killed_save_leaves_the_old_file(tmp_path: Path, call: str) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, TENSORS)
    before = path.read_bytes()
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_SAVING, str(path), call], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    write_safetensors(path, {"other": np.zeros(3)})
    assert read_safetensors(path)[0]["other"].shape == (3,)


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_safetensors(tmp_path / "w.safetensors", TENSORS)
    finally:
        os.umask(before)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"a": np.zeros(1, complex)}, {}, "'a'.*complex128"),
        ({"a": np.array(["text"])}, {}, "'a'.*<U4"),
        ({"__metadata__": np.zeros(1)}, {}, "reserved"),
        ({"a\ud800": np.zeros(1)}, {}, "not text"),
        ({}, {"epoch": 3}, "'epoch' is 3, want text"),
        ({}, {"note": "\ud800"}, "'note'"),
        ({}, {"facsnet.crc32": "{}"}, "reserved"),
    ],
)
def test_what_cannot_be_stored(
    tmp_path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_safetensors(tmp_path / "w.safetensors", tensors, metadata)
    assert list(tmp_path.iterdir()) == []


def test_checksums_stay_out_of_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, TENSORS, {"note": "first"}, checksums=True)
    tensors, metadata = read_safetensors(path)
    assert metadata == {"note": "first"}
    # changed tensors are written with the metadata of the old ones, whose sums would not fit
    write_safetensors(path, {**tensors, "a": tensors["a"] + 1}, metadata)
    assert read_safetensors(path)[0]["a"][0, 0] == 1


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": np.arange(100, dtype=np.float32)}, checksums=True)
    data = bytearray(path.read_bytes())
    for offset in range(len(data) - 400, len(data)):
        damaged = data.copy()
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        with pytest.raises(fn.FormatError, match="'a' is damaged"):
            read_safetensors(path)


def test_changed_metadata_is_found(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": np.arange(3)}, {"note": "first", "other": "x"}, checksums=True)
    data = path.read_bytes()
    for old, new in ((b"first", b"fIrst"), (b'"note":"', b'"nota":"')):
        path.write_bytes(data.replace(old, new, 1))
        with pytest.raises(fn.FormatError, match="damaged"):
            read_safetensors(path)


def test_a_table_is_no_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,subject,AU01\n1.png,S1,0\n")
    with pytest.raises(fn.FormatError, match=r"labels\.csv: .*not a safetensors file"):
        read_safetensors(path)


def raw(path: Path, header: object, body: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_every_prefix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, TENSORS, {"k": "v"})
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(fn.FormatError, match=r"w\.safetensors"):
            read_safetensors(path)
    path.write_bytes(data + b"x")
    with pytest.raises(fn.FormatError, match="cover"):
        read_safetensors(path)


def row(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": list(offsets) if isinstance(offsets, tuple) else offsets, **more}  # fmt: skip


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"", b""),
        (b"[]", b""),
        (b"{", b""),
        (b"{}", b"1234"),
        (b" {}", b""),
        (b'{"a": NaN}', b""),
        (b"{\xff}", b""),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, b""),
        ({"a": 3}, b""),
        ({"a": {}}, b""),
        ({"a": row(extra=1)}, b"0000"),
        ({"a": row(dtype="F31")}, b"0000"),
        ({"a": row(dtype=7)}, b"0000"),
        ({"a": row(shape="1")}, b"0000"),
        ({"a": row(shape=(-1,))}, b"0000"),
        ({"a": row(shape=(1.0,))}, b"0000"),
        ({"a": row(shape=(True,))}, b"0000"),
        ({"a": row(shape=(1 << 62, 4))}, b"0000"),
        ({"a": row(shape=(1 << 40, 1 << 40))}, b"0000"),
        ({"a": row(shape=(0, 1 << 61, 1 << 61), offsets=(0, 0))}, b""),
        ({"a": row(shape=(1 << 64,))}, b"0000"),
        ({"a": row(dtype="BOOL", shape=(4,))}, b"\0\1\2\1"),
        ({"a": row(), "b": row(shape=(0,), offsets=(2, 2))}, b"0000"),
        (b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000"),
        (b'{"__metadata__":{"k":"\\ud800"}}', b""),
        (b'{"__metadata__":{"k":"1","k":"2"}}', b""),
        (b'{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}', b"0000"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}', b"0000"),
        (b'{"a":{"dtype":"F32","shape":[1' + b"0" * 5000 + b'],"data_offsets":[0,4]}}', b"0000"),
        (b"{} x", b""),
        ({"a": row(shape=(1,) * 40)}, b"0000"),
        ({"a": row(shape=(2,))}, b"0000"),
        ({"a": row(offsets=(4, 0))}, b"0000"),
        ({"a": row(offsets=(0, 4, 8))}, b"0000"),
        ({"a": row(offsets="04")}, b"0000"),
        ({"a": row(offsets=(-4, 0))}, b"0000"),
        ({"a": row(offsets=(4, 8))}, b"00000000"),
        ({"a": row(), "b": row(offsets=(2, 6))}, b"000000"),
        ({"a": row(), "b": row()}, b"0000"),
        ({"a": row(), "b": row(offsets=(8, 12))}, b"0" * 12),
        ({"a": row(offsets=(0, 4))}, b"000"),
        ({"__metadata__": 3, "a": row()}, b"0000"),
        ({"__metadata__": {"k": 1}, "a": row()}, b"0000"),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            b"0000",
        ),
        ({"__metadata__": {"facsnet.crc32": "no"}, "a": row()}, b"0000"),
        ({"__metadata__": {"facsnet.crc32": "{}"}, "a": row()}, b"0000"),
    ],
)
def test_hostile_files(tmp_path: Path, header: object, body: bytes) -> None:
    path = tmp_path / "hostile.safetensors"
    raw(path, header, body)
    with pytest.raises(fn.FormatError, match=r"hostile\.safetensors"):
        read_safetensors(path)


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(fn.FormatError, match="limit"):
        read_safetensors(path)


def test_repeated_names_are_found_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    raw(path, b"{" + b",".join(b'"%d":0' % i for i in range(100_000)) + b',"99999":1}')
    start = time.perf_counter()
    with pytest.raises(fn.FormatError, match="'99999' twice"):
        read_safetensors(path)
    # well under a second; a minute where every name is compared with every other
    assert time.perf_counter() - start < 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(fn.FormatError, match="pipe: 0 bytes"):
        read_safetensors(tmp_path / "pipe")
