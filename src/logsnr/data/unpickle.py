"""Reading plain data out of a pickle without running it.

A pickle is a program for a stack machine, and some of its instructions call whatever function the file names:
loading one is running a stranger's code. CIFAR-10 is published as such files. This interpreter has no such
instruction. It disassembles the file (``pickletools.genops`` executes nothing) and knows dict, list, tuple,
int, float, bytes, str, the memo, and NumPy arrays of numbers, whose four constructors are recognised by name
and done here: a name in the file is only ever compared with the list below. Whatever else is in the file ends
the reading with one line that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pickletools import genops
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_NUMBERS = re.compile(r"[<>|=]?[biuf]\d{1,2}")
_MARK = object()
_PUSH_ARGUMENT = re.compile(
    r"(INT|LONG[14]?|BININT[12]?|FLOAT|BINFLOAT|(SHORT_)?BIN(STRING|BYTES|UNICODE)|STRING|UNICODE"
    r"|BIN(BYTES|UNICODE)8|BYTEARRAY8)"
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "MARK": lambda: _MARK,
}  # fmt: skip


class Global(NamedTuple):
    """A name in a pickle: never looked up, only compared."""

    module: str
    name: str


@dataclass
class Type:
    """A NumPy dtype; the BUILD instruction brings its byte order."""

    dtype: np.dtype[Any]

    def build(self, state: tuple[Any, ...]) -> None:
        self.dtype = _number(text(state[1]) + self.dtype.str[1:])


@dataclass
class Array:
    """A NumPy array; the BUILD instruction brings its content."""

    values: np.ndarray | None = None

    def build(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.values = _array(data, kind, shape, "F" if fortran else "C")


class RefusedError(Exception):
    """The pickle asks for more than plain data."""


def read_pickle(file: BinaryIO) -> Any:
    """Return the dicts, lists, tuples, numbers, strings and (read-only) arrays in a pickle of any protocol.

    Raises:
        ValueError: naming the instruction or the name that is not plain data, or the place of the damage.
    """
    machine = _Machine()
    name, position = "start", 0
    try:
        for opcode, argument, place in genops(file):
            name, position = opcode.name, place or 0
            if name == "STOP":
                return _finished(machine.stack[-1])
            machine.run(name, argument)
    except RefusedError as refused:
        raise ValueError(str(refused)) from None
    except Exception as error:  # a damaged program fails in as many ways as there are instructions
        raise ValueError(f"damaged after byte {position} ({name}): {error}") from error
    raise ValueError("damaged: it has no end")


def text(value: str | bytes) -> str:
    """Return a string; Python 2 wrote byte strings."""
    return value if isinstance(value, str) else value.decode("latin-1")


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if _PUSH_ARGUMENT.fullmatch(name):
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, _, attribute = argument.partition(" ") if argument else ("", "", "")
            self.stack.append(Global(module, attribute) if argument else Global(*self.pop(2)))
        elif name == "REDUCE":
            self.stack.append(_call(*self.pop(2)))
        elif name == "BUILD":
            (state,) = self.pop(1)
            self.stack[-1].build(state)
        elif name not in ("PROTO", "FRAME"):
            self.collect(name)

    def collect(self, name: str) -> None:
        """Carry out an instruction that makes or fills a container."""
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self.pop(int(name[-1]))))
        elif name == "TUPLE":
            self.stack.append(tuple(self.pop_to_mark()))
        elif name == "LIST":
            self.stack.append(self.pop_to_mark())
        elif name == "DICT":
            self.stack.append(_pairs(self.pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
            self.stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.pop(2) if name == "SETITEM" else self.pop_to_mark()
            self.stack[-1].update(_pairs(items))
        else:
            raise RefusedError(f"the pickle instruction {name} is refused: only plain data and arrays are read")

    def pop(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def pop_to_mark(self) -> list[Any]:
        mark = max(place for place, item in enumerate(self.stack) if item is _MARK)
        return self.pop(len(self.stack) - mark)[1:]


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _call(target: Any, arguments: tuple[Any, ...]) -> Any:
    """Do what one of the constructors of arrays and byte strings would do."""
    match target:
        case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
            return Array()
        case ("numpy", "dtype"):
            return Type(_number(text(arguments[0])))
        case ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer"):
            return Array(_array(*arguments))
        case ("_codecs", "encode"):
            return arguments[0].encode("latin-1")
        case ("__builtin__" | "builtins", "bytes") if arguments == ():
            return b""
    raise RefusedError(f"the pickle calls {'.'.join(map(text, target))}, which is refused: only plain data is read")


def _number(name: str) -> np.dtype[Any]:
    if not _NUMBERS.fullmatch(name):
        raise RefusedError(f"the pickle has an array of dtype {name!r}, which is refused: only numbers are read")
    return np.dtype(name)


def _array(data: bytes | str, kind: Type, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Return the array; its size must be what its shape says."""
    content = data.encode("latin-1") if isinstance(data, str) else data
    return np.frombuffer(content, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _finished(value: Any) -> Any:
    """Return the value with arrays in place of what they were made from."""
    match value:
        case dict():
            return {_finished(key): _finished(item) for key, item in value.items()}
        case list():
            return [_finished(item) for item in value]
        case Global() | Type():
            raise RefusedError("the pickle holds a name, which is not data")
        case Array(values):
            return values
        case tuple():
            return tuple(_finished(item) for item in value)
    return value
