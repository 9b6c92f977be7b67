"""Every change leaves one entry that says who made it, to what and by which request; nothing else leaves one."""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.routing import iter_route_contexts

from benchmarks.tiny_generator import register_generator, write_generator
from service.app import create_app
from service.settings import Settings

SECRET = "nk_" + secrets.token_urlsafe(32)
JOB = {"spec": {"dataset": "digits"}, "encoder": "audited"}

AUDITED = {
    ("POST", "/v1/jobs"): "job.submit",
    ("POST", "/v1/jobs/{job_id}/cancel"): "job.cancel",
    ("POST", "/v1/jobs/{job_id}/retry"): "job.retry",
    ("POST", "/v1/datasets"): "dataset.create",
    ("DELETE", "/v1/datasets/{name}"): "dataset.delete",
    ("DELETE", "/v1/encoders/{ref}"): "encoder.delete",
    ("DELETE", "/v1/generators/{ref}"): "generator.delete",
    ("POST", "/v1/encoders/{ref}/drift/reset"): "drift.reset",
    ("PUT", "/v1/encoders/{name}/aliases/{alias}"): "alias.put",
    ("DELETE", "/v1/encoders/{name}/aliases/{alias}"): "alias.delete",
    ("POST", "/v1/encoders/{name}/aliases/{alias}/rollback"): "alias.rollback",
    ("POST", "/v1/keys"): "key.create",
    ("DELETE", "/v1/keys/{key_id}"): "key.revoke",
}
ASKS = {
    *(("POST", f"/v1/encoders/{{ref}}/{what}") for what in ("embed", "prior/sample", "prior/score")),
    *(("POST", "/v1/encoders/{ref}/prior/interpolate"), ("POST", "/v1/embeddings")),
    *(("POST", "/v1/generators/{ref}/generate"), ("POST", "/v1/jobs/check")),
}
"""POST because they have a body; they change nothing."""


@pytest.fixture(scope="module")
def locked(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with start_server(tmp_path_factory.mktemp("audited"), bootstrap_key=SECRET) as server:
        yield server


class Tracked:
    """Sends requests with ids of their own and collects what the log has of each."""

    def __init__(self, server: Any, secret: str) -> None:
        self.client, self.headers = server.client, {"authorization": f"Bearer {secret}"}

    def __call__(self, method: str, path: str, status: int, **more: Any) -> tuple[Any, list[dict[str, Any]]]:
        request_id = f"audited-{secrets.token_hex(6)}"
        headers = {**self.headers, "X-Request-Id": request_id, **more.pop("headers", {})}
        answer = self.client.request(method, path, headers=headers, **more)
        assert answer.status_code == status, answer.text
        return answer, [entry for entry in self.log() if entry["request_id"] == request_id]

    def log(self, **query: Any) -> list[dict[str, Any]]:
        answer = self.client.get("/v1/audit", params={"limit": 1000, **query}, headers=self.headers)
        entries: list[dict[str, Any]] = answer.json()["items"]
        return entries


@pytest.fixture
def tracked(locked: Any) -> Tracked:
    return Tracked(locked, SECRET)


def summary(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["action"], entry["target"]) for entry in entries]


def upload(name: str, *, good: bool = True) -> dict[str, Any]:
    stream = io.BytesIO()
    np.savez(stream, images=np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    data = stream.getvalue() if good else b"no dataset at all"
    return {"data": {"name": name}, "files": {"file": ("x.npz", data)}}


def test_every_route_that_changes_something_is_known_here() -> None:
    changing = {
        (method, route.path)
        for route in iter_route_contexts(create_app(Settings()).routes)
        for method in (route.methods or set()) - {"GET", "HEAD"}
    }
    assert changing == AUDITED.keys() | ASKS, "a new route: note its change in the audit log and test it here"


def test_jobs(tracked: Tracked) -> None:
    once = {"Idempotency-Key": secrets.token_hex(8)}
    answer, entries = tracked("POST", "/v1/jobs", 202, json=JOB, headers=once)
    job = answer.json()["id"]
    assert summary(entries) == [("job.submit", job)]
    assert entries[0]["who"] == answer.json()["created_by"]
    assert entries[0]["who"].startswith("key_")
    assert entries[0]["detail"] == {"encoder": "audited"}
    assert tracked("POST", "/v1/jobs", 202, json=JOB, headers=once)[1] == []
    assert summary(tracked("POST", f"/v1/jobs/{job}/cancel", 202)[1]) == [("job.cancel", job)]
    assert tracked("POST", f"/v1/jobs/{job}/cancel", 202)[1] == []
    answer, entries = tracked("POST", f"/v1/jobs/{job}/retry", 202)
    assert summary(entries) == [("job.retry", answer.json()["id"])]
    assert entries[0]["detail"] == {"retry_of": job}
    assert tracked("POST", "/v1/jobs", 422, json={"spec": {}, "encoder": "x"})[1] == []
    assert tracked("POST", "/v1/jobs/job_none/cancel", 404)[1] == []
    assert tracked("GET", f"/v1/jobs/{job}", 200)[1] == []


def test_datasets(tracked: Tracked) -> None:
    answer, entries = tracked("POST", "/v1/datasets", 201, **upload("seen"))
    assert summary(entries) == [("dataset.ready", "seen"), ("dataset.create", "seen")]
    assert {entry["who"] for entry in entries} == {answer.json()["created_by"]}
    assert entries[0]["detail"] == {"items": 20}
    assert entries[1]["detail"]["digest"].startswith("sha256:")
    _, entries = tracked("POST", "/v1/datasets", 422, **upload("broken", good=False))
    assert summary(entries) == [("dataset.delete", "broken"), ("dataset.create", "broken")]
    assert summary(tracked("DELETE", "/v1/datasets/seen", 204)[1]) == [("dataset.delete", "seen")]
    assert tracked("DELETE", "/v1/datasets/seen", 404)[1] == []
    assert tracked("DELETE", "/v1/datasets/digits", 403)[1] == []


def test_datasets_that_nobody_waits_for(tracked: Tracked) -> None:
    later = {"Prefer": "respond-async"}
    for name, good, end in (("later", True, "dataset.ready"), ("never", False, "dataset.fail")):
        _, entries = tracked("POST", "/v1/datasets", 202, headers=later, **upload(name, good=good))
        request_id = entries[-1]["request_id"]
        while tracked("GET", f"/v1/datasets/{name}", 200)[0].json()["state"] == "ingesting":
            time.sleep(0.05)
        entries = [entry for entry in tracked.log() if entry["request_id"] == request_id]
        assert summary(entries) == [(end, name), ("dataset.create", name)]
    assert entries[0]["detail"] == {"because": "bad_archive"}


def test_encoders_and_aliases(tracked: Tracked, locked: Any, add_encoder: Any) -> None:
    first = add_encoder(locked, "logged")
    add_encoder(locked, "logged")
    path = "/v1/encoders/logged/aliases/prod"
    moved = [tracked("PUT", path, 200, json={"version": version})[1] for version in (1, 2, 2)]
    assert [summary(entries) for entries in moved] == [[("alias.put", "logged:prod")]] * 2 + [[]]
    assert [entries[0]["detail"] for entries in moved[:2]] == [
        {"version": 1, "former": None},
        {"version": 2, "former": 1},
    ]
    assert tracked("PUT", path, 412, json={"version": 1}, headers={"If-Match": '"0"'})[1] == []
    assert tracked("DELETE", "/v1/encoders/logged@2", 409)[1] == []
    assert summary(tracked("POST", f"{path}/rollback", 200)[1]) == [("alias.rollback", "logged:prod")]
    assert summary(tracked("DELETE", path, 204)[1]) == [("alias.delete", "logged:prod")]
    _, entries = tracked("DELETE", "/v1/encoders/logged@1", 204)
    assert summary(entries) == [("encoder.delete", first.id)]
    assert entries[0]["detail"] == {"version": "logged@1"}


def test_generators(tracked: Tracked, locked: Any, add_encoder: Any, tmp_path: Any) -> None:
    source = add_encoder(locked, "painted")
    made = register_generator(
        locked.store, "painter", tmp_path / "files", write_generator(tmp_path / "files", source)
    )
    created = [entry for entry in tracked.log() if entry["target"] == made.id]
    assert [(entry["action"], entry["who"]) for entry in created] == [("generator.create", "worker")]
    assert created[0]["detail"] == {"version": "painter@1", "job": made.job_id}
    assert tracked("POST", "/v1/generators/painter/generate", 200, json={"n": 1})[1] == []
    assert tracked("DELETE", "/v1/generators/painter", 422)[1] == []
    _, entries = tracked("DELETE", "/v1/generators/painter@1", 204)
    assert summary(entries) == [("generator.delete", made.id)]
    wish = {"spec": {"kind": "generator", "source": "painted"}, "generator": "painter"}
    _, entries = tracked("POST", "/v1/jobs", 202, json=wish)
    assert entries[0]["detail"] == {"generator": "painter"}


def test_drift(tracked: Tracked, locked: Any, add_encoder: Any, npy: Any, pictures: Any) -> None:
    one = add_encoder(locked, "watched")
    path, sent = f"/v1/encoders/{one.id}", {"content-type": "application/x-npy"}
    assert tracked("POST", f"{path}/drift/reset", 200)[1] == []  # there was nothing to forget
    assert tracked("POST", f"{path}/embed", 200, content=npy(pictures), headers=sent)[1] == []
    answer, entries = tracked("POST", f"{path}/drift/reset", 200)
    assert summary(entries) == [("drift.reset", one.id)]
    assert entries[0]["detail"] == {"version": "watched@1"}
    assert answer.json()["n"] == 0


def test_keys(tracked: Tracked) -> None:
    answer, entries = tracked("POST", "/v1/keys", 201, json={"name": "new", "scopes": ["read"]})
    key = answer.json()
    assert summary(entries) == [("key.create", key["id"])]
    assert key["key"] not in str(entries)
    assert summary(tracked("DELETE", f"/v1/keys/{key['id']}", 204)[1]) == [("key.revoke", key["id"])]
    assert tracked("DELETE", f"/v1/keys/{key['id']}", 204)[1] == []


def test_the_log_is_paged_and_told_by_caller(tracked: Tracked, locked: Any, is_problem: Any) -> None:
    made = tracked("POST", "/v1/keys", 201, json={"name": "trainer", "scopes": ["train"]})[0].json()
    other = {"authorization": f"Bearer {made['key']}"}
    for _ in range(5):
        assert locked.client.post("/v1/jobs", json=JOB, headers=other).status_code == 202
    everything = [entry["id"] for entry in tracked.log()]
    seen, cursor = [], None
    while True:
        query = {"limit": 4, **({"cursor": cursor} if cursor else {})}
        page = locked.client.get("/v1/audit", params=query, headers=tracked.headers).json()
        seen += [entry["id"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == everything
    assert [entry["action"] for entry in tracked.log(who=made["id"])] == ["job.submit"] * 5
    assert [entry["target"] for entry in tracked.log(who="bootstrap")] == [
        everything and tracked.log()[-1]["target"]
    ]
    is_problem(locked.client.get("/v1/audit", headers=other), 403, "scope_missing")
    is_problem(locked.client.get("/v1/audit?who=x", headers=tracked.headers), 422, "invalid_value")
    is_problem(locked.client.get("/v1/audit?cursor=x", headers=tracked.headers), 422, "bad_cursor")


def test_without_keys_the_log_says_open(api: Any) -> None:
    job = api.post("/v1/jobs", json=JOB).json()
    entry = api.get("/v1/audit", params={"limit": 1}).json()["items"][0]
    assert (entry["who"], entry["target"], job["created_by"]) == ("open", job["id"], "open")
