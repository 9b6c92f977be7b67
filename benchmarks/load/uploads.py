"""Many uploads at once, quick and slow ones and some that stop: how each ends, the memory, and what others notice.

All of them send the same archive from one file, but for its last bytes, so that each is another upload to the server
and none is held in memory here.
"""

from __future__ import annotations

import asyncio
import io
import math
import shutil
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.load.figures import timing_ms
from benchmarks.load.stack import Api, NewDatabase, Peak, api
from benchmarks.load.wire import ACCEPT, Answer, Connection, head

BOUNDARY = "load-boundary"
KIND = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
MARK = 16
"""Bytes of the archive's comment, at its end, in which uploads differ."""
PIECES = 100


@dataclass(frozen=True)
class Size:
    """How many uploads, images in each, pixels of a side; how long a slow sender takes, how many stop.

    ``stall_s``: the silence after which the measured server gives a sender up; by default it is 30 s.
    """

    uploads: int = 64
    images: int = 34
    side: int = 1024
    slow_s: float = 12.0
    stalled: int = 16
    stall_s: float = 15.0

    @property
    def image_bytes(self) -> int:
        """Of one image; noise cannot be compressed."""
        return 3 * self.side**2


SMALL = Size(uploads=8, images=10, side=48, slow_s=2.0, stalled=2, stall_s=4.0)


def of_megabytes(megabytes: float) -> Size:
    """Uploads of at least so many MB each."""
    return Size(images=math.ceil(megabytes * 1e6 / Size().image_bytes))


def measure(new_database: NewDatabase, size: Size, seed: int) -> dict[str, Any]:
    """The three waves, one after the other, on one server. Raises RuntimeError where the disk has no room for them."""
    settings = {"body_timeout_s": size.stall_s, "ingest_timeout_s": 600}
    with tempfile.TemporaryDirectory(prefix="nidim-load-") as directory:
        _require_room(Path(directory), size)
        archive = _archive(Path(directory) / "images.zip", size, seed)
        with api(Path(directory) / "data", new_database(), **settings) as server:
            return asyncio.run(_waves(server, size, archive))


def _require_room(directory: Path, size: Size) -> None:
    """For what both waves leave, one wave in scratch, and a tenth."""
    wanted = int(1.1 * (3 * size.uploads + 1) * size.images * size.image_bytes) + (1 << 30)
    if (free := shutil.disk_usage(directory).free) < wanted:
        raise RuntimeError(f"the uploads need {wanted / 1e9:.1f} GB of disk and {free / 1e9:.1f} are free")


async def _waves(server: Api, size: Size, archive: Path) -> dict[str, Any]:
    forms = [_Form(archive, number) for number in range(2 * size.uploads)]
    quick, slow = forms[: size.uploads], forms[size.uploads :]
    found: dict[str, Any] = {"size": vars(size), "bytes_each": forms[0].length}
    found["alone"] = await _wave(server, [asyncio.sleep(3)])
    found["quick"] = await _wave(server, [_upload(server, form, 0) for form in quick])
    found["slow"] = await _wave(server, [_upload(server, form, size.slow_s) for form in slow])
    found["stopped"] = await _wave(server, [_stop(server, form) for form in quick[: size.stalled]])
    found["left_in_scratch"] = len(list((server.settings.data_dir / "scratch").rglob("upload-*")))
    return found


async def _wave(server: Api, work: list[Any]) -> dict[str, Any]:
    """How the uploads end, while somebody else asks for small things."""
    before, cpu, began = server.memory_mb(), server.cpu_s(), time.perf_counter()
    with Peak(server) as peak:
        uploads = asyncio.gather(*work)
        others, failed = await _others(server, uploads)
        ends = [end for end in await uploads if isinstance(end, Answer)]
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "ends": dict(Counter(str(end.status) for end in ends)),
        "upload_ms": timing_ms([end.seconds for end in ends]),
        "others_ms": timing_ms(others),
        "others_failed": failed,
        "memory_mb_before": round(before, 1),
        "memory_mb_peak": round(server.memory_mb(peak=True), 1),
        "memory_mb_peak_with_children": round(peak.tree_mb, 1),
        "cpu_s": round(server.cpu_s() - cpu, 2),
    }


async def _others(server: Api, until: asyncio.Future[Any]) -> tuple[list[float], int]:
    connection, times, failed = await Connection.open(server.port), [], 0
    while not until.done():
        for path in ("/v1/jobs", "/v1/encoders", "/healthz"):
            answer = await connection.request("GET", path, headers=ACCEPT)
            times.append(answer.seconds)
            failed += answer.status != 200
        await asyncio.sleep(0.05)
    connection.close()
    return times, failed


async def _upload(server: Api, form: _Form, seconds: float) -> Answer:
    """Send, in a hundred pieces over so many seconds, and wait for the answer."""
    connection = await Connection.open(server.port)
    began = time.perf_counter()
    connection.writer.write(head("POST", "/v1/datasets", form.length, KIND))
    for piece in form.pieces():
        connection.writer.write(piece)
        await connection.writer.drain()
        if seconds:
            await asyncio.sleep(seconds / PIECES)
    return await _end(connection, began)


async def _stop(server: Api, form: _Form) -> Answer:
    """Send half, then nothing."""
    connection = await Connection.open(server.port)
    began = time.perf_counter()
    connection.writer.write(head("POST", "/v1/datasets", form.length, KIND))
    for number, piece in enumerate(form.pieces()):
        if number == PIECES // 2:
            break
        connection.writer.write(piece)
        await connection.writer.drain()
    return await _end(connection, began)


async def _end(connection: Connection, began: float) -> Answer:
    status, headers = await connection.answer_head()
    data = b"".join([piece async for piece in connection.body(headers)])
    connection.close()
    return Answer(status, headers, data, time.perf_counter() - began)


class _Form:
    """A form with the archive, as pieces; ``number`` makes it another one."""

    def __init__(self, archive: Path, number: int) -> None:
        self._archive, self._bytes = archive, archive.stat().st_size
        self._head = _field("name", "", f"load-{number}".encode()) + _field("file", '; filename="images.zip"')
        self._tail = f"{number:0{MARK}d}\r\n--{BOUNDARY}--\r\n".encode()
        self.length = len(self._head) + self._bytes - MARK + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        """A hundred of them, and what is around."""
        left = self._bytes - MARK
        step = max(1, math.ceil(left / PIECES))
        yield self._head
        with self._archive.open("rb") as source:
            while left > 0:
                piece = source.read(min(step, left))
                left -= len(piece)
                yield piece
        yield self._tail


def _field(name: str, more: str, value: bytes | None = None) -> bytes:
    """The head of a field, and the whole of it if there is a value."""
    start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
    return start if value is None else start + value + b"\r\n"


def _archive(path: Path, size: Size, seed: int) -> Path:
    """A zip of noise in two class folders."""
    chance = np.random.default_rng(seed)
    with zipfile.ZipFile(path, "w") as members:
        for number in range(size.images):
            pixels = chance.integers(0, 256, (size.side, size.side, 3), dtype=np.uint8)
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "PNG", compress_level=1)
            members.writestr(f"class-{number % 2}/{number}.png", image.getvalue())
        members.comment = b"0" * MARK
    return path
