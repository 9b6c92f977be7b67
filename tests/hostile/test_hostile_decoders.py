"""Codecs that crash, hang and babble, and decoders that are killed and stopped: the API stays, and tells the truth."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.hostile.cases import EMBED, multipart
from benchmarks.hostile.pictures import of
from benchmarks.hostile.stack import Stack, processes

GOOD = of("PNG")[1]
NPY = {"Accept": "application/x-npy"}
PNG = {"Content-Type": "image/png", **NPY}
HANGS, DIES, BABBLES = (GOOD + b"this image " + what for what in (b"hangs", b"kills", b"babbles"))


@pytest.fixture
def client(faulty_server: Stack) -> Any:
    with faulty_server.client() as opened:
        yield opened


@pytest.fixture
def good(client: httpx.Client) -> bytes:
    """The row of the good image, before anything goes wrong."""
    return client.post(EMBED, content=GOOD, headers=PNG).raise_for_status().content


def vectors(npy: bytes) -> np.ndarray[Any, Any]:
    return np.load(io.BytesIO(npy), allow_pickle=False)


def decoders(server: Stack) -> list[int]:
    return [pid for pid, kind in processes(server.pid) if kind == "decoder"]


def form(*images: bytes) -> dict[str, Any]:
    body, headers = multipart([("images", image) for image in images])
    return {"content": body, "headers": headers}


def until(true: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("bad", [HANGS, DIES, BABBLES], ids=["hangs", "dies", "babbles"])
def test_the_culprit_is_refused_and_the_others_are_answered(
    client: httpx.Client, good: bytes, bad: bytes
) -> None:
    alone = client.post(EMBED, content=bad, headers=PNG)
    assert alone.status_code == 422
    assert alone.json()["code"] == "bad_image"
    assert "crash or hang" in alone.text
    among = client.post(EMBED + "?on_error=null", **form(GOOD, bad, GOOD)).json()["embeddings"]
    assert among[1] is None
    assert among[0] == among[2] is not None
    assert client.post(EMBED, content=GOOD, headers=PNG).content == good


def test_patience_with_one_request_ends(client: httpx.Client, good: bytes) -> None:
    """Forty images that kill their decoder cost no more than a few processes."""
    started = time.monotonic()
    answer = client.post(EMBED, **form(*[DIES] * 40))
    assert answer.status_code == 422
    assert "not decoded" in answer.text
    assert time.monotonic() - started < 100
    assert client.post(EMBED, content=GOOD, headers=PNG).content == good


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_decoder_that_others_killed_is_no_fault_of_an_image(
    faulty_server: Stack, client: httpx.Client, good: bytes, what: signal.Signals
) -> None:
    for pid in decoders(faulty_server):
        os.kill(pid, what)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: client.post(EMBED, content=GOOD, headers=PNG), range(6)))
    for answer in answers:  # a batch of another size may round its last bit otherwise
        np.testing.assert_allclose(vectors(answer.content), vectors(good), rtol=1e-5)


def test_health_tells_that_decoding_is_stuck_and_the_rest_goes_on(
    faulty_server: Stack, client: httpx.Client, good: bytes
) -> None:
    """Every decoder hangs: /readyz says so, arrays and draws are answered, and it passes."""
    stopped = decoders(faulty_server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(client.post, EMBED, content=HANGS, headers=PNG) for _ in range(4)]
        until(lambda: "decoding_stuck" in client.get("/readyz").json()["degraded"])
        drawn = client.post("/v1/encoders/gauss/prior/sample", json={"n": 3})
        assert drawn.status_code == 200
        assert client.get("/healthz").status_code == 200
        assert [answer.result().status_code for answer in waiting] == [422] * 4
    assert client.post(EMBED, content=GOOD, headers=PNG).content == good
    assert "decoding_stuck" not in client.get("/readyz").json()["degraded"]
    assert not set(stopped) & set(decoders(faulty_server))
