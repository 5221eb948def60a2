"""Our reader and writer of safetensors, against the package of that name and against broken files."""

from __future__ import annotations

import json
import os
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
            np.testing.assert_array_equal(tensors[name], value)
    assert read_safetensors(theirs)[1] == {"note": "ä"}


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
            with pytest.raises(OSError, match="No space left"):
                write_safetensors(path, {"other": np.zeros(3)})
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


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
