"""CIFAR's batches, read without unpickling.

The files are pickles of a dictionary with an array of uint8 (n, 3072) and lists of labels. A pickle is a program for a
stack machine; of its language only the words that these files use are understood here, and what they would call is
recognised by name and never looked up:

    numpy.core.multiarray._reconstruct, numpy.ndarray, numpy.dtype     an array of bytes and nothing else

Every other word, name or use is refused. ``pickletools`` only splits the file into words.

Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; PEP 307.
"""

from __future__ import annotations

import hashlib
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nidim.errors import DataError

PIXELS = 3 * 32 * 32
RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
ARRAY, DTYPE = "numpy ndarray", "numpy dtype"
MAX_WORDS = 10_000_000
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
"""Of the published files."""


def read(folder: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of these files. Raises DataError."""
    batches = [batch(_published(folder / name)) for name in names]
    images = np.concatenate([images for images, _ in batches])
    return images, np.concatenate([labels for _, labels in batches])


def batch(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the content of one file. Raises DataError."""
    found = parse(data)
    values = found.get("data") if isinstance(found, dict) else None
    labels = found.get("fine_labels", found.get("labels")) if isinstance(found, dict) else None
    if not isinstance(values, _Array) or values.shape[1:] != (PIXELS,) or not isinstance(labels, list):
        raise DataError("This is no batch of CIFAR; fetch the files again.")
    if len(labels) != values.shape[0] or not all(type(label) is int and 0 <= label < 100 for label in labels):
        raise DataError("Images and labels of a CIFAR batch do not belong together; fetch the files again.")
    planes = np.frombuffer(values.data, np.uint8).reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.int64)


def parse(data: bytes) -> Any:
    """The value of a pickle of dictionaries, lists, tuples, texts, integers and byte arrays. Raises DataError."""
    try:
        return _Machine().run(data)
    except DataError:
        raise
    except Exception as exc:
        # Words may be damaged in any way: a stack that is empty, a memo that has nothing, text that never ends.
        raise DataError("This is no batch of CIFAR; fetch the files again.") from exc


def _published(path: Path) -> bytes:
    data = path.read_bytes()
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != MD5[path.name]:
        raise DataError(f"{path.name} is not the published file; fetch it again.")
    return data


@dataclass
class _Array:
    """An array of bytes; ``shape`` and ``data`` are known once it was built."""

    shape: tuple[int, ...] = (0,)
    data: bytes = b""


@dataclass(frozen=True)
class _Name:
    """The name of something that is never looked up."""

    text: str


class _Bytes(_Name):
    """The dtype uint8."""


_MARK = object()


@dataclass
class _Machine:
    """The stack and the memo."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, data: bytes) -> Any:
        for count, (word, argument, _) in enumerate(pickletools.genops(data)):
            if word.name == "STOP":
                return self.stack.pop()
            if word.name not in WORDS or count > MAX_WORDS:
                raise DataError(f"A batch of CIFAR has no {word.name}; this file is something else.")
            WORDS[word.name](self, argument)
        raise DataError("The file ends early; fetch it again.")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def keep(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def to_mark(self) -> list[Any]:
        """What was pushed since the mark, which goes too."""
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def tuple_of(self, n: int) -> None:
        items = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        self.push(tuple(items))

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise DataError("Only lists grow in a batch of CIFAR.")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or not all(type(key) is str for key in items[::2]):
            raise DataError("Only dictionaries with texts as keys belong in a batch of CIFAR.")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def name(self, text: str) -> None:
        if text not in (*RECONSTRUCT, ARRAY, DTYPE):
            raise DataError(f"A batch of CIFAR does not call {text[:80]!r}; this file is something else.")
        self.push(_Name(text))

    def call(self) -> None:
        """An empty array, or the dtype of bytes."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if name == _Name(DTYPE) and arguments[0] in ("u1", "|u1"):
            self.push(_Bytes("u1"))
        elif isinstance(name, _Name) and name.text in RECONSTRUCT and arguments[0] == _Name(ARRAY):
            self.push(_Array())
        else:
            raise DataError("A batch of CIFAR holds arrays of bytes only.")

    def build(self) -> None:
        """Shape and values of an array; what numpy notes about a dtype says nothing more."""
        state, thing = self.stack.pop(), self.stack[-1]
        if isinstance(thing, _Bytes):
            return
        if not isinstance(thing, _Array):
            raise DataError("A batch of CIFAR holds arrays of bytes only.")
        _, shape, dtype, fortran, values = state
        content = values if isinstance(values, bytes) else values.encode("latin-1")
        sides_fit = all(type(side) is int and side >= 0 for side in shape) and len(shape) == 2
        if not isinstance(dtype, _Bytes) or fortran or not sides_fit or shape[0] * shape[1] != len(content):
            raise DataError("An array of this CIFAR batch is not what it should be; fetch the file again.")
        thing.shape, thing.data = tuple(shape), content


def _pair(machine: _Machine) -> list[Any]:
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


Word = Callable[[_Machine, Any], None]
VALUES = (
    *("BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"),
    *("SHORT_BINBYTES", "BINBYTES"),
)
WORDS: dict[str, Word] = {
    "PROTO": lambda _, __: None,
    "FRAME": lambda _, __: None,
    "MARK": lambda m, _: m.push(_MARK),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(VALUES, _Machine.push),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.keep),
    "MEMOIZE": lambda m, _: m.keep(len(m.memo)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, number: m.push(m.memo[number])),
    "TUPLE": lambda m, _: m.push(tuple(m.to_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.to_mark()),
    "SETITEM": lambda m, _: m.update(_pair(m)),
    "SETITEMS": lambda m, _: m.update(m.to_mark()),
    "GLOBAL": _Machine.name,
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}
"""Every word that is understood."""
