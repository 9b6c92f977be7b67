"""Jobs over HTTP, with a broker that is down throughout."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import httpx
import orjson
import pytest

from nidim.spec import parts
from service.store import jobs

ENCODERS = ", ".join(repr(cls().kind) for cls in get_args(get_args(parts.Encoder)[0]))
SPEC = {"dataset": "digits", "encoder": {"kind": "conv", "dim": 2}}


def submit(api: httpx.Client, key: str | None = None, **changes: Any) -> httpx.Response:
    body = {"spec": SPEC, "encoder": "small", **changes}
    return api.post("/v1/jobs", json=body, headers={"Idempotency-Key": key} if key else {})


def lease(server: Any, job_id: str) -> jobs.Lease:
    with server.store.begin() as tx:
        taken = jobs.take_lease(tx, job_id, owner="test", lease_s=60)
    assert taken is not None
    return taken


def test_epochs_of_both_stages_are_to_be_done(api: httpx.Client) -> None:
    method = {"kind": "infomax", "neighbors": 15, "first_epochs": 3}
    job = submit(api, spec={**SPEC, "epochs": 2, "method": method}).json()
    assert job["progress"]["epochs"] == 5
    assert job["progress"]["steps"] == 5 * job["resolved"]["steps_per_epoch"]


def test_a_job_is_accepted_at_once_and_complete(api: httpx.Client) -> None:
    answer = submit(api)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["spec"]["encoder"]["kind"] == "conv"
    assert job["spec"]["noise"]["kind"] == "gaussian"
    assert None not in (job["spec"]["epochs"], job["spec"]["batch_size"], job["spec"]["optimizer"])
    assert isinstance(job["resolved"]["sigma"], float)
    assert job["metrics"]["capacity_nats"] == job["resolved"]["capacity_nats"]
    assert job["progress"]["step"] == 0
    assert job["progress"]["epochs"] == job["spec"]["epochs"]
    assert {"result", "failure", "retry_of", "started_at", "finished_at"} <= {
        k for k, v in job.items() if v is None
    }
    assert job["created_at"].endswith("Z")
    assert api.get(f"/v1/jobs/{job['id']}").json() == job


def test_physics_comes_back_as_warnings(api: httpx.Client) -> None:
    spec = {**SPEC, "encoder": {"kind": "conv", "dim": 64}, "noise": {"kind": "gaussian", "sigma": 0.05}}
    warnings = submit(api, spec=spec).json()["warnings"]
    assert "certificate_out_of_reach" in [warning["code"] for warning in warnings]


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({}, "/spec/dataset"),
        ({"dataset": "unknown"}, "/spec/dataset"),
        ({"dataset": "../etc"}, "/spec/dataset"),
        ({"dataset": "digits\n"}, "/spec/dataset"),
        ({**SPEC, "encoder": {"kind": "conv", "dim": 0}}, "/spec/encoder/dim"),
        ({**SPEC, "encoder": {"kind": "vgg"}}, "/spec/encoder/kind"),
        ({**SPEC, "encoder": {"dim": 2}}, "/spec/encoder/kind"),
        ({**SPEC, "noise": {"kind": "gaussian", "sigma": 0}}, "/spec/noise/sigma"),
        ({**SPEC, "noise": {"kind": "gaussian", "sigma": "much"}}, "/spec/noise/sigma"),
        ({**SPEC, "noise": {"kind": "none", "sigma": 1}}, "/spec/noise/sigma"),
        ({**SPEC, "colour": 1}, "/spec/colour"),
        ({**SPEC, "epochs": 10**9}, "/spec/epochs"),
        ({**SPEC, "method": {"kind": "simclr"}, "critic": {"kind": "bilinear"}}, "/spec/critic"),
        (
            {**SPEC, "noise": {"kind": "uniform", "epsilon": 0.1}, "prior": {"kind": "gaussian"}},
            "/spec/noise",
        ),
        ({**SPEC, "normalization": {"kind": "sigmoid"}}, "/spec/normalization"),
        ({**SPEC, "kind": "sculptor"}, "/spec/kind"),
        ("text", "/spec"),
    ],
)
def test_a_bad_spec_is_refused_with_its_place(
    api: httpx.Client, spec: Any, pointer: str, is_problem: Any
) -> None:
    is_problem(submit(api, spec=spec), 422, "invalid_value", pointer)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({**SPEC, "epoch": 3}, "; did you mean epochs?"),
        ({**SPEC, "colour": 3}, "; there are format_version, kind, dataset,"),
        ({**SPEC, "encoder": {"kind": "conv", "dims": 3}}, "; did you mean dim?"),
        ({"kind": "generator", "source": "x", "sourc": "y"}, "; did you mean source?"),
        (
            {**SPEC, "noise": {"kind": "none", "sigma": 1}},
            "; there are kind, certificate_sigma, certificate_epsilon.",
        ),
    ],
)
def test_a_field_that_is_none_is_told_in_the_words_of_the_command_line(
    api: httpx.Client, spec: Any, words: str
) -> None:
    (error,) = submit(api, spec=spec).json()["errors"]
    assert error["detail"].startswith(f"there is no such field{words}")


def test_a_field_beside_the_spec_that_is_none_is_told_too(api: httpx.Client) -> None:
    (error,) = submit(api, prioritys="low").json()["errors"]
    assert error == {
        "pointer": "/prioritys",
        "detail": "there is no such field; did you mean priority?",
    }


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({**SPEC, "encoder": {"dim": 2}}, "Field required"),
        ({**SPEC, "encoder": {"kind": "vgg"}}, f"'vgg' is none of {ENCODERS}"),
        ({**SPEC, "kind": "sculptor"}, "'sculptor' is none of 'train', 'generator'"),
        ({**SPEC, "kind": 5}, "'5' is none of 'train', 'generator'"),
    ],
)
def test_a_kind_that_is_none_is_told_which_there_are(api: httpx.Client, spec: Any, words: str) -> None:
    assert [error["detail"] for error in submit(api, spec=spec).json()["errors"]] == [words]


def test_a_name_is_refused_in_words_of_its_own(api: httpx.Client) -> None:
    assert "Value error" not in submit(api, encoder="enc_x").text


@pytest.mark.parametrize(
    "name",
    ["", "Big", "-x", "enc_x", "gen_x", "job_x", "x" * 64, "a/b", "a\n", "é", "..", "a b", "a@1", "a:b"],
)
def test_bad_names_are_refused(api: httpx.Client, name: str, is_problem: Any) -> None:
    is_problem(submit(api, encoder=name), 422, "invalid_value", "/encoder")


def test_bad_bodies_are_refused(api: httpx.Client, is_problem: Any) -> None:
    def post(content: bytes, kind: str = "application/json") -> httpx.Response:
        return api.post("/v1/jobs", content=content, headers={"content-type": kind})

    is_problem(post(b"{"), 422, "malformed_body")
    is_problem(post(b"\xff"), 422, "malformed_body")
    is_problem(post(b'{"spec": "\\ud800"}'), 422, "malformed_body")
    is_problem(post(b"[" * 100_000), 422, "malformed_body")
    is_problem(post(b"null"), 422, "invalid_value", "")
    is_problem(post(b"{}", "text/plain"), 415, "unsupported_media_type")
    is_problem(post(b"a=1", "application/x-www-form-urlencoded"), 415, "unsupported_media_type")
    is_problem(api.post("/v1/jobs"), 422, "malformed_body")
    is_problem(post(b" " * (2**20 + 1)), 413, "too_large")
    is_problem(submit(api, priority="urgent"), 422, "invalid_value", "/priority")
    zipped = {"content-type": "application/json", "content-encoding": "gzip"}
    is_problem(api.post("/v1/jobs", content=b"{}", headers=zipped), 415, "unsupported_media_type")


def test_a_training_that_no_memory_holds_is_refused(api: httpx.Client, is_problem: Any) -> None:
    pairs = {"dataset": "digits", "batch_size": 1024, "critic": {"kind": "concat", "hidden": 8192}}
    answer = submit(api, spec=pairs)
    is_problem(answer, 422, "invalid_value", "/spec/critic")
    assert "GiB of memory" in answer.text
    assert "separable" in answer.text
    assert submit(api, spec={**pairs, "batch_size": 64}).status_code == 202


def test_a_built_in_whose_files_are_absent_is_unavailable(api: httpx.Client, is_problem: Any) -> None:
    is_problem(submit(api, spec={"dataset": "stl10"}), 409, "dataset_unavailable")


def test_jobs_are_listed_newest_first_in_pages(api: httpx.Client, is_problem: Any) -> None:
    made = [submit(api).json()["id"] for _ in range(3)]
    first = api.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in first["items"]] == made[:0:-1]
    second = api.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert second["items"][0]["id"] == made[0]
    assert {job["state"] for job in api.get("/v1/jobs", params={"state": "queued"}).json()["items"]} == {
        "queued"
    }
    is_problem(api.get("/v1/jobs", params={"cursor": "x"}), 422, "bad_cursor")
    for params in ({"limit": 0}, {"limit": 10_000}, {"limit": "x"}, {"state": "lost"}):
        is_problem(api.get("/v1/jobs", params=params), 422, "invalid_value")


def test_an_unknown_job(api: httpx.Client, is_problem: Any) -> None:
    for job_id in ("job_00000000000000000000000000", "x", "..%2f", "%00"):
        is_problem(api.get(f"/v1/jobs/{job_id}"), 404, "not_found")
        is_problem(api.post(f"/v1/jobs/{job_id}/cancel"), 404, "not_found")
        is_problem(api.post(f"/v1/jobs/{job_id}/retry"), 404, "not_found")
        is_problem(api.get(f"/v1/jobs/{job_id}/events"), 404, "not_found")


def test_cancel_and_retry(server: Any, api: httpx.Client, is_problem: Any) -> None:
    job_id = submit(api).json()["id"]
    is_problem(api.post(f"/v1/jobs/{job_id}/retry"), 409, "state_conflict")
    for _ in range(2):
        answer = api.post(f"/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    again = api.post(f"/v1/jobs/{job_id}/retry")
    assert again.status_code == 202
    assert again.json()["retry_of"] == job_id
    assert again.headers["location"].endswith(again.json()["id"])
    taken = lease(server, again.json()["id"])
    with server.store.begin() as tx:
        jobs.fail(tx, taken, "diverged", "The loss is no longer finite.")
    failed = api.get(f"/v1/jobs/{again.json()['id']}").json()
    assert failed["failure"] == {"code": "diverged", "message": "The loss is no longer finite."}
    is_problem(api.post(f"/v1/jobs/{again.json()['id']}/cancel"), 409, "state_conflict")


def test_the_same_key_gives_the_same_job(api: httpx.Client, is_problem: Any) -> None:
    first, again = submit(api, "k1"), submit(api, "k1")
    assert first.content == again.content
    assert again.status_code == 202
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    is_problem(submit(api, "k1", encoder="other"), 422, "idempotency_mismatch")
    assert submit(api, "k2").json()["id"] != first.json()["id"]
    is_problem(submit(api, "x" * 256), 422, "invalid_value")
    bad = submit(api, "k3", spec={})
    assert bad.status_code == 422
    assert submit(api, "k3").status_code == 202


def test_the_same_key_retries_once(api: httpx.Client, is_problem: Any) -> None:
    job_id = submit(api).json()["id"]

    def retry(of: str, key: str) -> httpx.Response:
        return api.post(f"/v1/jobs/{of}/retry", headers={"Idempotency-Key": key})

    is_problem(retry(job_id, "again"), 409, "state_conflict")  # a refusal does not use the key up
    api.post(f"/v1/jobs/{job_id}/cancel")
    first, replayed = retry(job_id, "again"), retry(job_id, "again")
    assert (first.status_code, replayed.status_code) == (202, 202)
    assert "idempotency-replayed" not in first.headers
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.content == first.content
    assert replayed.headers["location"] == first.headers["location"]
    jobs_listed = api.get("/v1/jobs", params={"limit": 1000}).json()["items"]
    assert [job["id"] for job in jobs_listed if job["retry_of"] == job_id] == [first.json()["id"]]
    assert retry(job_id, "another").json()["id"] != first.json()["id"]


def test_the_same_key_at_the_same_time_makes_one_job(api: httpx.Client, is_problem: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(api, "race"), range(8)))
    made = [answer for answer in answers if answer.status_code == 202]
    assert len({answer.json()["id"] for answer in made}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in made].count(None) == 1
    for answer in answers:
        if answer not in made:
            is_problem(answer, 409, "idempotency_in_flight")


def events_of(api: httpx.Client, job_id: str, **headers: str) -> list[dict[str, Any]]:
    """The events of a stream that ends by itself."""
    found: list[dict[str, Any]] = []
    with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        block: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                block[name] = value
            elif "data" in block:
                event = orjson.loads(block["data"])
                assert block["id"] == str(event["id"])
                assert block["event"] == event["type"]
                found.append(event)
                block = {}
    return found


def test_events_stream_until_the_end_and_resume_without_loss(server: Any, api: httpx.Client) -> None:
    job_id = submit(api).json()["id"]

    def work() -> None:
        taken = lease(server, job_id)
        for step in range(5):
            with server.store.begin() as tx:
                jobs.add_events(tx, taken, [("progress", {"step": step}), ("log", {"text": "a\nb"})])
            time.sleep(0.05)
        with server.store.begin() as tx:
            jobs.fail(tx, taken, "x", "y")

    worker = threading.Thread(target=work)
    worker.start()
    streamed = events_of(api, job_id)
    worker.join()
    assert [event["id"] for event in streamed] == sorted({event["id"] for event in streamed})
    assert streamed[-1]["type"] == "state"
    assert streamed[-1]["data"]["state"] == "failed"
    assert sum(event["type"] == "progress" for event in streamed) == 5
    listed = api.get(f"/v1/jobs/{job_id}/events", headers={"accept": "application/json"}).json()["items"]
    assert listed == streamed
    middle = streamed[3]["id"]
    assert events_of(api, job_id, **{"Last-Event-ID": str(middle)}) == streamed[4:]
    params = {"after": middle, "limit": 2}
    page = api.get(f"/v1/jobs/{job_id}/events", headers={"accept": "application/json"}, params=params).json()
    assert page["items"] == streamed[4:6]
    assert page["next_cursor"] == str(streamed[5]["id"])
    assert events_of(api, job_id, **{"Last-Event-ID": str(streamed[-1]["id"])}) == []
    params = {"limit": len(streamed)}
    whole = api.get(f"/v1/jobs/{job_id}/events", headers={"accept": "application/json"}, params=params).json()
    assert whole == {"items": streamed, "next_cursor": None}
    paged, params = [], {"limit": 3}
    while True:
        answer = api.get(f"/v1/jobs/{job_id}/events", headers={"accept": "application/json"}, params=params)
        paged += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            break
        params["cursor"] = answer.json()["next_cursor"]
    assert paged == streamed


def test_bad_wishes_about_events(api: httpx.Client, is_problem: Any) -> None:
    url = f"/v1/jobs/{submit(api).json()['id']}/events"
    is_problem(api.get(url, headers={"accept": "text/html"}), 406, "not_acceptable")
    is_problem(api.get(url, headers={"Last-Event-ID": "soon"}), 422, "invalid_value")
    for cursor in ("", "soon", "-1", "9" * 100, "²"):
        answer = api.get(url, params={"cursor": cursor}, headers={"accept": "application/json"})
        is_problem(answer, 422, "bad_cursor")
    is_problem(
        api.get(url, params={"after": -1}, headers={"accept": "application/json"}), 422, "invalid_value"
    )
