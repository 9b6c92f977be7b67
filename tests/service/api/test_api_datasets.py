"""Uploads over HTTP: archives, arrays, limits, names, waiting and not waiting."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from service.store import jobs

URL = "/v1/datasets"


@pytest.fixture(scope="module")
def archive(pictures: Any, image_file: Callable[..., bytes]) -> bytes:
    """Forty images in two class folders, and one member that is none."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for i, picture in enumerate(pictures):
            target.writestr(f"{'even' if i % 2 == 0 else 'odd'}/{i}.png", image_file(picture))
        target.writestr("odd/notes.png", b"not an image")
    return stream.getvalue()


def upload(
    api: httpx.Client, name: str, data: bytes, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    return api.post(URL, data={"name": name, **fields}, files={"file": ("x.bin", data)}, headers=headers)


def settled(api: httpx.Client, name: str) -> dict[str, Any]:
    while (dataset := api.get(f"{URL}/{name}").json())["state"] == "ingesting":
        time.sleep(0.05)
    return dataset


def test_built_ins_are_listed(api: httpx.Client) -> None:
    items = {item["name"]: item for item in api.get(URL, params={"limit": 1000}).json()["items"]}
    names = {"digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "stl10"}
    assert names <= items.keys()
    digits = items["digits"]
    assert (digits["kind"], digits["available"], digits["state"]) == ("builtin", True, "ready")
    assert digits["image"] == {"height": 8, "width": 8, "channels": 1}
    assert digits["splits"] == {"train": 1438, "test": 359}
    assert not items["stl10"]["available"]
    assert api.get(f"{URL}/digits").json() == digits


def test_the_list_has_pages_over_both_kinds(api: httpx.Client, archive: bytes) -> None:
    for name in ("page-a", "page-b"):
        assert upload(api, name, archive).status_code == 201
    whole = [item["name"] for item in api.get(URL, params={"limit": 1000}).json()["items"]]
    found: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = api.get(URL, params=params).json()
        assert len(page["items"]) <= 2
        found += [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert found == whole
    assert found.index("page-b") < found.index("page-a") < found.index("digits")


def test_an_archive_becomes_a_dataset(server: Any, api: httpx.Client, archive: bytes) -> None:
    answer = upload(api, "pairs", archive, license="CC0")
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{URL}/pairs"
    dataset = answer.json()
    assert (dataset["kind"], dataset["available"], dataset["state"]) == ("uploaded", True, "ready")
    assert dataset["items"] == 40
    assert dataset["classes"] == ["even", "odd"]
    assert dataset["splits"] == {"train": 36, "test": 4}
    assert dataset["license"] == "CC0"
    assert dataset["digest"].startswith("sha256:")
    assert dataset["skipped"]["count"] == 1
    assert dataset["skipped"]["first"][0]["member"] == "odd/notes.png"
    assert api.get(f"{URL}/pairs").json() == dataset
    assert not list((server.settings.data_dir / "scratch").rglob("upload-*"))
    job = api.post("/v1/jobs", json={"spec": {"dataset": "pairs"}, "encoder": "pairs"})
    assert job.status_code == 202
    assert job.json()["resolved"]["n_train"] == 36


def test_arrays_are_datasets_too(api: httpx.Client, pictures: Any, npy: Any) -> None:
    assert upload(api, "array", npy(pictures)).json()["items"] == 40
    stream = io.BytesIO()
    np.savez(stream, images=pictures, labels=np.arange(40) % 3, allow_pickle=False)
    assert upload(api, "arrays", stream.getvalue()).status_code == 201


def test_who_prefers_not_to_wait_gets_202(api: httpx.Client, archive: bytes) -> None:
    answer = upload(api, "later", archive, {"Prefer": "respond-async, wait=10"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["state"] == "ingesting"
    assert not answer.json()["available"]
    dataset = settled(api, "later")
    assert (dataset["state"], dataset["items"]) == ("ready", 40)


def test_what_holds_no_image_is_refused_and_leaves_nothing(
    api: httpx.Client, archive: bytes, is_problem: Any
) -> None:
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    for data in (b"", b"hello", b"PK\x03\x04", empty.getvalue(), b"\x80\x04K\x01."):
        answer = upload(api, "bad", data)
        is_problem(answer, 422, answer.json()["code"], "/file")
        is_problem(api.get(f"{URL}/bad"), 404, "not_found")
    assert upload(api, "bad-later", b"hello", {"Prefer": "respond-async"}).status_code == 202
    failed = settled(api, "bad-later")
    assert failed["state"] == "failed"
    assert failed["error"]["code"]
    job = api.post("/v1/jobs", json={"spec": {"dataset": "bad-later"}, "encoder": "x"})
    is_problem(job, 409, "dataset_unavailable")
    assert "upload it again" in job.json()["detail"]
    assert upload(api, "bad-later", archive).status_code == 201, "the name of one that failed is free"
    ready = api.get(f"{URL}/bad-later").json()
    assert (ready["state"], ready["items"], ready.get("error")) == ("ready", 40, None)
    is_problem(upload(api, "bad-later", archive), 409, "name_taken")
    assert api.delete(f"{URL}/bad-later").status_code == 204


def test_names_are_taken_once(api: httpx.Client, archive: bytes, is_problem: Any) -> None:
    assert upload(api, "taken", archive).status_code == 201
    is_problem(upload(api, "taken", archive), 409, "name_taken")
    is_problem(upload(api, "mnist", archive), 409, "name_taken")
    for name in ("", "Big", "../x", "enc_x", "a/b", "x" * 64, "x\n", "."):
        is_problem(upload(api, name, archive), 422, "invalid_value", "/name")


def test_bad_forms_are_refused(api: httpx.Client, archive: bytes, is_problem: Any) -> None:
    is_problem(api.post(URL, files={"file": archive}), 422, "invalid_value", "/name")
    no_file = api.post(URL, files={"name": (None, "x")})
    is_problem(no_file, 422, "invalid_value", "/file")
    stranger = upload(api, "x", archive, **{"colour/ink": "red"})
    is_problem(stranger, 422, "invalid_value", "/colour~1ink")
    assert "there are name, license, file." in stranger.json()["errors"][0]["detail"]
    is_problem(upload(api, "x", archive, license="x" * 201), 422, "invalid_value", "/license")
    is_problem(upload(api, "x", archive, license="a\0b"), 422, "invalid_value", "/license")
    is_problem(upload(api, "x", archive, license="x" * 5000), 413, "too_large")
    twice = api.post(URL, files=[("name", (None, "x")), ("file", archive), ("file", archive)])
    is_problem(twice, 422, "invalid_value")
    is_problem(api.post(URL, json={"name": "x"}), 415, "unsupported_media_type")
    cut = {"content-type": "multipart/form-data; boundary=b"}
    half = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx'
    is_problem(api.post(URL, content=half, headers=cut), 422, "malformed_body")
    nameless = b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n"
    is_problem(api.post(URL, content=nameless, headers=cut), 422, "malformed_body")


def test_the_same_key_uploads_once(api: httpx.Client, archive: bytes, is_problem: Any) -> None:
    key = {"Idempotency-Key": "upload-1"}
    first = upload(api, "once", archive, key)
    again = upload(api, "once", archive, key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    is_problem(upload(api, "once", archive + b"\0", key), 422, "idempotency_mismatch")
    is_problem(upload(api, "other", archive, key), 422, "idempotency_mismatch")
    later = {"Idempotency-Key": "upload-3", "Prefer": "respond-async"}
    answers = [upload(api, "once-later", archive, later) for _ in range(2)]
    for name in ("location", "preference-applied"):
        assert answers[0].headers[name] == answers[1].headers[name]
    retried = {"Idempotency-Key": "upload-2"}
    assert upload(api, "again", b"hello", retried).status_code == 422
    assert upload(api, "again", archive, retried).status_code == 201


@pytest.fixture
def no_free_turn(server: Any, api: httpx.Client, image_file: Callable[..., bytes]) -> Iterator[None]:
    """Every ingestion at work is busy for as long as the test takes; further uploads wait."""
    names = [f"busy-{i}" for i in range(server.settings.max_ingestions)]
    for name in names:
        assert upload(api, name, slow_archive(image_file), {"Prefer": "respond-async"}).status_code == 202
    yield
    for name in names:
        api.delete(f"{URL}/{name}")


def slow_archive(image_file: Callable[..., bytes]) -> bytes:
    """A small file with minutes of work in it: one large black image under many names."""
    large = image_file(np.zeros((7000, 7000), np.uint8), compress_level=9)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for i in range(400):
            target.writestr(f"{i}.png", large)
    return stream.getvalue()


def test_a_key_whose_first_request_is_in_flight_is_a_conflict(
    api: httpx.Client, archive: bytes, no_free_turn: None, is_problem: Any
) -> None:
    key = {"Idempotency-Key": "in-flight"}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(upload, api, "in-flight", archive, key)
        while not first.done() and api.get(f"{URL}/in-flight").status_code == 404:
            time.sleep(0.01)
        for _ in range(2):
            conflict = upload(api, "in-flight", archive, key)
            is_problem(conflict, 409, "idempotency_in_flight")
            assert int(conflict.headers["retry-after"]) >= 1
        is_problem(upload(api, "in-flight", archive + b"\0", key), 422, "idempotency_mismatch")
        is_problem(upload(api, "in-flight", archive), 409, "name_taken")
        assert not first.done()
        assert api.delete(f"{URL}/busy-0").status_code == 204
        made = first.result()
    assert made.status_code == 201
    again = upload(api, "in-flight", archive, key)
    assert (again.status_code, again.content) == (201, made.content)
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("detached", [False, True], ids=["its client waits", "nobody waits"])
def test_what_waits_for_its_turn_is_deleted_at_once(
    api: httpx.Client, archive: bytes, no_free_turn: None, is_problem: Any, detached: bool
) -> None:
    name = f"unread-{detached}".lower()
    with ThreadPoolExecutor(1) as pool:
        headers = {"Prefer": "respond-async"} if detached else {}
        sent = pool.submit(upload, api, name, archive, headers)
        while (found := api.get(f"{URL}/{name}")).status_code == 404:
            assert not sent.done() or detached
            time.sleep(0.01)
        assert found.json()["state"] == "ingesting"
        asked = time.monotonic()
        assert api.delete(f"{URL}/{name}").status_code == 204
        assert time.monotonic() - asked < 10, "the others are at work for minutes"
        if detached:
            assert sent.result().status_code == 202
        else:
            is_problem(sent.result(), 409, "ingest_cancelled")
    is_problem(api.get(f"{URL}/{name}"), 404, "not_found")
    entries = [e for e in api.get("/v1/audit").json()["items"] if e["target"] == name]
    assert (entries[0]["action"], entries[0]["detail"]) == ("dataset.delete", None)


def test_a_dataset_stays_while_a_job_needs_it(
    server: Any, api: httpx.Client, archive: bytes, is_problem: Any
) -> None:
    upload(api, "needed", archive)
    job_id = api.post("/v1/jobs", json={"spec": {"dataset": "needed"}, "encoder": "x"}).json()["id"]
    is_problem(api.delete(f"{URL}/needed"), 409, "dataset_in_use")
    api.post(f"/v1/jobs/{job_id}/cancel")
    assert api.delete(f"{URL}/needed").status_code == 204
    is_problem(api.get(f"{URL}/needed"), 404, "not_found")
    is_problem(api.delete(f"{URL}/needed"), 404, "not_found")
    is_problem(api.delete(f"{URL}/digits"), 403, "forbidden")
    with server.store.session() as tx:
        assert jobs.get(tx, job_id) is not None
    is_problem(api.post(f"/v1/jobs/{job_id}/retry"), 409, "dataset_unavailable")


def test_a_retry_goes_on_with_no_other_images_of_the_same_name(
    api: httpx.Client, archive: bytes, is_problem: Any
) -> None:
    upload(api, "replaced", archive)
    spec = {"spec": {"dataset": "replaced"}, "encoder": "x"}
    job_id = api.post("/v1/jobs", json=spec).json()["id"]
    api.post(f"/v1/jobs/{job_id}/cancel")
    again = api.post(f"/v1/jobs/{job_id}/retry")
    assert again.status_code == 202
    api.post(f"/v1/jobs/{again.json()['id']}/cancel")
    assert api.delete(f"{URL}/replaced").status_code == 204
    upload(api, "replaced", archive)
    for of in (job_id, again.json()["id"]):
        answer = api.post(f"/v1/jobs/{of}/retry")
        is_problem(answer, 409, "dataset_unavailable")
        assert "uploaded anew" in answer.json()["detail"]
    newer = api.post("/v1/jobs", json=spec).json()["id"]
    api.post(f"/v1/jobs/{newer}/cancel")
    assert api.post(f"/v1/jobs/{newer}/retry").status_code == 202


def test_limits_hold_while_the_file_arrives(
    start_server: Any, tmp_path: Any, archive: bytes, is_problem: Any
) -> None:
    with start_server(tmp_path, max_upload_bytes=100_000, disk_quota_bytes=150_000) as small:
        is_problem(upload(small.client, "big", b"\0" * 100_001), 413, "too_large")

        def endless() -> Any:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            for _ in range(400):
                yield b"\0" * 10_000

        kind = {"content-type": "multipart/form-data; boundary=b"}
        is_problem(small.client.post(URL, content=endless(), headers=kind), 413, "too_large")
        assert not list((tmp_path / "scratch").rglob("upload-*"))
        assert upload(small.client, "fits", archive).status_code == 201
        while (
            answer := upload(small.client, f"more-{time.monotonic_ns()}", noise_archive())
        ).status_code == 201:
            continue
        is_problem(answer, 429, "quota_exceeded")
        assert answer.headers["retry-after"]


def noise_archive() -> bytes:
    """An array of some 60 kB that differs each time."""
    stream = io.BytesIO()
    np.save(
        stream, np.random.default_rng().integers(0, 256, (60, 32, 32), dtype=np.uint8), allow_pickle=False
    )
    return stream.getvalue()


@pytest.mark.slow
def test_a_large_upload_is_never_held_in_memory(start_server: Any, tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "large.npy"
    np.save(path, rng.integers(0, 256, (60_000, 32, 32), dtype=np.uint8), allow_pickle=False)
    with start_server(tmp_path / "data") as fresh:
        before = fresh.rss_mb(peak=True)
        with path.open("rb") as file:
            answer = fresh.client.post(URL, data={"name": "large"}, files={"file": file}, timeout=300)
        assert answer.status_code == 201, answer.text
        assert answer.json()["items"] == 60_000
        assert fresh.rss_mb(peak=True) < before + 40
        assert fresh.rss_mb(peak=True) < 400


def test_a_training_that_shrinks_photographs_by_default_is_warned(
    api: httpx.Client, npy: Callable[..., bytes]
) -> None:
    assert upload(api, "photographs", npy(np.zeros((20, 80, 70, 3), np.uint8))).status_code == 201
    for size, told in ((None, ["images_shrunk"]), (64, [])):
        spec = {"dataset": "photographs", "image_size": size}
        warnings = api.post("/v1/jobs/check", json={"spec": spec}).json()["warnings"]
        assert [each["code"] for each in warnings if each["code"] == "images_shrunk"] == told
