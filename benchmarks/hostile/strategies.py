"""What Schemathesis cannot know: bytes that are images, arrays and archives, and a dataset that exists."""

from __future__ import annotations

import base64
import io
import itertools
import re
import zipfile
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis.core.parameters import ParameterLocation

KINDS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/jpg": "JPEG",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/x-ms-bmp": "BMP",
    "image/gif": "GIF",
    "image/tiff": "TIFF",
}
DIM = 2
"""Of the encoder."""
KEY = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")
"""An Idempotency-Key that is taken."""
TURNS = itertools.count()


def picture(kind: str) -> bytes:
    """A small image file."""
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, kind)
    return stream.getvalue()


def array(values: np.ndarray[Any, Any]) -> bytes:
    """An .npy file."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return stream.getvalue()


def archive() -> bytes:
    """A zip of a few images."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for i in range(12):
            target.writestr(zipfile.ZipInfo(f"{i % 2}/{i}.png"), picture("PNG"))  # a name alone is dated now
    return stream.getvalue()


def register() -> None:
    """Called when Schemathesis loads this file."""
    for media, kind in KINDS.items():
        schemathesis.openapi.media_type(
            media, st.sampled_from([picture(kind), picture(kind)[:-9], b"", b"x"])
        )
    arrays = [
        array(np.zeros((2, 8, 8), np.uint8)),
        array(np.zeros((0, 4, 4, 3), np.uint8)),
        array(np.zeros((3, 2), np.float32)),
        array(np.zeros((3, 2), np.float64)),
        b"\x93NUMPY\x01\x00",
    ]
    schemathesis.openapi.media_type("application/x-npy", st.sampled_from(arrays))
    schemathesis.openapi.format("binary", st.sampled_from([picture("PNG"), archive(), b"", arrays[0]]))


def _job(body: dict[str, Any]) -> None:
    if isinstance(body.get("spec"), dict) and isinstance(body["spec"].get("dataset"), str):
        body["spec"]["dataset"] = "digits"


def _question(body: dict[str, Any]) -> None:
    text = base64.b64encode(picture("PNG")).decode()
    body |= {"model": "gauss", "input": [f"data:image/png;base64,{text}"]}
    body.pop("dimensions", None)


def _way(body: dict[str, Any]) -> None:
    body |= {end: (body[end] * DIM)[:DIM] for end in ("a", "b") if isinstance(body.get(end), list)}


def _rows(body: dict[str, Any]) -> None:
    if isinstance(body.get("embeddings"), list):
        body["embeddings"] = [(row * DIM)[:DIM] for row in body["embeddings"]]


def _upload(body: dict[str, Any]) -> None:
    body["file"] = archive()


def _move(body: dict[str, Any]) -> None:
    if isinstance(body.get("version"), int):
        body["version"] = 2 + body["version"] % 2


POSSIBLE = {
    "/v1/jobs": _job,
    "/v1/embeddings": _question,
    "/v1/encoders/{ref}/prior/interpolate": _way,
    "/v1/encoders/{ref}/prior/score": _rows,
    "/v1/datasets": _upload,
    "/v1/encoders/{name}/aliases/{alias}": _move,
}
"""What no schema can say: names of what exists, the encoder's d, files that hold something."""


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Three in four bodies become possible ones; what is wrong on purpose stays as it is."""
    del context
    possible = POSSIBLE.get(case.operation.path)
    wrong = _wrong_on_purpose(case, ParameterLocation.BODY)
    if possible and isinstance(case.body, dict) and not wrong and len(str(case.body)) % 4:
        possible(case.body)
    return case


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """A form has only texts: what is wrong by its type alone is right once it is sent."""
    del context
    if case.operation.path != "/v1/datasets" or not isinstance(case.body, dict):
        return True
    return all(isinstance(value, str | bytes) for value in case.body.values())


def _wrong_on_purpose(case: Any, where: ParameterLocation) -> bool:
    return case.meta is not None and bool(case.meta.is_negative_at(where))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Events by turns as a stream and as a list; no Idempotency-Key twice.

    With the same key and body the first answer comes again, 201 of what was deleted since too. That is as documented,
    but looks as if something new were lost at once.
    """
    del context, kwargs
    if _wrong_on_purpose(case, ParameterLocation.HEADER):
        return  # whoever writes a header has them all judged again, and gets back the key that was left out
    turn = next(TURNS)
    if case.operation.path.endswith("/events") and turn % 2:
        case.headers["Accept"] = "application/json"
    given = case.headers.get("Idempotency-Key")
    if isinstance(given, str) and KEY.fullmatch(given):
        case.headers["Idempotency-Key"] = f"{given[:200]}-{turn}"


register()
