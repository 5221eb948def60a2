"""PyTorch checkpoints made by hand: a writer, and a collection of hostile and damaged ones."""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Code(bytes):
    """Opcodes that leave one value on the stack."""


def code(value: object) -> Code:
    """The opcodes of a value, as torch's default protocol has them, without a memo."""
    if isinstance(value, Code):
        return value
    if value is None or isinstance(value, bool):
        return Code({None: b"N", True: b"\x88", False: b"\x89"}[value])
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return Code(b"\x8a" + bytes([len(data)]) + data)
    if isinstance(value, float):
        return Code(b"G" + struct.pack(">d", value))
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return Code(b"X" + struct.pack("<L", len(data)) + data)
    if isinstance(value, dict):
        return Code(b"}(" + b"".join(code(k) + code(v) for k, v in value.items()) + b"u")
    if isinstance(value, list):
        return Code(b"](" + b"".join(map(code, value)) + b"e")
    assert isinstance(value, tuple)
    return Code(b"(" + b"".join(map(code, value)) + b"t")


def named(name: str) -> Code:
    return Code(b"c" + name.replace(" ", "\n").encode() + b"\n")


def call(name: str, *arguments: object) -> Code:
    return Code(named(name) + code(arguments) + b"R")


def outside(key: object) -> Code:
    return Code(code(key) + b"Q")


def storage(numel: object = 4, kind: str = "Float", key: object = "0") -> Code:
    return outside(("storage", named(f"torch {kind}Storage"), key, "cpu", numel))


def tensor(shape: object = (4,), strides: object = (1,), offset: object = 0, data: object = None) -> Code:
    hooks = call("collections OrderedDict")
    return call(
        "torch._utils _rebuild_tensor_v2", storage() if data is None else data, offset, shape, strides, False, hooks
    )


def pickled(value: object) -> bytes:
    return b"\x80\2" + code(value) + b"."


FOUR = struct.pack("<4f", 0, 1, 2, 3)


def write(
    path: Path, pickle: bytes | None, storages: dict[str, bytes] | None = None, root: str = "archive", **more: bytes
) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        if pickle is not None:
            archive.writestr(f"{root}/data.pkl", pickle)
        for title, content in more.items():
            archive.writestr(f"{root}/{title}", content)
        for key, content in ({"0": FOUR} if storages is None else storages).items():
            archive.writestr(f"{root}/data/{key}", content)


STATE = {"a": tensor(), "b.c": tensor((2, 2), (2, 1))}

# --- hostile pickles

ORDERED = named("collections OrderedDict")
REBUILD = named("torch._utils _rebuild_tensor_v2")

PICKLES: dict[str, tuple[bytes, str]] = {
    # names
    "os.system": (pickled({"x": call("os system", "false")}), "'os.system'"),
    "posix.system": (pickled(call("posix system", "false")), "'posix.system'"),
    "builtins.eval": (pickled(call("builtins eval", "1")), "'builtins.eval'"),
    "__builtin__.exec": (pickled(call("__builtin__ exec", "1")), "'__builtin__.exec'"),
    "getattr": (pickled(call("builtins getattr", REBUILD, "__globals__")), "'builtins.getattr'"),
    "torch.load": (pickled(call("torch load", "other.pth")), "'torch.load'"),
    "torch.hub": (pickled(call("torch.hub load", "user/repo", "net")), "'torch.hub.load'"),
    "pydoc.locate": (pickled(call("pydoc locate", "os.system")), "'pydoc.locate'"),
    "rebuild_v3": (pickled({"x": call("torch._utils _rebuild_tensor_v3")}), "_rebuild_tensor_v3"),
    "dotted": (pickled(named("collections OrderedDict.fromkeys")), "OrderedDict.fromkeys"),
    "dotted_module": (pickled(named("collections.OrderedDict __init__")), "__init__"),
    "attribute_of_ours": (pickled(named("torch._utils _rebuild_tensor_v2.__globals__")), "__globals__"),
    "stack_global": (b"\x80\4\x8c\2os\x8c\6system\x93\x8c\5false\x85R.", "'os.system'"),
    "stack_global_of_numbers": (b"\x80\4K\1K\2\x93.", "'int'"),
    "name_without_end": (b"\x80\2cos\nsystem", "without an end"),
    "name_without_second": (b"\x80\2cos\n", "without an end"),
    "long_name": (pickled(named("a" * 100_000 + " b")), "without an end"),
    "name_not_utf8": (b"\x80\2c\xff\nx\n.", "not UTF-8"),
    # calls
    "calls_ordered_dict": (pickled(call("collections OrderedDict", [("a", 1)])), "OrderedDict of (list)"),
    "calls_ordered_dict_of_one": (pickled(call("collections OrderedDict", [["a"]])), "OrderedDict of (list)"),
    "calls_ordered_dict_of_a_dict": (pickled(call("collections OrderedDict", {"a": 1})), "OrderedDict of (dict)"),
    "calls_ordered_dict_of_two": (pickled(call("collections OrderedDict", ["a", 1], ["b", 2])), "OrderedDict of (list, list)"),
    "calls_ordered_dict_of_lists": (pickled(call("collections OrderedDict", [[[], 1]])), "key of type list"),
    "calls_ordered_dict_twice": (pickled(call("collections OrderedDict", [["a", 1], ["a", 2]])), "'a' twice"),
    "ordered_dict_bomb": (pickled(Code(ORDERED + b"q\0" + code([[i, i] for i in range(1000)]) + b"\x85q\1R" + b"h\0h\1R" * 2000)), "more than 2000000 items"),
    "calls_a_string": (b"\x80\2" + code("os.system") + code(("false",)) + b"R.", "calls str"),
    "calls_a_storage_type": (pickled(call("torch FloatStorage", 1 << 40)), "calls torch.FloatStorage"),
    "calls_with_a_list": (b"\x80\2" + ORDERED + code([]) + b"R.", "with list"),
    "calls_with_a_name": (b"\x80\2" + ORDERED + ORDERED + b"R.", "with collections.OrderedDict"),
    "newobj": (b"\x80\2" + ORDERED + b")\x81.", "opcode 0x81"),
    "inst": (b"\x80\2(ios\nsystem\n.", "opcode 0x69"),
    "obj": (b"\x80\2(" + ORDERED + b"o.", "opcode 0x6f"),
    "ext1": (b"\x80\2\x82\1.", "opcode 0x82"),
    "next_buffer": (b"\x80\5\x97.", "opcode 0x97"),
    "persistent_text": (b"\x80\2Pkey\n.", "opcode 0x50"),
    "build_dict": (pickled(Code(code({}) + code({"__class__": 1}) + b"b")), "gives dict a state"),
    "build_list": (pickled(Code(b"]" + code({}) + b"b")), "gives list a state"),
    "build_tensor": (pickled(Code(tensor() + code(()) + b"b")), "gives Tensor a state"),
    "build_name": (pickled(Code(REBUILD + code({"__code__": 1}) + b"b")), "gives torch._utils._rebuild_tensor_v2"),
    "build_state_tuple": (pickled(Code(ORDERED + b")R" + code((None, {"a": 1})) + b"b")), "state of tuple"),
    # what is changed
    "setitem_list": (b"\x80\2]K\0K\1s.", "sets items of list"),
    "setitem_tensor": (b"\x80\2" + tensor() + b"K\0K\1s.", "sets items of Tensor"),
    "setitem_storage": (b"\x80\2" + storage() + b"K\0K\1s.", "sets items of Storage"),
    "setitem_name": (b"\x80\2" + REBUILD + b"K\0K\1s.", "sets items of torch._utils"),
    "setitems_tuple": (b"\x80\2)(K\0K\1u.", "sets items of tuple"),
    "setitems_odd": (b"\x80\2}(K\0K\1K\2u.", "without a value"),
    "set_twice": (b"\x80\2}(" + code("a") + tensor() + code("a") + tensor() + b"u.", "'a' twice"),
    "append_dict": (b"\x80\2}K\0a.", "appends to dict"),
    "append_tensor": (b"\x80\2" + tensor() + b"K\0a.", "appends to Tensor"),
    "appends_string": (b"\x80\2" + code("a") + b"(K\0e.", "appends to str"),
    "key_tuple": (pickled({(1, 2): tensor()}), "key of type tuple"),
    "key_none": (pickled({None: tensor()}), "key of type NoneType"),
    "key_float": (pickled({1.5: tensor()}), "key of type float"),
    "key_list": (b"\x80\2}]" + tensor() + b"s.", "key of type list"),
    "key_tensor": (b"\x80\2}" + tensor() + tensor() + b"s.", "key of type Tensor"),
    "key_large": (pickled({2**61 - 1: tensor()}), "key of type int"),
    # the machine
    "empty": (b"", "wants 2 bytes"),
    "protocol_0": (b"(dp0\n.", "want protocol 2 to 5"),
    "protocol_1": (b"\x80\1}.", "want protocol"),
    "protocol_6": (b"\x80\6}.", "want protocol"),
    "protocol_255": (b"\x80\xff}.", "want protocol"),
    "protocol_twice": (b"\x80\2\x80\2}.", "opcode 0x80"),
    "no_stop": (pickled({"x": tensor()})[:-1], "wants 1 bytes"),
    "nothing_left": (b"\x80\2.", "wants a value"),
    "two_left": (b"\x80\2}}.", "more than one"),
    "mark_left": (b"\x80\2}(}.", "more than one"),
    "mark_on_top": (b"\x80\2}(.", "wants a value"),
    "more_behind": (pickled({"x": tensor()}) + b"cos\nsystem\n.", "stops at"),
    "unknown_opcode": (b"\x80\2\xff.", "opcode 0xff at byte 2"),
    "dup": (b"\x80\2}20.", "opcode 0x32"),
    "pop": (b"\x80\2}}0.", "opcode 0x30"),
    "memo_missing": (b"\x80\2}q\0h\1.", "recalls value 1"),
    "memo_missing_long": (b"\x80\2j\xff\xff\xff\xff.", "recalls value 4294967295"),
    "memo_of_nothing": (b"\x80\2q\0.", "wants a value"),
    "memo_bomb": (b"\x80\2N" + b"\x94" * 1_000_001 + b".", "remembers more than"),
    "opcode_bomb": (b"\x80\2" + b"N" * 2_000_001 + b".", "more than 2000000 opcodes"),
    "deep_marks": (b"\x80\2" + b"(" * 1001, "deeper than 1000"),
    "deep_lists": (pickled({"model": STATE, "deep": Code(b"](" * 1001 + b"N" + b"e" * 1001)}), "deeper than 1000"),
    "deep_lists_on_top": (b"\x80\2" + b"]" * 300_000 + b"a" * 299_999 + b".", "holds list"),
    "itself": (b"\x80\2}q\0" + code("a") + b"h\0s.", "entry 'a' is of type dict"),
    "tuple_underflow": (b"\x80\2N\x86.", "wants 2 values"),
    "tuple_without_mark": (b"\x80\2t.", "wants a mark"),
    "tuple_over_a_mark": (b"\x80\2NN(\x87.", "wants 3 values"),
    "setitem_underflow": (b"\x80\2}K\1s.", "wants a value"),
    "setitems_without_mark": (b"\x80\2}u.", "wants a mark"),
    "appends_without_list": (b"\x80\2(K\1e.", "wants a value"),
    "reduce_underflow": (b"\x80\2)R.", "wants 2 values"),
    "build_underflow": (b"\x80\2}b.", "wants a value"),
    "persistent_underflow": (b"\x80\2Q.", "wants a value"),
    "string_cut": (b"\x80\2X\xff\xff\xff\xffab", "wants 4294967295 bytes"),
    "string_length_cut": (b"\x80\2X\1\0", "wants 4 bytes"),
    "string_not_utf8": (b"\x80\2\x8c\1\xff.", "not UTF-8"),
    "old_string_cut": (b"\x80\2U\5ab", "wants 5 bytes"),
    "old_string_huge": (b"\x80\2T\xff\xff\xff\xffab", "wants 4294967295 bytes"),
    "old_string_not_utf8": (b"\x80\2U\1\xff.", "not UTF-8"),
    "string_surrogate": (pickled({"\ud800": tensor()}), "not UTF-8"),
    "number_cut": (b"\x80\2J\1", "wants 4 bytes"),
    "long_cut": (b"\x80\2\x8a\xff\1", "wants 255 bytes"),
    "long4": (b"\x80\2\x8b\xff\xff\xff\x7f.", "opcode 0x8b"),
    "float_cut": (b"\x80\2G\1", "wants 8 bytes"),
    "bytes_cut": (b"\x80\3B\xff\xff\xff\x7f", "wants 2147483647 bytes"),
    "frame_cut": (b"\x80\4\x95\xff\0\0\0\0\0\0\0}.", "frame of 255"),
    # what is outside
    "outside_a_string": (pickled({"x": tensor(data=outside("0"))}), "wants str from outside"),
    "outside_a_number": (pickled(outside(0)), "wants int from outside"),
    "outside_a_name": (pickled(outside(REBUILD)), "wants torch._utils._rebuild_tensor_v2 from outside"),
    "outside_a_module": (pickled(outside(("module", named("torch FloatStorage"), "a", "b", 4))), "from outside"),
    "outside_short": (pickled(outside(("storage", named("torch FloatStorage"), "0", "cpu"))), "from outside"),
    "outside_odd_type": (pickled(outside(("storage", "torch.FloatStorage", "0", "cpu", 4))), "type str"),
    "outside_function": (pickled(outside(("storage", REBUILD, "0", "cpu", 4))), "type torch._utils"),
    "storage_unknown": (pickled(outside(("storage", named("torch QInt8Storage"), "0", "cpu", 4))), "QInt8Storage"),
    "storage_key_number": (pickled(storage(key=0)), "key 0"),
    "storage_negative": (pickled(storage(-4)), "has -4 elements"),
    "storage_size_float": (pickled(storage(4.0)), "has float elements"),
    "storage_size_true": (pickled(storage(True)), "has bool elements"),
    "storage_huge": (pickled(storage(1 << 70)), "elements"),
    # what is on top
    "top_none": (pickled(None), "holds NoneType"),
    "top_list": (pickled([tensor()]), "holds list"),
    "top_tuple": (pickled((STATE,)), "holds tuple"),
    "top_tensor": (pickled(tensor()), "holds Tensor"),
    "top_name": (pickled(REBUILD), "holds torch._utils._rebuild_tensor_v2"),
    "top_storage": (pickled({"x": storage()}), "'x' is of type Storage"),
    "tensors_in_lists": (pickled({"a": [tensor()]}), "'a' is of type list"),
    "tensors_deeper": (pickled({"a": {"b": tensor()}}), "'a' is of type dict"),
    "no_wrapper": (pickled({"epoch": 3, "weights": STATE}), "'epoch' is of type int"),
    "wrapped_twice": (pickled({"model": {"state_dict": STATE}}), "'state_dict' of 'model' is of type dict"),
    "number_as_key": (pickled({3: tensor()}), "key 3 is not a string"),
    "number_as_key_within": (pickled({"model": {3: tensor()}}), "key 3 of 'model'"),
    "mixed": (pickled({"a": tensor(), "version": 3}), "'version' is of type int"),
}  # fmt: skip

# --- hostile tensors

TENSORS: dict[str, tuple[object, str]] = {
    "shape_too_long": (tensor((5,)), "last element is number 4 of a storage of 4"),
    "offset_too_far": (tensor(offset=1), "last element is number 4"),
    "offset_far": (tensor(offset=1 << 61), "last element"),
    "strides_too_far": (tensor((2, 2), (2, 2)), "last element is number 4"),
    "strides_far": (tensor((2, 2), (1 << 61, 1 << 61)), "last element"),
    "offset_negative": (tensor(offset=-1), "offset -1"),
    "offset_float": (tensor(offset=0.0), "offset float"),
    "offset_true": (tensor(offset=True), "offset bool"),
    "offset_long": (tensor(offset=1 << 64), "offset 1844"),
    "shape_negative": (tensor((-4,)), "shape (-4,)"),
    "shapes_negative": (tensor((-2, -2), (1, 1)), "shape (-2, -2)"),
    "shape_float": (tensor((4.0,)), "shape tuple"),
    "shape_true": (tensor((True,)), "shape tuple"),
    "shape_list": (tensor([4]), "shape list"),
    "shape_number": (tensor(4), "shape 4"),
    "shape_none": (tensor(None), "shape NoneType"),
    "shape_nested": (tensor(((4,),)), "shape tuple"),
    "stride_negative": (tensor((4,), (-1,), 3), "strides (-1,)"),
    "stride_float": (tensor((4,), (1.0,)), "strides tuple"),
    "stride_missing": (tensor((2, 2), (1,)), "want as many sizes of each"),
    "stride_many": (tensor((4,), (1, 1)), "want as many sizes of each"),
    "rank_33": (tensor((1,) * 33, (1,) * 33), "want as many sizes of each"),
    "numel_huge": (tensor((1 << 40,), (0,)), "over 4 times the file's bytes"),
    "numel_huge_of_one": (tensor((1 << 30, 1 << 30), (0, 0)), "over 4 times|too large"),
    "numel_wraps": (tensor((1 << 32, 1 << 32), (0, 0)), "too large"),
    "numel_wraps_empty": (tensor((0, 1 << 61, 1 << 61), (1, 1, 1)), "too large"),
    "side_too_long": (tensor((1 << 64,)), "want as many sizes"),
    "storage_larger": (tensor(data=storage(5)), "has 16 bytes, 5 elements of torch.FloatStorage want 20"),
    "storage_smaller": (tensor((3,), data=storage(3)), "has 16 bytes, 3 elements"),
    "storage_far_larger": (tensor(data=storage(1 << 61)), "has 16 bytes"),
    "storage_wider": (tensor(data=storage(4, "Double")), "has 16 bytes, 4 elements of torch.DoubleStorage want 32"),
    "storage_missing": (tensor(data=storage(key="1")), "tensor 'bad': there is no entry 'archive/data/1'"),
    "storage_elsewhere": (tensor(data=storage(key="../../etc/passwd")), "no entry"),
    "storage_is_the_pickle": (tensor(data=storage(key="../data.pkl")), "no entry"),
    "storage_none": (tensor(data=Code(b"N")), "made of (NoneType, "),
    "storage_is_a_tensor": (tensor(data=tensor()), "made of (Tensor, "),
    "storage_is_a_type": (tensor(data=named("torch FloatStorage")), "made of (torch.FloatStorage, "),
    "bool_of_2": (tensor((16,), data=storage(16, "Bool")), "a byte of torch.BoolStorage is"),
    "no_arguments": (call("torch._utils _rebuild_tensor_v2"), "made of ()"),
    "few_arguments": (call("torch._utils _rebuild_tensor_v2", storage(), 0, (4,), (1,)), "made of"),
    "negated": (
        call("torch._utils _rebuild_tensor_v2", storage(), 0, (4,), (1,), False, None, {"neg": True}),
        "made of (Storage, int, tuple, tuple, bool, NoneType, dict)",
    ),
    "parameter_of_nothing": (call("torch._utils _rebuild_parameter", None, True, None), "made of (NoneType"),
    "parameter_of_a_storage": (call("torch._utils _rebuild_parameter", storage(), True, None), "made of (Storage"),
    "parameter_alone": (call("torch._utils _rebuild_parameter", tensor()), "made of (Tensor)"),
}

# --- hostile archives

GOOD = pickled({"x": tensor()})


def patched(path: Path, entry: str, at: int, data: bytes, *, header: bool = False) -> None:
    """Changes the directory's row of an entry, ``at`` bytes into it, or the header before its bytes."""
    content = bytearray(path.read_bytes())
    place = content.rindex(b"archive/" + entry.encode()) - 46
    if header:
        place = struct.unpack_from("<L", content, place + 42)[0]
    content[place + at : place + at + len(data)] = data
    path.write_bytes(content)


def end(count: int = 0, size: int = 0, start: int = 0) -> bytes:
    """The end of a directory of so many rows and bytes."""
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, size, start, 0)


def rows(count: int) -> bytes:
    """A directory of many rows, and its end."""
    row = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    return row * count + end(count, len(row) * count, 4)


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", GOOD)
        archive.writestr("archive/data/0", FOUR)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled({"x": tensor((1 << 26,), data=storage(1 << 26))}))
        archive.writestr("archive/data/0", bytes(1 << 24), zipfile.ZIP_DEFLATED)


def duplicate(path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for title in ("data.pkl", "data.pkl", "data/0"):
            archive.writestr(f"archive/{title}", FOUR if title == "data/0" else GOOD)


def overlapping(path: Path) -> None:
    """The first storage holds the whole second entry, and the directory says so."""
    title = b"archive/data/1"
    inner = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 16, 16, len(title), 0) + title + FOUR
    write(path, GOOD, {"0": inner, "1": FOUR})
    at = path.read_bytes().index(inner)
    patched(path, "data/1", 42, struct.pack("<L", at))


def same_bytes(path: Path) -> None:
    """Two rows lead to one entry."""
    write(path, GOOD, {"0": FOUR, "1": FOUR})
    content = path.read_bytes()
    place = content.rindex(b"archive/data/0") - 46
    patched(path, "data/1", 42, content[place + 42 : place + 46])


def longer(path: Path) -> None:
    """The first storage reaches into the second entry."""
    write(path, GOOD, {"0": FOUR, "1": FOUR})
    patched(path, "data/0", 20, struct.pack("<2L", 20, 20))


def after(change: Callable[[Path], object], pickle: bytes | None = GOOD, **more: Any) -> Callable[[Path], None]:
    """A good file, then the change."""

    def build(path: Path) -> None:
        write(path, pickle, **more)
        change(path)

    return build


def holding(pickle: bytes | None = GOOD, **more: Any) -> Callable[[Path], None]:
    return after(lambda path: None, pickle, **more)


def appended(data: bytes) -> Callable[[Path], None]:
    return after(lambda path: path.write_bytes(path.read_bytes() + data))


def exactly(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def flags(value: int, **place: bool) -> Callable[[Path], None]:
    at = 6 if place else 8
    return after(lambda path: patched(path, "data/0", at, struct.pack("<H", value), **place))


ARCHIVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (exactly(b""), "0 bytes"),
    "one_byte": (exactly(b"P"), "1 bytes"),
    "text": (exactly(b"weights: 1, 2, 3 and so on"), "begins with b'weig'"),
    "zeros": (exactly(bytes(1000)), "begins with"),
    "image": (exactly(b"\x89PNG\r\n\x1a\n" + bytes(100)), "begins with b'\\x89PNG'"),
    "bare_pickle": (exactly(pickled({"weights": [1.5, 2.5], "epoch": 3})), "a pickle of dict"),
    "bare_pickle_of_code": (exactly(pickled({"x": call("os system", "false")}) + bytes(50)), "'os.system'"),
    "tar": (exactly(b"sys_info" + bytes(249) + b"ustar\x0000" + bytes(1000)), "tar archive"),
    "no_entries": (exactly(end()), "begins with"),
    "only_an_end": (exactly(b"PK\3\4" + bytes(30) + end()), "no entry"),
    "other_zip": (holding(None, root="word"), "no entry 'word/data.pkl'"),
    "no_folder": (holding(None, root=""), "no entry"),
    "no_pickle": (holding(None), "no entry 'archive/data.pkl'"),
    "torchscript_constants": (holding(**{"constants.pkl": pickled(())}), "TorchScript"),
    "torchscript_code": (holding(**{"code/__torch__.py": b"class Net: pass"}), "TorchScript"),
    "byte_order_unknown": (holding(byteorder=b"middle"), "byteorder is b'middle'"),
    "byte_order_empty": (holding(byteorder=b""), "byteorder is b''"),
    "byte_order_long": (holding(byteorder=b"little" * 1000), "byteorder is"),
    "compressed": (compressed, "is compressed"),
    "bomb": (bomb, "'archive/data/0' is compressed"),
    "compressed_in_the_header": (after(lambda path: patched(path, "data/0", 8, b"\x08", header=True)), "is compressed"),
    "sizes_differ": (after(lambda path: patched(path, "data/0", 24, b"\xff")), "is compressed"),
    "encrypted": (flags(1), "is encrypted"),
    "encrypted_in_the_header": (flags(1, header=True), "is encrypted"),
    "strongly_encrypted": (flags(0x41), "is encrypted"),
    "directory_encrypted": (flags(0x2000), "is encrypted"),
    "duplicate": (duplicate, "is there twice"),
    "overlapping": (overlapping, "within what goes before"),
    "same_bytes": (same_bytes, "within what goes before"),
    "longer": (longer, "within what goes before"),
    "beyond_the_directory": (after(lambda path: patched(path, "data/0", 20, struct.pack("<2L", 999, 999))), "the directory begins"),
    "beyond_the_file": (after(lambda path: patched(path, "data/0", 20, b"\xf0\xff\xff\xff" * 2)), "the directory begins"),
    "header_beyond": (after(lambda path: patched(path, "data/0", 42, b"\xf0\xff\xff\xff")), "the directory at"),
    "header_in_the_directory": (after(lambda path: patched(path, "data/0", 42, struct.pack("<L", path.read_bytes().index(b"PK\1\2") - 4))), "the directory at"),
    "header_of_another": (after(lambda path: patched(path, "data.pkl", 46, b"Archive/data.pkl")), "is not in the folder|another's"),
    "header_damaged": (after(lambda path: patched(path, "data/0", 0, b"QK", header=True)), "another's"),
    "header_renamed": (after(lambda path: patched(path, "data/0", 30, b"B", header=True)), "another's"),
    "header_name_short": (after(lambda path: patched(path, "data/0", 26, b"\1", header=True)), "another's"),
    "two_folders": (after(lambda path: zipfile.ZipFile(path, "a").writestr("other/data/1", FOUR)), "not in the folder 'archive/'"),
    "pickle_damaged": (after(lambda path: path.write_bytes(path.read_bytes().replace(b"cpu", b"gpu"))), "checksum of 'archive/data.pkl'"),
    "storage_damaged": (after(lambda path: path.write_bytes(path.read_bytes().replace(FOUR, FOUR[::-1]))), "checksum of 'archive/data/0'"),
    "checksum_damaged": (after(lambda path: patched(path, "data/0", 16, b"1234")), "checksum of 'archive/data/0'"),
    "text_behind": (appended(b"#"), "does not end with"),
    "zeros_behind": (appended(bytes(100)), "does not end with"),
    "comment": (after(lambda path: path.write_bytes(path.read_bytes()[:-2] + b"\4\0PK\5\6")), "does not end with"),
    "end_within_comment": (appended(end()), "no entry"),
    "text_before": (after(lambda path: path.write_bytes(b"#!" + path.read_bytes())), "begins with b'#!PK'"),
    "many_rows": (exactly(b"PK\3\4" + rows(100_000)), "it claims 4700000 bytes"),
    "rows_without_entries": (exactly(b"PK\3\4" + rows(50_000)), "not in the folder"),
    "directory_before_the_file": (after(lambda path: path.write_bytes(path.read_bytes()[:-10] + b"\xff\xff\xff\x7f" + path.read_bytes()[-6:])), "directory is damaged"),
    "zip64_nonsense": (after(lambda path: path.write_bytes(path.read_bytes()[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 1 << 62, 1) + path.read_bytes()[-22:])), "damaged|another's|the directory"),
    "version_unknown": (after(lambda path: patched(path, "data/0", 6, b"\xff")), "directory is damaged"),
    "name_not_utf8": (after(lambda path: (patched(path, "data/0", 8, b"\0\x08"), patched(path, "data/0", 46, b"\xff"))), "directory is damaged"),
}  # fmt: skip

# --- the format of torch before 1.6

MAGIC = 0x1950A86A20F9469CFC6C
MACHINE: dict[object, object] = {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


def old_storage(numel: object = 4, kind: str = "Float", key: object = "0", view: object = None) -> Code:
    return outside(("storage", named(f"torch {kind}Storage"), key, "cpu", numel, view))


def old_tensor(shape: object = (4,), strides: object = (1,), offset: object = 0, data: object = None) -> Code:
    """A tensor as torch before 0.4 has it."""
    return call("torch._utils _rebuild_tensor", old_storage() if data is None else data, offset, shape, strides)


def counted(data: bytes, itemsize: int = 4) -> bytes:
    """A storage in the file."""
    return struct.pack("<q", len(data) // itemsize) + data


def stream(value: object, tail: bytes | None = None, keys: object = None, **head: object) -> bytes:
    """A file: what is saved, the storages, their keys, and other values of the head."""
    start = [head.get("magic", MAGIC), head.get("version", 1001), head.get("machine", MACHINE)]
    pickles = [*start, value, ["0"] if keys is None else keys]
    return b"".join(map(pickled, pickles)) + (counted(FOUR) if tail is None else tail)


def machine(**changes: object) -> dict[object, object]:
    return {key: value for key, value in {**MACHINE, **changes}.items() if value is not ...}


def viewed(view: object, *more: object) -> bytes:
    return stream({"x": old_tensor(data=old_storage(view=view)), **{f"{i}": v for i, v in enumerate(more)}})


OLD = {"x": old_tensor()}

STREAMS: dict[str, tuple[bytes, str]] = {
    # the head
    "magic_alone": (pickled(MAGIC) + bytes(100), "the pickle begins with b'\\x00\\x00'"),
    "magic_wrong": (stream(OLD, magic=MAGIC + 1), f"a pickle of {MAGIC + 1}, want 0x1950"),
    "magic_negative": (stream(OLD, magic=-MAGIC), "want 0x1950"),
    "magic_text": (stream(OLD, magic="magic"), "a pickle of 'magic', want 0x1950"),
    "magic_float": (stream(OLD, magic=float(MAGIC)), "a pickle of float"),
    "magic_outside": (stream(OLD, magic=old_storage()), "names 'torch.FloatStorage'"),
    "magic_outside_text": (stream(OLD, magic=outside("0")), "plain values wants str"),
    "magic_code": (stream(OLD, magic=call("os system", "false")), "'os.system'"),
    "version": (stream(OLD, version=1002), "version is 1002, want 1001"),
    "version_text": (stream(OLD, version="1001"), "version is '1001'"),
    "version_float": (stream(OLD, version=1001.0), "version is float"),
    "version_outside": (stream(OLD, version=outside(1001)), "plain values wants int"),
    "machine_none": (stream(OLD, machine=None), "said by NoneType"),
    "machine_list": (stream(OLD, machine=[MACHINE]), "said by list"),
    "machine_code": (stream(OLD, machine=machine(more=call("posix system", "false"))), "'posix.system'"),
    "machine_version": (stream(OLD, machine=machine(protocol_version=1000)), "protocol_version is 1000"),
    "machine_empty": (stream(OLD, machine={}), "protocol_version is NoneType"),
    "big_endian": (stream(OLD, machine=machine(little_endian=False)), "little_endian is False, a big-endian machine"),
    "endian_missing": (stream(OLD, machine=machine(little_endian=...)), "little_endian is NoneType"),
    "endian_number": (stream(OLD, machine=machine(little_endian=1)), "little_endian is int"),
    "sizes_missing": (stream(OLD, machine=machine(type_sizes=...)), "type_sizes is NoneType"),
    "sizes_list": (stream(OLD, machine=machine(type_sizes=[2, 4, 4])), "type_sizes is list"),
    "sizes_other": (stream(OLD, machine=machine(type_sizes={"short": 2, "int": 8, "long": 8})), "has 8 for 'int', want 4"),
    "sizes_text": (stream(OLD, machine=machine(type_sizes={"short": 2, "int": 4, "long": "4"})), "has '4' for 'long', want 4 or 8"),
    "sizes_few": (stream(OLD, machine=machine(type_sizes={"short": 2, "int": 4})), "has NoneType for 'long'"),
    # what is saved
    "code": (stream({"x": call("os system", "false")}), "'os.system'"),
    "module": (stream(outside(("module", named("torch.nn Linear"), "a.py", "class"))), "'torch.nn.Linear'"),
    "module_of_a_storage": (stream(outside(("module", named("torch FloatStorage"), "a", "b", 4, None))), "want ('storage', type"),
    "rebuild_v3": (stream({"x": call("torch._utils _rebuild_tensor_v3")}), "_rebuild_tensor_v3"),
    "top_list": (stream([old_tensor()]), "holds list"),
    "storage_on_top": (stream({"x": old_storage()}), "'x' is of type Storage"),
    "of_the_zip": (stream({"x": tensor()}), "('storage', type, key, location, size, view)"),
    "outside_text": (stream(outside("0")), "wants str from outside"),
    "outside_long": (stream(outside(("storage", named("torch FloatStorage"), "0", "cpu", 4, None, None))), "from outside"),
    "storage_unknown": (stream(old_storage(kind="QInt8")), "QInt8Storage"),
    "storage_key_number": (stream(old_storage(key=0)), "key 0"),
    "storage_negative": (stream(old_storage(-4)), "-4 elements"),
    "storage_of_two_sizes": (stream({"x": old_tensor(), "y": old_tensor(data=old_storage(5))}), "has 5 elements of torch.FloatStorage, and 4"),
    "storage_of_two_types": (stream({"x": old_tensor(), "y": old_tensor(data=old_storage(kind="Int"))}), "of torch.IntStorage, and 4 of torch.FloatStorage"),
    "tensor_of_five": (stream({"x": call("torch._utils _rebuild_tensor", old_storage(), 0, (4,), (1,), False)}), "made of (Storage, int, tuple, tuple, bool)"),
    "tensor_of_nothing": (stream({"x": call("torch._utils _rebuild_tensor")}), "made of ()"),
    "tensor_without_storage": (stream({"x": old_tensor(data=Code(b"N"))}), "made of (NoneType, "),
    "tensor_too_long": (stream({"x": old_tensor((5,))}), "tensor 'x': its last element is number 4 of a storage of 4"),
    "tensor_negative": (stream({"x": old_tensor(offset=-1)}), "tensor 'x': offset -1"),
    "tensor_huge": (stream({"x": old_tensor((1 << 40,), (0,))}), "over 4 times the file's bytes"),
    "bool_of_2": (stream({"x": old_tensor(data=old_storage(4, "Bool"))}, struct.pack("<q", 4) + b"\0\1\2\1"), "a byte of torch.BoolStorage is 2"),
    # views of storages
    "view_number": (viewed(0), "a view of storage '0' is int"),
    "view_short": (viewed(("1", 0)), "is tuple, want (key, offset, size)"),
    "view_key_number": (viewed((1, 0, 4)), "is tuple, want (key, offset, size)"),
    "view_negative": (viewed(("1", -1, 4)), "4 elements from -1, it has 4"),
    "view_float": (viewed(("1", 0, 4.0)), "float elements from 0"),
    "view_too_long": (viewed(("1", 1, 4)), "4 elements from 1, it has 4"),
    "view_far": (viewed(("1", 1 << 61, 1 << 61)), "it has 4"),
    "view_of_a_view": (viewed(("0", 0, 4)), "storage '0' has the key of a view"),
    "view_of_two": (viewed(("1", 0, 4), old_tensor((2,), data=old_storage(view=("1", 2, 2)))), "has key '1', as another has"),
    "view_too_short": (viewed(("1", 1, 3)), "its last element is number 3 of a storage of 3"),
    # the storages
    "keys_none": (stream(OLD, keys=Code(b"N")), "listed by NoneType"),
    "keys_tuple": (stream(OLD, keys=("0",)), "listed by tuple"),
    "keys_numbers": (stream(OLD, keys=[0]), "want a list of strings"),
    "keys_code": (stream(OLD, keys=[call("os system", "false")]), "'os.system'"),
    "keys_twice": (stream(OLD, keys=["0", "0"]), "'0' is listed 2 times"),
    "keys_more": (stream(OLD, keys=["0", "1"]), "'1' is listed, and the pickle does not want it"),
    "keys_fewer": (stream(OLD, keys=[]), "'0' is not listed, and the pickle wants it"),
    "keys_other": (stream(OLD, keys=["1"]), "'1' is listed, and the pickle does not want it"),
    "keys_of_a_view": (stream({"x": old_tensor(data=old_storage(view=("1", 0, 4)))}, keys=["1"]), "'1' is listed"),
    "no_keys": (b"".join(map(pickled, (MAGIC, 1001, MACHINE, OLD))), "wants 2 bytes"),
    "no_storage": (stream(OLD, b""), "storage '0' begins at byte"),
    "count_cut": (stream(OLD, b"\4\0\0\0\0\0\0"), "storage '0' begins at byte"),
    "count_smaller": (stream(OLD, counted(FOUR[:12])), "has 3 elements at byte"),
    "count_larger": (stream(OLD, counted(FOUR * 2)), "has 8 elements at byte"),
    "count_negative": (stream(OLD, struct.pack("<q", -4) + FOUR), "has -4 elements"),
    "count_big_endian": (stream(OLD, struct.pack(">q", 4) + FOUR), "has 288230376151711744 elements"),
    "storage_cut": (stream(OLD, counted(FOUR)[:-1]), "has 16 bytes from"),
    "storage_missing": (stream({**OLD, "y": old_tensor(data=old_storage(key="1"))}, keys=["0", "1"]), "storage '1' begins at byte"),
    "storages_exchanged": (stream({**OLD, "y": old_tensor((), (), data=old_storage(1, key="1"))}, counted(FOUR) + counted(FOUR[:4]), ["1", "0"]), "storage '1' has 4 elements"),
    "storage_huge": (stream({"x": old_tensor(data=old_storage(1 << 61))}, struct.pack("<q", 1 << 61) + FOUR), "has 9223372036854775808 bytes"),
    "byte_behind": (stream(OLD) + b"\0", "1 bytes follow the last storage"),
    "storage_behind": (stream(OLD) + counted(FOUR), "24 bytes follow"),
    "file_behind": (stream(OLD) * 2, "bytes follow the last storage"),
    "nothing_saved": (stream({}, keys=[]), "24 bytes follow"),
}  # fmt: skip
