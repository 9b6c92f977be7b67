"""Uploads while they arrive: counted together, refused as soon as there is no room, bounded in number."""

from __future__ import annotations

import http.client
import io
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.arrivals import Arrivals
from service.errors import QuotaExceeded, StorageFull
from service.refusals import Overloaded, TooManyInFlight
from service.settings import Settings
from service.store import datasets, quota
from service.store.audit import By

MIB = 1 << 20
SECRET = "nk_" + secrets.token_urlsafe(32)
HEADERS = {"Authorization": f"Bearer {SECRET}", "Content-Type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def small(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with room for 5 MiB, 4 of one key, that receives two uploads at a time."""
    limits = {"disk_quota_bytes": 5 * MIB, "key_stored_bytes": 4 * MIB, "max_receivers": 2}
    with start_server(
        tmp_path_factory.mktemp("small"), bootstrap_key=SECRET, disk_reserve_bytes=0, **limits
    ) as server:
        server.client.headers["Authorization"] = f"Bearer {SECRET}"
        yield server


class Slow:
    """An upload whose end is kept back: the file's bytes go out, the last boundary only when asked for."""

    def __init__(self, server: Any, name: str, **headers: str) -> None:
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
        self._connection.putrequest("POST", "/v1/datasets")
        for header in {**HEADERS, **headers, "Transfer-Encoding": "chunked"}.items():
            self._connection.putheader(*header)
        self._connection.endheaders()
        disposition = "\r\nContent-Disposition: form-data; name="
        self.send(
            f'--b{disposition}"name"\r\n\r\n{name}\r\n--b{disposition}"file"; filename="x"\r\n\r\n'.encode()
        )

    def send(self, data: bytes) -> None:
        self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.send(b"\r\n--b--\r\n")
        self._connection.send(b"0\r\n\r\n")

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and body; it does not wait for the end of the request."""
        answer = self._connection.getresponse()
        assert (answer.status < 400) or answer.headers["content-type"] == "application/problem+json"
        assert answer.status != 429 or int(answer.headers["retry-after"]) > 0
        return answer.status, json.loads(answer.read())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def slow(small: Any) -> Iterator[Callable[..., Slow]]:
    """``slow(name, **headers)`` -> an upload that has begun."""
    begun: list[Slow] = []

    def begin(name: str, **headers: str) -> Slow:
        begun.append(Slow(small, name, **headers))
        return begun[-1]

    yield begin
    for upload in begun:
        upload.close()
    wait_for(lambda: not received(small))


def received(server: Any) -> list[Path]:
    return list((Path(server.settings.data_dir) / "scratch").rglob("upload-*"))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def images(mebibytes: int) -> bytes:
    """An .npy file of so many mebibytes."""
    stream = io.BytesIO()
    np.save(stream, np.random.default_rng().integers(0, 256, (16 * mebibytes, 256, 256), dtype=np.uint8))
    return stream.getvalue()


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "new"}], ids=["plain", "idempotent"])
def test_what_all_receivers_have_is_counted_together(
    small: Any, slow: Callable[..., Slow], headers: dict[str, str]
) -> None:
    data = images(2)
    first = slow("first", **headers)
    first.send(data)
    wait_for(lambda: any(path.stat().st_size >= MIB for path in received(small)))
    second = slow("second", **{name: f"{value}-2" for name, value in headers.items()})
    second.send(bytes(4 * MIB))
    status, body = second.answer()
    assert (status, body["code"]) == (429, "quota_exceeded")
    wait_for(lambda: len(received(small)) == 1)
    first.end()
    assert first.answer()[0] == 201
    assert small.client.delete("/v1/datasets/first").status_code == 204


def test_a_first_answer_is_given_again_whatever_room_there_is(small: Any, slow: Callable[..., Slow]) -> None:
    data, once = images(3), {"Idempotency-Key": "again"}
    form = {"data": {"name": "again"}, "files": {"file": data}}
    first = small.client.post("/v1/datasets", headers=once, **form)
    assert first.status_code == 201, first.text
    again = slow("again", **once)
    again.send(data)
    assert received(small) == [], "nothing of it is kept"
    again.end()
    assert again.answer() == (201, first.json())
    other = slow("again", **once)
    other.send(bytes(3 * MIB))
    other.end()
    assert other.answer()[1]["code"] == "idempotency_mismatch"
    assert small.client.delete("/v1/datasets/again").status_code == 204


def test_so_many_arrive_at_a_time(small: Any, slow: Callable[..., Slow]) -> None:
    open_ = [slow(f"open-{number}") for number in range(2)]
    wait_for(lambda: len(received(small)) == 2)
    status, body = slow("third").answer()
    assert (status, body["code"]) == (429, "overloaded")
    open_[0].close()
    wait_for(lambda: len(received(small)) == 1)
    third = slow("third")
    third.send(b"no images")
    third.end()
    assert third.answer()[0] == 422


def test_a_server_removes_what_a_killed_one_was_receiving(start_server: Any, tmp_path: Path) -> None:
    with start_server(tmp_path) as killed:
        upload = Slow(killed, "half")
        upload.send(bytes(MIB))
        wait_for(lambda: len(received(killed)) == 1)
        killed.process.kill()
        killed.process.wait()
        assert len(received(killed)) == 1
        with start_server(tmp_path) as next_one:
            assert received(next_one) == []
        upload.close()


@contextmanager
def arriving(arrivals: Arrivals, by: By, *pieces: int) -> Iterator[Any]:
    with arrivals.one(by) as arrival:
        for piece in pieces:
            with arrival.room_for(piece):
                pass
        yield arrival


def test_one_key_holds_not_the_places_of_all_others(sqlite_store: Any) -> None:
    one, other = By("key_one"), By("key_other")
    arrivals = Arrivals(sqlite_store, Settings(key_receivers=2, max_receivers=5, disk_reserve_bytes=0))
    with arriving(arrivals, one), arriving(arrivals, one), arriving(arrivals, other):
        with pytest.raises(TooManyInFlight, match="2 uploads of this key"), arriving(arrivals, one):
            pass
        with (
            arriving(arrivals, By("open")),
            arriving(arrivals, By("open")),
            pytest.raises(Overloaded),
            arriving(arrivals, other),
        ):
            pass
    with arriving(arrivals, one), arriving(arrivals, one):
        pass


def test_the_bytes_of_a_key_are_counted_over_its_uploads(sqlite_store: Any) -> None:
    one, other = By("key_one"), By("key_other")
    arrivals = Arrivals(sqlite_store, Settings(key_stored_bytes=100, disk_reserve_bytes=0))
    with sqlite_store.begin() as tx:
        datasets.create(tx, name="a", size_bytes=50, created_by=one.who)
    with arriving(arrivals, one, 20, 20) as first, arriving(arrivals, one, 10) as second:
        with pytest.raises(QuotaExceeded, match="hold 50 bytes, these are 51 more"), second.room_for(1):
            pass
        with arriving(arrivals, other, 100), arriving(arrivals, By("open"), 1000):
            pass
        with pytest.raises(QuotaExceeded):
            first.expect(MIB)
    with arriving(arrivals, one, 50):
        pass


def test_the_reserve_is_kept_under_all_that_is_being_written(
    sqlite_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 100
    monkeypatch.setattr(quota, "disk_left_bytes", lambda _: free)
    arrivals = Arrivals(sqlite_store, Settings(disk_reserve_bytes=1))
    with arriving(arrivals, By("open"), 100) as first, arriving(arrivals, By("open"), 100) as second:
        with first.room_for(60), pytest.raises(StorageFull), second.room_for(41):
            pass
        free = 40
        with second.room_for(40):
            pass
        with pytest.raises(StorageFull):
            first.expect(41)
