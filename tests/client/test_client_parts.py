"""The parts of the client that need no server."""

from __future__ import annotations

import asyncio
import inspect
import io
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nidim.client import (
    AsyncClient,
    BadImage,
    Busy,
    Client,
    DownloadDamaged,
    FileInfo,
    NidimServerError,
    RetryPolicy,
    ServerUnreachable,
    Unavailable,
)
from nidim.client.client import options
from nidim.client.download import place_of
from nidim.client.drive import iterate, run
from nidim.client.errors import from_problem
from nidim.client.images import Batch, batches
from nidim.client.retry import Tries, retry_after_s
from nidim.client.sse import Parser
from nidim.client.transport import AwaitingTransport, BlockingTransport
from service.settings import Settings

STREAM = (
    'retry: 1000\n\nid: 1\nevent: log\ndata: {"a": "\u2028\x85\x0c"}\n\n: still here\r\n\r\n'
    "id: 2\rdata: one\rdata:  two\r\rdata: never finished"
).encode()


def messages(pieces: list[bytes]) -> list[Any]:
    parser = Parser()
    return [message for piece in pieces for message in parser.feed(piece)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_messages_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(STREAM)]
    found = messages([STREAM[a:b] for a, b in itertools.pairwise(ends)])
    assert [m.retry_ms for m in found if m.retry_ms] == [1000]
    assert [(m.id, m.data) for m in found if m.data] == [("1", '{"a": "\u2028\x85\x0c"}'), ("2", "one\n two")]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def problem(status: int, code: str, retry_after: float | None = None) -> NidimServerError:
    return from_problem(status, {"code": code, "detail": "x"}, request_id=None, retry_after_s=retry_after)


def test_waits_have_full_jitter_honour_retry_after_and_end() -> None:
    clock = Clock()
    for share in (0.0, 0.5, 1.0):
        tries = Tries(
            RetryPolicy(total_s=100, base_s=1, most_s=8, random=lambda share=share: share), clock=clock
        )
        assert [tries.after(None) for _ in range(6)] == [share * wait for wait in (1, 2, 4, 8, 8, 8)]
    tries = Tries(RetryPolicy(total_s=60, base_s=1, random=lambda: 0.25), clock=clock)
    assert tries.after(problem(429, "rate_limited", 7)) == 7.25
    assert tries.after(problem(503, "not_ready", 90)) is None
    clock.now_s = 59.9
    assert tries.after(None) is None


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [
        (429, "overloaded", True),
        (503, "not_ready", True),
        (502, "http_502", True),
        (409, "idempotency_in_flight", True),
        (409, "state_conflict", False),
        (503, "encoder_damaged", False),
        (500, "internal_error", False),
        (422, "invalid_value", False),
    ],
)
def test_what_may_pass_is_tried_again(status: int, code: str, again: bool) -> None:
    assert (Tries(RetryPolicy()).after(problem(status, code)) is not None) == again


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert retry_after_s("120") == 120
    assert retry_after_s("Thu, 01 Jan 2026 12:00:30 GMT", now) == 30
    assert retry_after_s("Thu, 01 Jan 2026 11:00:00 GMT", now) == 0
    assert retry_after_s("soon") is None
    assert retry_after_s(None) is None


def test_problems_are_typed_and_say_what_they_are() -> None:
    body = {
        "code": "bad_image",
        "detail": "Image 3: truncated.",
        "request_id": "r1",
        "errors": [{"pointer": "/images/3", "detail": "truncated"}],
    }
    error = from_problem(422, body, request_id=None, retry_after_s=None)
    assert isinstance(error, BadImage)
    assert (error.index, error.code, error.request_id) == (3, "bad_image", "r1")
    moved = error.shifted(1000)
    assert moved.index == 1003
    assert "Image 1003" in str(moved)
    assert "/images/1003: truncated" in str(moved)
    assert "r1" in str(moved)
    assert isinstance(problem(429, "overloaded", 3), Busy)
    gateway = from_problem(503, "<html>down</html>", request_id=None, retry_after_s=None)
    assert isinstance(gateway, Unavailable)
    assert (gateway.code, gateway.detail) == ("http_503", "<html>down</html>")


def cut(images: Any, most_images: int = 100, most_bytes: int = 1 << 20) -> list[Batch]:
    return list(batches(images, most_images=most_images, most_bytes=most_bytes))


def test_batches_keep_order_and_limits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 5), dtype=np.uint8)
    (tmp_path / "a.bin").write_bytes(b"a" * 10)
    found = cut([pixels, pixels[:1], tmp_path / "a.bin", b"b", str(tmp_path / "a.bin")], most_images=3)
    assert [len(batch) for batch in found] == [3, 3, 2, 3]
    assert [batch.first for batch in found] == [0, 3, 6, 8]
    together = np.concatenate([batch.pixels for batch in found if batch.pixels is not None])
    np.testing.assert_array_equal(together, np.concatenate([pixels, pixels[:1]]))
    assert found[-1].files == (b"a" * 10, b"b", b"a" * 10)
    assert [len(batch) for batch in cut(pixels, most_bytes=45)] == [2, 2, 2, 1]
    assert [len(batch) for batch in cut([b"x" * 5000] * 3, most_bytes=6000)] == [1, 1, 1]
    assert [len(half) for half in found[-1].halves()] == [1, 2]


def test_batches_are_made_as_they_are_asked_for() -> None:
    taken = itertools.count()

    def endless() -> Any:
        while True:
            next(taken)
            yield b"image"

    stream = batches(endless(), most_images=4, most_bytes=1 << 20)
    next(stream)
    assert next(taken) == 5


def test_tensors_and_loaders_are_images() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(tensor, torch.arange(6)), batch_size=4
    )
    for images in (tensor, tensor.float() / 255, loader, [tensor, tensor[:0]], list(loader)):
        found = cut(images)
        np.testing.assert_array_equal(np.concatenate([batch.pixels for batch in found]), pixels)


def test_pictures_become_files_without_loss() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    Image.fromarray(pixels).save(turned, "PNG", exif=exif)
    (batch,) = cut([Image.fromarray(pixels), Image.fromarray(pixels).convert("CMYK"), Image.open(turned)])
    plain, cmyk, again = (Image.open(io.BytesIO(data)) for data in batch.files)
    np.testing.assert_array_equal(np.asarray(plain), pixels)
    assert cmyk.mode == "CMYK"
    assert again.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    "wrong",
    [
        3,
        {"image": b"x"},
        np.zeros((2, 4, 4), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((1, 2, 3, 4, 5), np.uint8),
        np.zeros((2, 4, 4, 2), np.uint8),
        torch.randn(2, 3, 4, 4),
        Image.new("F", (4, 4)),
        [b"x", None],
    ],
)
def test_what_is_no_image_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        cut(wrong)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", ".hidden", "", "a\\b", "C:x", "a\0", "x" * 200]
)
def test_a_file_never_goes_outside(name: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadDamaged):
        place_of(tmp_path, FileInfo(name=name, size=1, digest="sha256:0", media_type="x"))


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "https://nidim.example", "http://nidim.example"])
def test_certificates_are_read_where_there_may_be_any(url: str) -> None:
    assert options(url, None, 60)["verify"]
    assert not options("http://127.0.0.1:1", None, 60)["verify"]


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIDIM_URL", "https://nidim.example/base/")
    monkeypatch.setenv("NIDIM_KEY", "nk_secret")
    found = options(None, None, 60)
    assert (found["base_url"], found["headers"]["Authorization"]) == (
        "https://nidim.example/base",
        "Bearer nk_secret",
    )
    assert found["trust_env"]
    assert not {"url", "key"} & set(Settings.model_fields)  # no setting of the server has these names
    assert not options("http://127.0.0.1:1", None, 60)["trust_env"]
    for url, key in (("localhost:8000", None), ("ftp://x", None), ("http://x", "nk_é")):
        with pytest.raises(ValueError, match=r"address|ASCII"):
            options(url, key, 60)


async def doubled(item: int) -> int:
    return 2 * item


def test_few_requests_are_prepared_ahead_and_order_is_kept() -> None:
    def counted(taken: list[int]) -> Iterator[int]:
        for item in range(40):
            taken.append(item)
            yield item

    async def awaiting() -> None:
        taken: list[int] = []
        async with httpx.AsyncClient() as http:
            found = AwaitingTransport(http).ordered(doubled, counted(taken), at_once=3)
            for i in range(40):
                assert await anext(found) == 2 * i
                assert len(taken) <= i + 4
            await found.aclose()

    taken: list[int] = []
    with httpx.Client() as http:
        for i, item in enumerate(
            iterate(BlockingTransport(http).ordered(doubled, counted(taken), at_once=3))
        ):
            assert item == 2 * i
            assert len(taken) <= i + 4
    asyncio.run(awaiting())


def test_a_blocking_client_never_waits_for_an_event_loop() -> None:
    with pytest.raises(RuntimeError, match="event loop"):
        run(asyncio.sleep(0))


def test_help_and_editors_see_what_to_give() -> None:
    """Of a class and of an object; a blocking client says nothing of coroutines."""
    for kind in (Client, AsyncClient):
        assert list(inspect.signature(kind.train).parameters) == [
            *("self", "spec", "encoder", "generator", "priority")
        ]
        assert inspect.isfunction(kind.jobs)
        assert next(iter(inspect.signature(kind("http://127.0.0.1:1").train).parameters)) == "spec"
    assert not inspect.iscoroutinefunction(Client.train)
    assert inspect.iscoroutinefunction(AsyncClient.train)
    for jobs in (Client.jobs, Client("http://127.0.0.1:1").jobs):
        assert inspect.signature(jobs).return_annotation == "Iterator[J]"
    assert "Submit a training" in (inspect.getdoc(Client.train) or "")


def test_a_client_says_where_it_asks_and_no_password() -> None:
    client = Client("http://me:secret@127.0.0.1:9", retry=RetryPolicy(total_s=0))
    assert repr(client) == "<Client http://127.0.0.1:9>"
    with pytest.raises(
        ServerUnreachable, match=r"No answer from http://127\.0\.0\.1:9 for /v1/encoders/x"
    ) as told:
        client.encoder("x")
    assert "secret" not in str(told.value)
    with pytest.raises(ValueError, match=r"before /v1; give http://127.0.0.1:9$"):
        Client("http://127.0.0.1:9/v1/")


def test_what_is_no_spec_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a dict such as .*got 'digits'"):
        Client("http://127.0.0.1:9").train("digits", encoder="x")  # type: ignore[arg-type]
