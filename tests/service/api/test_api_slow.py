"""Clients that send their bodies slowly: the patient ones are waited for, dribblers hold nothing for long."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

KIND = {"content-type": "application/x-npy"}
SILENCE_S = 1.5


@pytest.fixture(scope="module")
def strict(start_server: Any, add_encoder: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with room for one large body, that wants 100 bytes a second."""
    directory = tmp_path_factory.mktemp("strict")
    settings = {"body_timeout_s": SILENCE_S, "body_min_bytes_per_s": 100, "serve_inflight_bytes": 2000}
    with start_server(directory, **settings) as server:
        add_encoder(server, "gauss")
        yield server


def begun(server: Any, path: str, kind: str, length: int, first: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", httpx.URL(server.url).port), timeout=120)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + first)
    return connection


def send(connection: socket.socket, data: bytes, *, size: int, every_s: float) -> None:
    """``data`` in pieces until it is gone, or the server."""
    with contextlib.suppress(OSError):
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
            time.sleep(every_s)


def answer_of(connection: socket.socket) -> tuple[int, Any]:
    with contextlib.closing(http.client.HTTPResponse(connection)) as answer:
        answer.begin()
        return answer.status, json.load(answer)


def part(name: str) -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'.encode()


BEGUN = {
    ("/v1/encoders/gauss/embed", "image/png"): b"",
    ("/v1/encoders/gauss/embed", "multipart/form-data; boundary=b"): part("images"),
    ("/v1/datasets", "multipart/form-data; boundary=b"): part("file"),
    ("/v1/jobs", "application/json"): b"-" * 10**5,
}
"""(path, kind) -> what arrives at once; after it, a byte now and then."""


def test_a_byte_now_and_then_is_silence(strict: Any) -> None:
    """Each pause is far shorter than the silence that is allowed, and the sum of them is not."""

    def dribble(path: str, kind: str) -> tuple[int, str]:
        first = BEGUN[path, kind]
        with begun(strict, path, kind, len(first) + 1000, first) as connection:
            pieces = {"size": 1, "every_s": 0.1}
            sending = threading.Thread(target=send, args=(connection, b"-" * 300), kwargs=pieces)
            sending.start()
            status, body = answer_of(connection)
        sending.join()
        return status, body["code"]

    started = time.monotonic()
    with ThreadPoolExecutor(len(BEGUN)) as pool:
        answers = list(pool.map(lambda target: dribble(*target), BEGUN))
    assert answers == [(408, "body_timeout")] * len(BEGUN)
    assert time.monotonic() - started < 20, "300 bytes would have taken 30 s"


def test_a_slow_client_is_waited_for(strict: Any, npy: Any, pictures: Any) -> None:
    """Longer in all than the longest silence, but never below the least rate."""
    body = npy(pictures[:20])
    started = time.monotonic()
    with begun(strict, "/v1/encoders/gauss/embed", KIND["content-type"], len(body), b"") as connection:
        send(connection, body, size=200, every_s=0.25)
        status, answer = answer_of(connection)
    assert status == 200, answer
    assert time.monotonic() - started > SILENCE_S


def test_who_has_sent_nothing_holds_nothing(strict: Any, npy: Any, pictures: Any) -> None:
    """Twenty requests that announce all that there is room for keep nobody out."""
    body = npy(pictures[:1])
    post = "/v1/encoders/gauss/embed"
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        for _ in range(20):
            stack.enter_context(begun(strict, "/v1/encoders/gauss/embed", "image/png", 2000, b"-"))
        answer = pool.submit(strict.client.post, post, content=body, headers=KIND).result()
    assert answer.status_code == 200, answer.text


def test_what_was_sent_is_held(strict: Any, npy: Any, pictures: Any, is_problem: Any) -> None:
    """While it is held, which on a busy machine can be over before anybody else was answered, or not begin as long as
    the request before is held: then once more."""
    post = "/v1/encoders/gauss/embed"
    body = npy(pictures[:5])

    def beside_it() -> tuple[int, httpx.Response]:
        """What became of the request that is held, and of one beside it."""
        with begun(strict, post, "image/png", 2000, b"-" * 1900) as connection:
            over = time.monotonic() + SILENCE_S
            while (answer := strict.client.post(post, content=body, headers=KIND)).status_code == 200:
                if time.monotonic() > over:
                    break
            return answer_of(connection)[0], answer

    answers: list[tuple[int, httpx.Response]] = []
    while not (refused := [found for held, found in answers if held == 408 and found.status_code != 200]):
        assert len(answers) < 20
        answers.append(beside_it())
    is_problem(refused[0], 429, "overloaded")
    assert {held for held, _ in answers} <= {408, 429}
    assert strict.client.post(post, content=body, headers=KIND).status_code == 200
