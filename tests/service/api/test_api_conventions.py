"""Every JSON answer to a GET: names in snake_case, times RFC 3339 in UTC, whatever the clock of the server's room."""

from __future__ import annotations

import io
import re
import secrets
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fastapi.routing import iter_route_contexts

from benchmarks.tiny_generator import register_generator, write_generator
from nidim.capacity import Resolved
from nidim.data import load_builtin
from nidim.evaluate import Embedded, evaluate
from nidim.pipeline import provenance_of
from nidim.priors import make_prior, noisy_prior
from nidim.spec import FullSpec
from service.app import create_app
from service.settings import Settings
from service.store import damage, jobs

SECRET = "nk_" + secrets.token_urlsafe(32)
KEY = {"authorization": f"Bearer {SECRET}"}
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)")
DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
NO_JSON = {"/", "/docs", "/metrics", "/static"}
OWN_NAMES = {"/openapi.json"}
"""OpenAPI and JSON Schema say themselves how their fields are called."""

GETS = {
    "/healthz": ["/healthz"],
    "/readyz": ["/readyz"],
    "/v1/jobs": ["/v1/jobs", "/v1/jobs?state=failed"],
    "/v1/jobs/{job_id}": ["/v1/jobs/{failed}", "/v1/jobs/{running}", "/v1/jobs/{retried}"],
    "/v1/jobs/{job_id}/events": ["/v1/jobs/{failed}/events", "/v1/jobs/{running}/events"],
    "/v1/encoders": ["/v1/encoders"],
    "/v1/encoders/{ref}": ["/v1/encoders/told@1", "/v1/encoders/told@2", "/v1/encoders/plain"],
    "/v1/encoders/{ref}/report": ["/v1/encoders/told@1/report", "/v1/encoders/plain/report"],
    "/v1/encoders/{ref}/drift": ["/v1/encoders/told@1/drift", "/v1/encoders/plain/drift"],
    "/v1/encoders/{name}/aliases/{alias}": ["/v1/encoders/told/aliases/best"],
    "/v1/encoders/{name}/aliases/{alias}/history": ["/v1/encoders/told/aliases/best/history"],
    "/v1/encoders/{ref}/files": ["/v1/encoders/told@1/files"],
    "/v1/encoders/{ref}/files/{file}": [
        f"/v1/encoders/told@1/files/{name}" for name in ("config.json", "report.json")
    ],
    "/v1/generators": ["/v1/generators"],
    "/v1/generators/{ref}": ["/v1/generators/painter"],
    "/v1/generators/{ref}/report": ["/v1/generators/painter/report"],
    "/v1/generators/{ref}/files": ["/v1/generators/painter/files"],
    "/v1/generators/{ref}/files/{file}": ["/v1/generators/painter@1/files/config.json"],
    "/v1/datasets": ["/v1/datasets"],
    "/v1/datasets/{name}": [f"/v1/datasets/{name}" for name in ("digits", "stl10", "animals", "broken")],
    "/v1/datasets/{name}/images": ["/v1/datasets/digits/images?limit=2"],
    "/v1/keys": ["/v1/keys"],
    "/v1/audit": ["/v1/audit"],
}
"""Route -> what is asked of it."""


@pytest.fixture(scope="module")
def elsewhere(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server whose local time is thirteen hours ahead of UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "FAR-13")
        with start_server(tmp_path_factory.mktemp("told"), bootstrap_key=SECRET) as server:
            server.client.headers.update(KEY)
            yield server


@pytest.fixture(scope="module")
def ids(
    elsewhere: Any,
    add_encoder: Any,
    bundles: Any,
    pictures: Any,
    image_file: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """Something of every kind and in every state on the server; the ids of some of it."""
    directory = tmp_path_factory.mktemp("generator") / "files"
    source = add_encoder(elsewhere, "source")
    register_generator(elsewhere.store, "painter", directory, write_generator(directory, source))
    add_keys(elsewhere.client)
    add_datasets(elsewhere.client, pictures, image_file)
    add_encoders(elsewhere, add_encoder, full_report(bundles()[1]))
    return add_jobs(elsewhere)


def add_keys(client: Any) -> None:
    """One that has been used, one that ends some day, one that is revoked."""
    expires = {"expires_at": "2099-01-01T01:30:00+02:00"}
    made = [
        client.post("/v1/keys", json={"name": name, "scopes": ["read"], **more}).json()
        for name, more in (("used", {}), ("ends", expires), ("revoked", {}))
    ]
    assert made[1]["expires_at"] == "2098-12-31T23:30:00.000000Z"
    client.get("/v1/jobs", headers={"authorization": f"Bearer {made[0]['key']}"})
    assert client.delete(f"/v1/keys/{made[2]['id']}").status_code == 204


def add_datasets(client: Any, pictures: Any, image_file: Any) -> None:
    """Names of classes and members are the user's own; one dataset is skipped in part, another failed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for i, picture in enumerate(pictures):
            target.writestr(f"{'Big Cats' if i % 2 else 'Élan'}/{i}.png", image_file(picture))
        target.writestr("Big Cats/Not-An-Image.PNG", b"nothing")
    for name, data in (("animals", stream.getvalue()), ("broken", b"hello")):
        client.post(
            "/v1/datasets",
            data={"name": name, "license": "CC0"},
            files={"file": ("x.bin", data)},
            headers={"Prefer": "respond-async"},
        )
        while client.get(f"/v1/datasets/{name}").json()["state"] == "ingesting":
            time.sleep(0.05)


def full_report(facts: dict[str, Any]) -> dict[str, Any]:
    """A real one, of true draws of the law."""
    spec, resolved = FullSpec.model_validate(facts["spec"]), Resolved.model_validate(facts["resolved"])
    law = make_prior(spec)
    train, test = law.sample(400, seed=1), law.sample(300, seed=2)
    labels = [(x[:, 0] > 0).astype(np.int64) for x in (train, test)]
    report = evaluate(
        Embedded(train, labels[0], test, labels[1]),
        spec=spec,
        resolved=resolved,
        mi_nats=1.5,
        prior=law,
        noisy=noisy_prior(make_prior(spec), resolved),
        level="quick",
        provenance=provenance_of(spec, resolved, load_builtin("digits", root=None, image_size=8)),
    )
    return report.model_dump(mode="json")


def add_encoders(server: Any, add_encoder: Any, report: dict[str, Any]) -> None:
    """Two versions, the second one damaged, and an alias that has moved."""
    add_encoder(server, "plain")
    for prior in ("gaussian", "uniform"):
        encoder = add_encoder(server, "told", report=report, prior={"kind": prior})
    with server.store.begin() as tx:
        damage.note(tx, encoder.id, file="config.json", detail="config.json is gone")
    for version in (1, 2):
        moved = server.client.put("/v1/encoders/told/aliases/best", json={"version": version})
        assert moved.status_code == 200


def add_jobs(server: Any) -> dict[str, str]:
    """One that runs, one that failed and one that goes on from it; with events of every type."""

    def submit() -> str:
        noise = {"kind": "gaussian", "sigma": 0.05}  # far below what 359 images can certify: a warning
        spec = {"dataset": "digits", "encoder": {"kind": "conv", "dim": 64}, "noise": noise}
        job = server.client.post("/v1/jobs", json={"spec": spec, "encoder": "x"}).json()
        assert job["warnings"]
        return job["id"]

    found = {"running": submit(), "failed": submit()}
    for name, job_id in found.items():
        with server.store.begin() as tx:
            lease = jobs.take_lease(tx, job_id, owner="test", lease_s=600)
            jobs.add_events(tx, lease, told_by_a_worker())
            jobs.add_checkpoint(tx, lease, "sha256:" + "0" * 64, 7)
            if name == "failed":
                jobs.fail(tx, lease, "diverged", "The loss is no longer finite.")
    found["retried"] = server.client.post(f"/v1/jobs/{found['failed']}/retry").json()["id"]
    return found


def told_by_a_worker() -> list[tuple[str, dict[str, Any]]]:
    """What the training child says after a step."""
    progress = {"step": 7, "steps": 9, "epoch": 0, "epochs": 1, "images_per_s": 5.0, "eta_s": 1.0}
    metric = {"step": 7, "mi_nats": 1.0, "loss": 2.0, "capacity_nats": 3.0}
    warning = {"code": "loss_unstable", "detail": "It jumps."}
    return [
        ("progress", progress),
        ("metric", metric),
        ("warning", warning),
        ("log", {"message": "training"}),
    ]


def entries(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """(where, key, value) of everything in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield path, key, inner
            yield from entries(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from entries(inner, f"{path}/{i}")


def is_time(key: str) -> bool:
    return key == "at" or key.endswith("_at")


@pytest.fixture(scope="module")
def answers(elsewhere: Any, ids: dict[str, str]) -> dict[str, Any]:
    """Path -> the JSON value that it answers with."""
    found = {}
    for path in (path.format(**ids) for paths in GETS.values() for path in paths):
        answer = elsewhere.client.get(path, headers={"accept": "application/json"})
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["content-type"].startswith("application/json"), path
        found[path] = answer.json()
    return found


def test_every_route_that_answers_with_json_is_asked() -> None:
    routes = iter_route_contexts(create_app(Settings()).routes)
    gets = {route.path or "/" for route in routes if "GET" in (route.methods or {"GET"})}
    assert gets == GETS.keys() | NO_JSON | OWN_NAMES


def test_every_key_is_snake_case(answers: dict[str, Any]) -> None:
    """Names of files, classes and members are values everywhere, so that no map is an exception."""
    wrong = {
        f"{path}{where}: {key}"
        for path, value in answers.items()
        for where, key, _ in entries(value)
        if not SNAKE.fullmatch(key)
    }
    assert wrong == set()


def test_every_time_is_rfc_3339_in_utc(answers: dict[str, Any]) -> None:
    now, seen = datetime.now(UTC), set()
    for path, value in answers.items():
        for where, key, inner in entries(value):
            if not is_time(key):
                assert not (isinstance(inner, str) and DATE.fullmatch(inner)), (path, where, key, inner)
                continue
            if inner is None:
                continue
            assert RFC3339_UTC.fullmatch(inner), (path, where, key, inner)
            seen.add(key)
            if key != "expires_at":
                assert abs(datetime.fromisoformat(inner) - now) < timedelta(minutes=10), (path, where, key)
    assert seen == {
        *("at", "created_at", "started_at", "finished_at", "updated_at", "found_at"),
        *("expires_at", "revoked_at", "last_used_at"),
    }


def test_the_states_that_have_fields_of_their_own_are_among_the_answers(answers: dict[str, Any]) -> None:
    """Or the walk would find nothing to object to."""
    everything = [entry for value in answers.values() for entry in entries(value)]
    given = {key for _, key, inner in everything if isinstance(inner, dict | list) and inner}
    assert {
        *("failure", "warnings", "progress", "metrics", "resolved", "result", "skipped", "error", "splits"),
        *("degraded", "aliases", "certificate", "probes", "wall_s", "provenance", "detail", "scopes"),
    } <= given
    types = {inner for where, key, inner in everything if key == "type" and where.startswith("/items/")}
    assert types == {"state", "progress", "metric", "checkpoint", "log", "warning"}
