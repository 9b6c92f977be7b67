"""Many uploads at once, quick and slow ones and some that stop: how each ends, the memory, and what others notice."""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
import zipfile
from collections import Counter
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
STALL_S = 4.0
"""The silence after which the measured server gives a sender up; by default it is 30 s."""


@dataclass(frozen=True)
class Size:
    """How many uploads, images in each, pixels of a side; how long a slow sender takes, how many stop."""

    uploads: int = 64
    images: int = 40
    side: int = 48
    slow_s: float = 12.0
    stalled: int = 16


SMALL = Size(uploads=8, images=10, slow_s=2.0, stalled=2)


def measure(new_database: NewDatabase, size: Size, seed: int) -> dict[str, Any]:
    """The three waves, one after the other, on one server."""
    bodies = [_form(f"load-{number}", size, seed + number) for number in range(2 * size.uploads)]
    settings = {"body_timeout_s": STALL_S, "ingest_timeout_s": 600}
    with (
        tempfile.TemporaryDirectory(prefix="nidim-load-") as directory,
        api(Path(directory), new_database(), **settings) as server,
    ):
        return asyncio.run(_waves(server, size, bodies))


async def _waves(server: Api, size: Size, bodies: list[bytes]) -> dict[str, Any]:
    quick, slow = bodies[: size.uploads], bodies[size.uploads :]
    found: dict[str, Any] = {"size": vars(size), "bytes_each": len(bodies[0])}
    found["alone"] = await _wave(server, [asyncio.sleep(3)])
    found["quick"] = await _wave(server, [_upload(server, body, 0) for body in quick])
    found["slow"] = await _wave(server, [_upload(server, body, size.slow_s) for body in slow])
    found["stopped"] = await _wave(server, [_stop(server, body) for body in quick[: size.stalled]])
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


async def _upload(server: Api, body: bytes, seconds: float) -> Answer:
    """Send, in a hundred pieces over so many seconds, and wait for the answer."""
    connection = await Connection.open(server.port)
    began = time.perf_counter()
    connection.writer.write(head("POST", "/v1/datasets", len(body), KIND))
    step = max(1, len(body) // 100)
    for start in range(0, len(body), step):
        connection.writer.write(body[start : start + step])
        await connection.writer.drain()
        if seconds:
            await asyncio.sleep(seconds / 100)
    return await _end(connection, began)


async def _stop(server: Api, body: bytes) -> Answer:
    """Send half, then nothing."""
    connection = await Connection.open(server.port)
    began = time.perf_counter()
    connection.writer.write(head("POST", "/v1/datasets", len(body), KIND) + body[: len(body) // 2])
    return await _end(connection, began)


async def _end(connection: Connection, began: float) -> Answer:
    status, headers = await connection.answer_head()
    data = b"".join([piece async for piece in connection.body(headers)])
    connection.close()
    return Answer(status, headers, data, time.perf_counter() - began)


def _form(name: str, size: Size, seed: int) -> bytes:
    """A form with a zip of noise in two class folders; every one is different."""
    chance, archive = np.random.default_rng(seed), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        for number in range(size.images):
            pixels = chance.integers(0, 256, (size.side, size.side, 3), dtype=np.uint8)
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "PNG")
            members.writestr(f"class-{number % 2}/{number}.png", image.getvalue())
    parts = [("name", "", name.encode()), ("file", '; filename="images.zip"', archive.getvalue())]
    lines = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"{more}\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for field, more, data in parts
    ]
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()
