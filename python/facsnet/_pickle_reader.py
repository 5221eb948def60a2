"""The part of pickle that a table of tensors is written with, interpreted by ourselves.

A pickle is a program for a stack machine, and Python's own machine calls whatever the program names.
This one knows the opcodes and the names that tensors are written with, and has nothing else to call.
"""

from __future__ import annotations

import mmap
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from facsnet._core import FormatError

__all__ = ["Global", "Loader", "Maker", "kind_of", "read_next_pickle", "read_pickle"]

_PROTOCOLS = range(2, 6)
# One opcode adds one object at most, so that this bounds the memory as well.
_OPCODE_LIMIT = 2_000_000
_MEMO_LIMIT = 1_000_000
_DEPTH_LIMIT = 1000
_NAME_LIMIT = 200
_STOP = ord(".")
_INT32 = range(-(1 << 31), 1 << 31)

Maker = Callable[[tuple[Any, ...]], Any]
Loader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """What stands for something that a pickle names: the name, and what a call of it gives, if it may be called."""

    name: str
    make: Maker | None = None


def read_pickle(name: str, data: bytes, makers: Mapping[str, Maker | None], load: Loader) -> Any:
    """The value of a pickle of protocol 2 to 5.

    Parameters
    ----------
    name : str
        The file, for messages.
    data : bytes
    makers : mapping of str to function or None
        What a pickle may name beside ``collections.OrderedDict``, as ``"module.name"``, and the function
        that gets the arguments of a call; None where there is nothing to call.
    load : function
        Gets a persistent id, gives what it stands for.

    Raises
    ------
    FormatError
        It is damaged, or names or does anything else.
    """
    machine = _Machine(name, data, 0, len(data), makers, load)
    value = machine.run()
    if machine.at != len(data):
        machine.fail(f"stops at byte {machine.at}, it has {len(data)}")
    return value


def read_next_pickle(
    name: str, data: mmap.mmap, start: int, stop: int, makers: Mapping[str, Maker | None], load: Loader
) -> tuple[Any, int]:
    """The value of the pickle that begins at a byte of a file and ends before another, and where it ends.

    The rest is as in `read_pickle`.
    """
    machine = _Machine(name, data, start, stop, makers, load)
    return machine.run(), machine.at


def kind_of(value: Any) -> str:
    """What a value is, without a look at what it holds: saying that of nested tuples can take forever."""
    return value.name if isinstance(value, Global) else type(value).__name__.strip("_")


class _Machine:
    """One run: the stack since the last mark, the stacks below, and what is remembered by number."""

    def __init__(
        self,
        name: str,
        data: bytes | mmap.mmap,
        start: int,
        stop: int,
        makers: Mapping[str, Maker | None],
        load: Loader,
    ) -> None:
        self.name = name
        self.data = data
        self.at = start
        self.stop = stop
        self.makers = {"collections.OrderedDict": self.ordered_dict, **makers}
        self.load = load
        self.copied = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        head = self.take(2)
        if head[0] != 0x80 or head[1] not in _PROTOCOLS:
            self.fail(f"begins with {head!r}, want protocol {_PROTOCOLS[0]} to {_PROTOCOLS[-1]}")
        for _ in range(_OPCODE_LIMIT):
            (opcode,) = self.take(1)
            if opcode == _STOP:
                return self.result()
            step = _STEPS.get(opcode)
            if step is None:
                self.fail(f"opcode {opcode:#04x} at byte {self.at - 1} is none of those that tensors are written with")
            step(self)
        self.fail(f"more than {_OPCODE_LIMIT} opcodes")

    def result(self) -> Any:
        value = self.pop()
        if self.stack or self.below:
            self.fail("leaves more than one value")
        return value

    def fail(self, message: str) -> NoReturn:
        raise FormatError(f"{self.name}: the pickle {message}")

    # --- what is read

    def take(self, count: int) -> bytes:
        if count > self.stop - self.at:
            self.fail(f"wants {count} bytes at byte {self.at}, it has {self.stop}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode()
        except UnicodeDecodeError:
            self.fail(f"has a string before byte {self.at} that is not UTF-8")

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, min(self.at + _NAME_LIMIT, self.stop))
        if end < 0:
            self.fail(f"has a name at byte {self.at} without an end")
        return self.text(end + 1 - self.at)[:-1]

    def skip_frame(self) -> None:
        size = self.number("<Q")
        if size > self.stop - self.at:
            self.fail(f"has a frame of {size} bytes at byte {self.at}, it has {self.stop}")

    # --- the stack and the memo

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            self.fail(f"wants {count} values at byte {self.at}, its stack has {len(self.stack)}")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def pop(self) -> Any:
        self.top()
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            self.fail(f"wants a value at byte {self.at}, its stack has none")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.below) == _DEPTH_LIMIT:
            self.fail(f"is nested deeper than {_DEPTH_LIMIT}")
        self.below.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        if not self.below:
            self.fail(f"wants a mark at byte {self.at}, there is none")
        values, self.stack = self.stack, self.below.pop()
        return values

    def remember(self, number: int) -> None:
        self.memo[number] = self.top()
        if len(self.memo) > _MEMO_LIMIT:
            self.fail(f"remembers more than {_MEMO_LIMIT} values")

    def recall(self, number: int) -> None:
        if number not in self.memo:
            self.fail(f"recalls value {number} at byte {self.at}, which it never had")
        self.push(self.memo[number])

    # --- what changes a value or makes one of others

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            self.fail(f"appends to {kind_of(target)} at byte {self.at}, want list")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) not in (dict, OrderedDict):
            self.fail(f"sets items of {kind_of(target)} at byte {self.at}, want dict")
        if len(values) % 2:
            self.fail(f"sets a key without a value at byte {self.at}")
        self.fill(target, zip(values[::2], values[1::2], strict=True))

    def fill(self, target: dict[Any, Any], items: Iterable[Iterable[Any]]) -> None:
        for key, value in items:
            # others can be made to take forever: nested tuples to hash, large numbers to keep apart
            if type(key) is not str and not (type(key) is int and key in _INT32):
                self.fail(f"has a key of type {kind_of(key)} before byte {self.at}, want a string or a 32-bit integer")
            if key in target:
                self.fail(f"sets {key!r:.80} twice")
            target[key] = value

    def push_global(self, module: Any, attribute: Any) -> None:
        name = f"{module}.{attribute}" if type(module) is str and type(attribute) is str else kind_of(module)
        if name not in self.makers:
            self.fail(
                f"names {name!r:.200}, which was not looked up: want tensors and plain values alone, "
                "as torch.save(model.state_dict(), path) writes them"
            )
        self.push(Global(name, self.makers[name]))

    def reduce(self) -> None:
        function, arguments = self.last(2)
        if not isinstance(function, Global) or function.make is None:
            self.fail(f"calls {kind_of(function)} at byte {self.at}")
        if type(arguments) is not tuple:
            self.fail(f"calls {function.name} with {kind_of(arguments)} at byte {self.at}, want tuple")
        self.push(function.make(arguments))

    def ordered_dict(self, arguments: tuple[Any, ...]) -> OrderedDict[Any, Any]:
        """Empty, as Python 3 writes it, or of a list of lists of a key and a value, as Python 2 did."""
        rows = arguments[0] if arguments else []
        if len(arguments) > 1 or type(rows) is not list or not all(type(row) is list and len(row) == 2 for row in rows):
            found = ", ".join(map(kind_of, arguments[:8]))
            self.fail(f"makes an OrderedDict of ({found}) at byte {self.at}, want nothing, or a list of [key, value]")
        # a list that is remembered can be copied by every opcode
        self.copied += len(rows)
        if self.copied > _OPCODE_LIMIT:
            self.fail(f"makes OrderedDicts of more than {_OPCODE_LIMIT} items")
        made: OrderedDict[Any, Any] = OrderedDict()
        self.fill(made, rows)
        return made

    def build(self) -> None:
        """Drops a module's ``_metadata``, the one state that torch writes for an OrderedDict."""
        state = self.pop()
        target = self.top()
        if type(target) is not OrderedDict or type(state) is not dict:
            self.fail(f"gives {kind_of(target)} a state of {kind_of(state)} at byte {self.at}, want OrderedDict, dict")


_STEPS: dict[int, Callable[[_Machine], None]] = {
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.number("<B")),  # BININT1
    ord("M"): lambda m: m.push(m.number("<H")),  # BININT2
    ord("J"): lambda m: m.push(m.number("<i")),  # BININT
    0x8A: lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),  # LONG1
    ord("G"): lambda m: m.push(m.number(">d")),  # BINFLOAT
    ord("X"): lambda m: m.push(m.text(m.number("<L"))),  # BINUNICODE
    ord("U"): lambda m: m.push(m.text(m.number("<B"))),  # SHORT_BINSTRING, of Python 2
    ord("T"): lambda m: m.push(m.text(m.number("<L"))),  # BINSTRING
    0x8C: lambda m: m.push(m.text(m.number("<B"))),  # SHORT_BINUNICODE
    ord("B"): lambda m: m.push(m.take(m.number("<L"))),  # BINBYTES
    ord("C"): lambda m: m.push(m.take(m.number("<B"))),  # SHORT_BINBYTES
    ord(")"): lambda m: m.push(()),
    ord("]"): lambda m: m.push([]),
    ord("}"): lambda m: m.push({}),
    ord("("): _Machine.mark,
    ord("t"): lambda m: m.push(tuple(m.to_mark())),
    0x85: lambda m: m.push(tuple(m.last(1))),
    0x86: lambda m: m.push(tuple(m.last(2))),
    0x87: lambda m: m.push(tuple(m.last(3))),
    ord("a"): lambda m: m.append(m.last(1)),
    ord("e"): lambda m: m.append(m.to_mark()),
    ord("s"): lambda m: m.set_items(m.last(2)),
    ord("u"): lambda m: m.set_items(m.to_mark()),
    ord("q"): lambda m: m.remember(m.number("<B")),  # BINPUT
    ord("r"): lambda m: m.remember(m.number("<L")),  # LONG_BINPUT
    0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
    ord("h"): lambda m: m.recall(m.number("<B")),  # BINGET
    ord("j"): lambda m: m.recall(m.number("<L")),  # LONG_BINGET
    ord("c"): lambda m: m.push_global(m.line(), m.line()),
    0x93: lambda m: m.push_global(*m.last(2)),  # STACK_GLOBAL
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
    ord("Q"): lambda m: m.push(m.load(m.pop())),  # BINPERSID
    0x95: _Machine.skip_frame,
}
