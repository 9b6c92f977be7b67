"""The life of the server: damage, overload, hanging up, stopping."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from service.health import BlobWatch, BrokerWatch, degraded
from service.inference.admission import QueueFull
from service.refusals import ServingUnavailable
from service.serve import configuration
from service.settings import Settings

KIND = {"content-type": "application/x-npy"}


def test_a_damaged_encoder_answers_503_and_the_server_stays_ready(
    start_server: Any, tmp_path: Any, add_encoder: Any, npy: Any, pictures: Any, is_problem: Any
) -> None:
    with start_server(tmp_path) as server:
        broken, whole = add_encoder(server, "broken"), add_encoder(server, "whole", seed=1)
        digest = broken.files["config.json"].digest.removeprefix("sha256:")
        path = next((tmp_path / "blobs").rglob(digest))
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b"digits", b"digitz"))
        url = "/v1/encoders/broken"
        answer = server.client.post(f"{url}/embed", content=npy(pictures), headers=KIND)
        is_problem(answer, 503, "encoder_damaged")
        is_problem(server.client.get(f"{url}/files/config.json"), 503, "encoder_damaged")
        ready = server.client.get("/readyz")
        assert ready.status_code == 200
        assert "encoder_damaged: broken@1" in ready.json()["degraded"]
        other = server.client.post(f"/v1/encoders/{whole.id}/embed", content=npy(pictures), headers=KIND)
        assert other.status_code == 200
        assert server.client.post(f"{url}/prior/sample", json={"n": 3}).status_code == 200


class Part:
    """A store or an engine that works, or does not."""

    def __init__(self, error: Exception | None = None, stuck_s: float = 0.0) -> None:
        self.error = error
        self.decoder = SimpleNamespace(stuck_s=lambda: stuck_s)

    def ping(self) -> None:
        if self.error:
            raise self.error

    async def probe(self) -> None:
        self.ping()


def test_only_the_store_or_a_forward_pass_makes_it_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "service.health._of_store", lambda app: app.store.ping() or ["encoder_damaged: worn@3"]
    )

    def ask(store: Part, serving: Part, blobs: Part = Part()) -> list[str]:
        app = SimpleNamespace(store=store, serving=serving)
        watches = BrokerWatch("redis+socket:///nowhere"), BlobWatch(blobs)  # type: ignore[arg-type]
        return asyncio.run(degraded(app, *watches))  # type: ignore[arg-type]

    assert ask(Part(), Part()) == ["broker", "encoder_damaged: worn@3"]
    assert ask(Part(), Part(), Part(OSError())) == ["broker", "blobs", "encoder_damaged: worn@3"]
    assert "queue_full" in ask(Part(), Part(QueueFull(1)))
    assert "decoding_stuck" in ask(Part(), Part(stuck_s=3600))
    for store, serving in (
        (Part(OSError()), Part()),
        (Part(), Part(ValueError())),
        (Part(), Part(TimeoutError())),
    ):
        with pytest.raises(ServingUnavailable):
            ask(store, serving)


def test_a_full_queue_answers_429_and_recovers(
    start_server: Any, tmp_path: Any, add_encoder: Any, npy: Any, pictures: Any, is_problem: Any
) -> None:
    with start_server(tmp_path, serve_queue_images=1, serve_batch_images=1) as server:
        add_encoder(server, "gauss")
        url, post = "/v1/encoders/gauss/embed", server.client.post
        many = npy(np.repeat(pictures, 20, axis=0))
        assert post(url, content=npy(pictures[:1]), headers=KIND).status_code == 200
        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(post(url, content=many, headers=KIND)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                is_problem(answer, 429, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
        assert post(url, content=npy(pictures[:1]), headers=KIND).status_code == 200


def test_just_so_many_jobs_wait(start_server: Any, tmp_path: Any, is_problem: Any) -> None:
    """However many come at once, and each that leaves the queue makes room at once."""
    body = {"spec": {"dataset": "digits"}, "encoder": "x"}
    with start_server(tmp_path, max_queued_jobs=3) as server:

        def submit(_: int) -> httpx.Response:
            return server.client.post("/v1/jobs", json=body)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(submit, range(16)))
        refused = [answer for answer in answers if answer.status_code != 202]
        assert len(refused) == 13
        for answer in refused:
            is_problem(answer, 429, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        for job_id in [answer.json()["id"] for answer in answers if answer.status_code == 202][:2]:
            assert server.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
        assert [submit(0).status_code for _ in range(3)] == [202, 202, 429]


def raw(server: Any, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", httpx.URL(server.url).port), timeout=120)
    connection.sendall(data)
    return connection


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def taken(server: Any) -> set[int]:
    """Ports of the clients whose connections the process has taken from its listener, which outlives it here."""
    connections = psutil.Process(server.process.pid).net_connections("tcp")
    return {c.raddr.port for c in connections if c.status == psutil.CONN_ESTABLISHED}


def test_more_requests_than_may_be_at_work_are_told_so_at_once(
    start_server: Any, tmp_path: Any, add_encoder: Any, npy: Any, pictures: Any, is_problem: Any
) -> None:
    with start_server(tmp_path, serve_requests=1, serve_batch_images=1) as server:
        add_encoder(server, "gauss")
        url, many = "/v1/encoders/gauss/embed", npy(np.repeat(pictures, 20, axis=0))

        def ask(body: bytes = npy(pictures[:1])) -> httpx.Response:
            return server.client.post(url, content=body, headers=KIND)

        assert ask().status_code == 200
        refused, taken = None, False
        with ThreadPoolExecutor(1) as other:
            while refused is None or not taken:  # who comes first is chance
                long = other.submit(ask, many)
                while not long.done():
                    answer = ask()
                    if "may be are at work" in answer.text:
                        refused = answer
                        assert server.client.get("/v1/encoders/gauss").status_code == 200, "the rest goes on"
                taken = long.result().status_code == 200
        is_problem(refused, 429, "overloaded")
        assert refused.headers["retry-after"] == "1"
        label = 'method="POST",route="/v1/encoders/{ref}/embed",status="429"'
        assert f"nidim_requests_total{{{label}}}" in server.client.get("/metrics").text
        assert ask().status_code == 200


def test_a_body_that_stops_arriving_is_given_up(start_server: Any, tmp_path: Any, add_encoder: Any) -> None:
    with start_server(tmp_path, body_timeout_s=0.5) as server:
        add_encoder(server, "gauss")
        head = "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: 1000\r\n\r\n"
        for path, kind in (
            ("/v1/encoders/gauss/embed", "image/png"),
            ("/v1/jobs", "application/json"),
            ("/v1/datasets", "multipart/form-data; boundary=b"),
        ):
            with raw(server, head.format(path, kind).encode() + b"--b") as connection:
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                assert answer.status == 408
                assert json.load(answer)["code"] == "body_timeout"
                answer.close()
        assert not list((tmp_path / "scratch").rglob("upload-*"))


def test_clients_that_hang_up_leave_nothing_behind(
    server: Any, encoder: Any, npy: Any, pictures: Any
) -> None:
    logged = len(server.log.read_text())
    body = npy(np.repeat(pictures, 100, axis=0))
    head = (
        "POST /v1/encoders/gauss/embed HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/x-npy\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    for cut in (len(body), len(body) // 2, 10):
        raw(server, head.encode() + body[:cut]).close()
    upload = (
        "POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    )
    part = b'Content-Length: 9999\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nabc'
    raw(server, upload.encode() + part).close()
    answer = server.client.post("/v1/encoders/gauss/embed", content=npy(pictures), headers=KIND)
    assert answer.status_code == 200
    wait_until(lambda: not list((server.settings.data_dir / "scratch").rglob("upload-*")))
    assert "Traceback" not in server.log.read_text()[logged:]


def test_stopping_ends_streams_and_finishes_what_was_accepted(
    start_server: Any, tmp_path: Any, add_encoder: Any, npy: Any, pictures: Any
) -> None:
    with start_server(tmp_path, serve_batch_images=4) as server:
        add_encoder(server, "gauss")
        url = "/v1/encoders/gauss/embed"
        assert server.client.post(url, content=npy(pictures), headers=KIND).status_code == 200
        job = server.client.post("/v1/jobs", json={"spec": {"dataset": "digits"}, "encoder": "x"}).json()
        ended, answers = threading.Event(), []

        def follow() -> None:
            with httpx.stream("GET", f"{server.url}/v1/jobs/{job['id']}/events", timeout=120) as stream:
                for _ in stream.iter_lines():
                    following.set()
            ended.set()

        def embed() -> None:
            body = npy(np.repeat(pictures, 50, axis=0))
            answers.append(httpx.post(server.url + url, content=body, headers=KIND, timeout=120))

        following = threading.Event()
        threads = [threading.Thread(target=follow), threading.Thread(target=embed)]
        threads[0].start()
        assert following.wait(60)
        before = taken(server)
        threads[1].start()
        wait_until(lambda: bool(taken(server) - before))
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        for thread in threads:
            thread.join()
        assert ended.is_set()
        assert answers[0].status_code == 200
        log = server.log.read_text()
        assert "Application shutdown complete" in log
        assert "Traceback" not in log
        assert "Cancel" not in log
    with contextlib.suppress(ProcessLookupError):
        server.process.kill()


def test_an_accepted_request_is_answered_within_the_grace_or_told_to_come_again(
    start_server: Any, tmp_path: Any, add_encoder: Any, npy: Any, pictures: Any
) -> None:
    with start_server(tmp_path, shutdown_grace_s=3) as server:
        add_encoder(server, "gauss")
        body = npy(pictures)
        url = "/v1/encoders/gauss/embed"
        assert server.client.post(url, content=body, headers=KIND).status_code == 200
        head = f"POST {url} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        with raw(server, request[:-1]) as late, raw(server, request[:-1]) as never:
            wait_until(lambda: {late.getsockname()[1], never.getsockname()[1]} <= taken(server))
            time.sleep(0.2)  # what they sent is read
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Shutting down" in server.log.read_text())
            late.sendall(request[-1:])
            answers = [http.client.HTTPResponse(connection) for connection in (late, never)]
            for answer in answers:
                answer.begin()
            assert [answer.status for answer in answers] == [200, 503]
            problem = answers[1]
            assert problem.headers["content-type"] == "application/problem+json"
            assert int(problem.headers["retry-after"]) >= 1
            assert json.loads(problem.read())["code"] == "not_ready"
            for answer in answers:
                answer.close()
        assert server.process.wait(60) == -signal.SIGTERM
        assert "Traceback" not in server.log.read_text()


def test_the_grace_is_longer_than_an_embedding_takes() -> None:
    config = configuration(Settings())
    assert config.timeout_graceful_shutdown is not None
    assert config.timeout_graceful_shutdown > Settings().shutdown_grace_s >= 30


def test_the_same_on_postgresql(
    start_server: Any,
    tmp_path: Any,
    empty: Any,
    add_encoder: Any,
    npy: Any,
    pictures: Any,
    is_problem: Any,
) -> None:
    with start_server(tmp_path, database_url=empty("postgresql").database_url) as server:
        client = server.client
        name = f"pg-{time.time_ns()}"
        add_encoder(server, name)
        answer = client.post(f"/v1/encoders/{name}/embed", content=npy(pictures), headers=KIND)
        assert answer.status_code == 200
        uploaded = client.post("/v1/datasets", data={"name": name}, files={"file": npy(pictures)})
        assert uploaded.status_code == 201
        job = {"spec": {"dataset": name}, "encoder": name}
        made = [
            client.post("/v1/jobs", json=job, headers={"Idempotency-Key": name}).json()["id"] for _ in "ab"
        ]
        assert made[0] == made[1]
        is_problem(client.delete(f"/v1/datasets/{name}"), 409, "dataset_in_use")
        assert client.post(f"/v1/jobs/{made[0]}/cancel").json()["state"] == "cancelled"
        for path in ("/v1/jobs/%00", "/v1/encoders/%00", "/v1/datasets/%00", "/v1/encoders/a/aliases/%00"):
            is_problem(client.get(path), 404, "not_found")
        assert client.get("/readyz").status_code == 200
