"""What one mutant is: a request, the statuses that are documented for it, and the family that it belongs to."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Rng = np.random.Generator
Statuses = frozenset[int]

EMBED = "/v1/encoders/gauss/embed"
SCORE = "/v1/encoders/gauss/prior/score"
OK = frozenset({200, 201, 202, 204})
REFUSED = frozenset({400, 404, 405, 406, 408, 409, 412, 413, 415, 416, 422})
BAD_VALUE = frozenset({422})
TOO_LARGE = frozenset({413})
EITHER = frozenset({200, 413, 422})
"""A mutant that may still be whole, may be damaged, may be too large."""
UPLOAD = frozenset({201, 413, 422})


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request over HTTP; ``cleanup``: a dataset to delete if it was created."""

    family: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    allowed: Statuses = EITHER
    cleanup: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wire:
    """Bytes on a socket, with pauses in seconds between them.

    ``closed``: the server may also hang up without an answer, as it does while a client is still sending.
    ``gone``: the client hangs up and hears nothing.
    """

    family: str
    pieces: Sequence[bytes | float]
    allowed: Statuses = REFUSED
    closed: bool = True
    gone: bool = False


Maker = Callable[[Rng], Case | Wire]


@dataclass(frozen=True)
class Family:
    """Makes mutants of one kind; ``weight``: how many of them there are beside others."""

    name: str
    weight: float
    make: Maker


def multipart(parts: Sequence[tuple[str, bytes]], boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    """Fields as a form, every one a file; body and headers."""
    out = io.BytesIO()
    for name, data in parts:
        filename = '; filename="x"' if name in ("file", "images") else ""
        out.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode())
        out.write(data + b"\r\n")
    out.write(f"--{boundary}--\r\n".encode())
    return out.getvalue(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def upload(family: str, data: bytes, allowed: Statuses = UPLOAD) -> Case:
    """The file as a dataset of a name of its own."""
    name = f"hostile-{hashlib.sha256(data).hexdigest()[:12]}"
    body, headers = multipart([("name", name.encode()), ("file", data)])
    return Case(family=family, path="/v1/datasets", body=body, headers=headers, allowed=allowed, cleanup=name)


def as_json(family: str, path: str, value: object, allowed: Statuses) -> Case:
    """A JSON body; a string or bytes is sent as it is."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Case(
        family=family, path=path, body=raw, headers={"Content-Type": "application/json"}, allowed=allowed
    )


def pick(rng: Rng, things: Sequence) -> object:
    """One of them."""
    return things[int(rng.integers(len(things)))]


def text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def flipped(data: bytes, rng: Rng, most: int = 16, *, head: int | None = None) -> bytes:
    """One to ``most`` bits turned over, in the first ``head`` bytes if that is given."""
    out = bytearray(data)
    span = min(len(out), head or len(out))
    if not span:
        return data
    for _ in range(int(rng.integers(1, most + 1))):
        out[int(rng.integers(span))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def cut(data: bytes, rng: Rng) -> bytes:
    """A prefix: nothing, a few bytes, the head, somewhere, or all but the last few bytes."""
    n = len(data)
    where = int(rng.integers(5))
    if where == 0:
        return data[: int(rng.integers(0, 9))]
    if where == 1:
        return data[: int(rng.integers(1, min(64, n)))]
    if where == 2:
        return data[: n - int(rng.integers(1, min(24, n)))]
    return data[: int(rng.integers(1, n))]
