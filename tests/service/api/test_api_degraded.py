"""A flipped byte: the encoder refuses to load and says so everywhere, all others serve, a repair needs no restart."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.store import damage
from service.store.blobs import blob_path

KIND = {"content-type": "application/x-npy"}
FILES = ("model.safetensors", "config.json", "report.json", "report.html", "README.md")


def places(server: Any, digest: str) -> Path:
    return Path(server.settings.data_dir) / "blobs" / blob_path(digest)


def flip(path: Path) -> None:
    """Flip one bit, in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def own_server(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server whose files may be damaged."""
    with start_server(tmp_path_factory.mktemp("degraded")) as server:
        yield server


@pytest.mark.parametrize(
    ("how", "name"), [*(("flipped", name) for name in FILES), ("gone", "model.safetensors")]
)
def test_any_damaged_file_degrades_one_encoder(
    own_server: Any, add_encoder: Any, npy: Any, pictures: Any, is_problem: Any, name: str, how: str
) -> None:
    client = own_server.client
    label = f"{how}-{name.lower()}"

    def embed(ref: str) -> Any:
        return client.post(f"/v1/encoders/{ref}/embed", content=npy(pictures), headers=KIND)

    def shown(ref: str) -> dict[str, Any]:
        listed = client.get("/v1/encoders", params={"name": ref}).json()["items"][0]
        assert listed == client.get(f"/v1/encoders/{ref}").json()
        return listed

    def degraded() -> list[str]:
        answer = client.get("/readyz")
        assert answer.status_code == 200
        return [entry for entry in answer.json()["degraded"] if entry.startswith("encoder_damaged")]

    whole = add_encoder(own_server, "whole", encoder={"kind": "conv", "dim": 2, "width": 8})
    assert embed("whole").status_code == 200
    encoder = add_encoder(own_server, label)
    assert encoder.files[name].digest != whole.files[name].digest, "they would share the blob, and the damage"
    assert (shown(label)["state"], shown(label)["degraded"]) == ("ready", None)
    path = places(own_server, encoder.files[name].digest)
    content = path.read_bytes()
    if how == "flipped":
        flip(path)
    else:
        path.unlink()
    try:
        is_problem(embed(label), 503, "encoder_damaged")
        found = shown(label)
        assert found["state"] == "degraded"
        assert (found["degraded"]["code"], found["degraded"]["file"]) == ("encoder_damaged", name)
        assert degraded() == [f"encoder_damaged: {label}@1"]
        assert "\nnidim_encoders_damaged 1.0\n" in client.get("/metrics").text
        assert embed("whole").status_code == 200
        assert shown("whole")["state"] == "ready"
    finally:
        path.write_bytes(content)
    assert embed(label).status_code == 200
    assert (shown(label)["state"], shown(label)["degraded"]) == ("ready", None)
    assert degraded() == []


def test_a_file_that_cannot_be_sent_degrades_too_and_a_recheck_sees_the_repair(
    own_server: Any, add_encoder: Any, is_problem: Any
) -> None:
    encoder = add_encoder(own_server, "sent")
    path = places(own_server, encoder.files["README.md"].digest)
    content = path.read_bytes()
    flip(path)
    try:
        is_problem(own_server.client.get("/v1/encoders/sent/files/README.md"), 503, "encoder_damaged")
        assert own_server.client.get("/v1/encoders/sent").json()["degraded"]["file"] == "README.md"
        assert damage.recheck(own_server.store, every_s=-1) == 0
    finally:
        path.write_bytes(content)
    assert damage.recheck(own_server.store, every_s=60) == 0, "it was looked at a moment ago"
    assert damage.recheck(own_server.store, every_s=-1) == 1
    assert own_server.client.get("/v1/encoders/sent").json()["state"] == "ready"


def test_a_damaged_encoder_can_be_deleted(own_server: Any, add_encoder: Any) -> None:
    encoder = add_encoder(own_server, "hopeless")
    with own_server.store.begin() as tx:
        damage.note(tx, encoder.id, file="config.json", detail="config.json is gone")
        damage.note(tx, "enc_" + "0" * 26, file=None, detail="an encoder that is gone itself")
        assert damage.labels(tx) == ["hopeless@1"]
    assert own_server.client.delete("/v1/encoders/hopeless@1").status_code == 204
    with own_server.store.session() as tx:
        assert damage.labels(tx) == []


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("ENDPOINT_URL", endpoint)):
            monkeypatch.setenv(f"AWS_{name}", value)
        yield


@pytest.mark.usefixtures("black_hole")
def test_a_blob_store_that_hangs_holds_up_nothing_else(
    start_server: Any, tmp_path: Path, new_encoder: Any, is_problem: Any
) -> None:
    with start_server(tmp_path, blob_url="s3://bucket/x", blob_timeout_s=1) as server:
        new_encoder(server.store, "faces")
        url = "/v1/encoders/faces/files/model.safetensors"
        many = httpx.Client(base_url=server.url, timeout=60, limits=httpx.Limits(max_connections=50))
        with many, ThreadPoolExecutor(50) as pool:
            waiting = [pool.submit(many.get, url) for _ in range(50)]
            for path in ("/v1/datasets", "/v1/encoders/faces", "/v1/jobs"):
                assert server.client.get(path).status_code == 200
            ready = server.client.get("/readyz")
            assert (ready.status_code, ready.json()["degraded"]) == (200, ["broker", "blobs"])
            assert "\nnidim_blobs_up 0.0\n" in server.client.get("/metrics").text
            for answer in (each.result() for each in waiting):
                is_problem(answer, 503, "blobs_unavailable")
                assert int(answer.headers["retry-after"]) >= 1
