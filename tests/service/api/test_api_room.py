"""Room: uploads over a quota or on a full disk are refused with advice, deletions give it back at once."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.store import datasets
from service.store.blobs import blob_path

QUOTA = 6000


@pytest.fixture(scope="module")
def small(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with room for two small uploads."""
    directory = tmp_path_factory.mktemp("small")
    with start_server(directory, disk_quota_bytes=QUOTA, disk_reserve_bytes=0) as server:
        yield server


@pytest.fixture
def images() -> Any:
    """``images(seed)`` -> an array whose .npy file has 2,688 bytes."""
    return lambda seed: np.random.default_rng(seed).integers(0, 256, (40, 8, 8), np.uint8)


def upload(server: Any, name: str, content: bytes, **headers: str) -> Any:
    form = {"data": {"name": name}, "files": {"file": (f"{name}.npy", content)}}
    return server.client.post("/v1/datasets", headers=headers, **form)


def test_uploads_over_the_quota_are_refused_until_something_is_deleted(
    small: Any, npy: Any, images: Any, is_problem: Any
) -> None:
    first = upload(small, "first", npy(images(1)), **{"Idempotency-Key": "again"})
    assert first.status_code == 201
    assert upload(small, "second", npy(images(2))).status_code == 201
    refused = upload(small, "third", npy(images(3)))
    is_problem(refused, 429, "quota_exceeded")
    assert "retry-after" in refused.headers
    again = upload(small, "first", npy(images(1)), **{"Idempotency-Key": "again"})
    assert (again.status_code, again.json()["name"]) == (201, "first"), (
        "a first answer is replayed all the same"
    )
    with small.store.session() as tx:
        digest = datasets.get(tx, "second").blob_digest
    path = Path(small.settings.data_dir) / "blobs" / blob_path(digest)
    os.utime(path, (1, 1))  # as if it had been stored long ago
    assert small.client.delete("/v1/datasets/second").status_code == 204
    assert not path.exists()
    assert upload(small, "third", npy(images(3))).status_code == 201
    assert list((Path(small.settings.data_dir) / "scratch").rglob("upload-*")) == []


def test_a_body_that_says_it_is_too_large_is_not_waited_for(small: Any) -> None:
    """The answer comes although the body never does."""
    address = small.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.putrequest("POST", "/v1/datasets")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(10**9))
    connection.endheaders(b"--x\r\n")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (429, "quota_exceeded")
    connection.close()


@pytest.mark.slow
def test_a_nearly_full_disk_refuses_uploads_and_serves_on(
    start_server: Any, tmp_path: Any, npy: Any, images: Any, is_problem: Any
) -> None:
    with start_server(tmp_path, disk_reserve_bytes=2**60) as server:
        is_problem(upload(server, "first", npy(images(1))), 429, "storage_full")
        assert server.client.get("/readyz").status_code == 200
        assert server.client.get("/v1/datasets").status_code == 200
