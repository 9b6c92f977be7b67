"""What /metrics says is what happened: every value is caused here and read back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.store import counters, jobs

KIND = {"content-type": "application/x-npy"}
JOB = {"spec": {"dataset": "digits"}, "encoder": "x"}


class Scrape:
    """One answer of /metrics."""

    def __init__(self, client: httpx.Client) -> None:
        answer = client.get("/metrics")
        assert answer.status_code == 200, answer.text
        self.text = answer.text
        self.values = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.values[name, tuple(sorted(labels.items()))]


@pytest.fixture(scope="module")
def own(start_server: Any, add_encoder: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of this module's own, with ``gauss@1``; nobody works on its jobs, and there is no broker."""
    directory = tmp_path_factory.mktemp("metrics")
    with start_server(directory, decode_timeout_s=2.0, decode_processes=1) as server:
        add_encoder(server, "gauss")
        yield server


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_an_embedding_shows_in_its_figures(own: Any, npy: Any, pictures: Any, image_file: Any) -> None:
    before = Scrape(own.client)
    assert before("nidim_encoders_loaded") == 0
    url = "/v1/encoders/gauss/embed"
    assert own.client.post(url, content=npy(pictures[:5]), headers=KIND).status_code == 200
    files = [("images", ("x", image_file(pictures[0]))), ("images", ("y", b"no image"))]
    assert own.client.post(f"{url}?on_error=null", files=files).status_code == 200
    assert own.client.post(url, files=files).status_code == 422
    after = Scrape(own.client)

    def grown(name: str, **labels: str) -> float:
        return after(name, **labels) - before.values.get((name, tuple(sorted(labels.items()))), 0.0)

    route = {"method": "POST", "route": "/v1/encoders/{ref}/embed"}
    assert grown("nidim_requests_total", **route, status="200") == 2
    assert grown("nidim_requests_total", **route, status="422") == 1
    assert grown("nidim_request_seconds_count", **route) == 3
    assert (grown("nidim_images_total", result="ok"), grown("nidim_images_total", result="failed")) == (6, 1)
    assert grown("nidim_decode_failures_total", code="bad_image") == 2
    assert (grown("nidim_batch_images_count"), grown("nidim_batch_images_sum")) == (2, 6)
    assert grown("nidim_forward_seconds_count") == 2
    assert grown("nidim_queue_wait_seconds_count") == grown("nidim_decode_seconds_count") == 2
    assert after("nidim_encoders_loaded") == 1
    with own.store.session() as tx:
        row = jobs.list_(tx, state="succeeded").items[0]
    size = own.client.get(f"/v1/encoders/{row.result['id']}").json()["size_bytes"]
    assert after("nidim_encoders_loaded_bytes") == after("nidim_blob_bytes", kind="encoders") == size
    assert after("nidim_encoder_versions") == 1


def decoders_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(child) for child in children]
    return [pid for pid in found if b"inference.decoder" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_decoder_that_dies_is_counted(own: Any, image_file: Any, pictures: Any) -> None:
    before = Scrape(own.client)("nidim_decoder_restarts_total")
    (decoder,) = decoders_of(own.process.pid)
    os.kill(decoder, signal.SIGSTOP)
    answer = own.client.post("/v1/encoders/gauss/embed", files=[("images", ("x", image_file(pictures[0])))])
    assert answer.status_code in (200, 422), "whether a lost process is the image's fault is not asked here"
    assert Scrape(own.client)("nidim_decoder_restarts_total") == before + 1


def test_jobs_their_states_and_their_age(own: Any) -> None:
    before = Scrape(own.client)
    job = own.client.post("/v1/jobs", json=JOB).json()
    with own.store.begin() as tx:
        tx.connection().exec_driver_sql("UPDATE events SET at = at - 90000000 WHERE job_id = ?", (job["id"],))
    after = Scrape(own.client)
    assert after("nidim_jobs", state="queued") == before("nidim_jobs", state="queued") + 1
    assert 90 <= after("nidim_queue_age_seconds") < 600
    ready = own.client.get("/readyz")
    assert (ready.status_code, "jobs_unattended" in ready.json()["degraded"]) == (200, True)
    failures = "nidim_publish_failures_total"
    assert wait_for(lambda: Scrape(own.client)(failures) > before(failures)), "there is no broker"
    assert after("nidim_broker_up") == 0
    own.client.post(f"/v1/jobs/{job['id']}/cancel")
    final = Scrape(own.client)
    assert final("nidim_jobs", state="cancelled") == before("nidim_jobs", state="cancelled") + 1
    assert final("nidim_queue_age_seconds") == 0
    assert "jobs_unattended" not in own.client.get("/readyz").json()["degraded"]


def test_a_worker_that_falls_silent_is_a_lost_lease(own: Any) -> None:
    before = Scrape(own.client)
    job = own.client.post("/v1/jobs", json=JOB).json()
    with own.store.begin() as tx:
        assert jobs.take_lease(tx, job["id"], owner="gone", lease_s=60) is not None
    assert Scrape(own.client)("nidim_jobs", state="running") == 1
    with own.store.begin() as tx:
        tx.connection().exec_driver_sql("UPDATE jobs SET lease_until = 1 WHERE id = ?", (job["id"],))
    losses = "nidim_lease_losses_total"
    assert wait_for(lambda: Scrape(own.client)(losses) == before(losses) + 1)
    reaped = ("nidim_jobs_reaped_total", {"result": "requeued"})
    assert Scrape(own.client)(reaped[0], **reaped[1]) == before(reaped[0], **reaped[1]) + 1
    own.client.post(f"/v1/jobs/{job['id']}/cancel")


def test_what_workers_counted_is_the_same_in_every_server(own: Any, start_server: Any) -> None:
    counters.note(own.store, counters.MESSAGES_DROPPED, counters.FOREIGN)
    with start_server(own.settings.data_dir) as other:
        shown = [Scrape(server.client) for server in (own, other)]
    shared = (
        "nidim_jobs",
        "nidim_messages",
        "nidim_attempts",
        "nidim_lease_l",
        "nidim_datasets",
        "nidim_blob",
    )
    views = [{key: value for key, value in s.values.items() if key[0].startswith(shared)} for s in shown]
    assert views[0] == views[1]
    assert shown[0]("nidim_messages_dropped_total", reason="foreign") == 1
    assert len(views[0]) > 20


def test_an_open_stream_is_counted_until_it_closes(own: Any) -> None:
    job = own.client.post("/v1/jobs", json=JOB).json()
    with httpx.stream("GET", f"{own.url}/v1/jobs/{job['id']}/events", timeout=60) as stream:
        lines = stream.iter_lines()
        next(lines)
        assert Scrape(own.client)("nidim_event_streams") == 1
    assert wait_for(lambda: Scrape(own.client)("nidim_event_streams") == 0)
    own.client.post(f"/v1/jobs/{job['id']}/cancel")


def test_an_upload_is_a_dataset(own: Any, npy: Any) -> None:
    before = Scrape(own.client)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    form = {"name": "metered"}
    answer = own.client.post("/v1/datasets", data=form, files={"file": ("x.npy", npy(images))})
    assert answer.status_code == 201, answer.text
    after = Scrape(own.client)
    assert after("nidim_datasets", state="ready") == before("nidim_datasets", state="ready") + 1
    assert after("nidim_blob_bytes", kind="datasets") > before("nidim_blob_bytes", kind="datasets")
    assert after("nidim_ingestions") == 0


def test_labels_are_bounded_whatever_is_asked(own: Any) -> None:
    def series() -> set[Any]:
        return {key for key in Scrape(own.client).values if key[0].startswith("nidim_requests_total")}

    own.client.request("PROPFIND", "/v1/jobs/a")
    own.client.get("/no/such/page/0")
    own.client.get("/v1/jobs/job_0")
    own.client.get("/v1/encoders/name-0")
    before = series()
    for i in range(1, 30):
        own.client.get(f"/no/such/page/{i}")
        own.client.get(f"/v1/jobs/job_{i}")
        own.client.get(f"/v1/encoders/name-{i}", headers={"x-request-id": f"id-{i}"})
        own.client.request(("LOCK", "REPORT", "MKCOL", "UNLOCK", "COPY")[i % 5], "/v1/jobs/a")
    assert series() == before
    assert all(dict(labels)["method"] in ("GET", "POST", "DELETE", "other") for _, labels in before)


def test_the_process_and_the_build(own: Any) -> None:
    found = Scrape(own.client)
    from nidim import __version__

    assert 'nidim_build_info{python="3.' in found.text
    assert f'version="{__version__}"' in found.text
    rss = own.rss_mb() * 2**20
    assert 0.5 < found("process_resident_memory_bytes") / rss < 2
    assert time.time() - 3600 < found("process_start_time_seconds") <= time.time() + 1
    assert found("nidim_data_free_bytes") > 0


def test_metrics_need_a_key_like_everything_else(start_server: Any, tmp_path: Path) -> None:
    secret = "nk_" + "s" * 40
    with start_server(tmp_path, bootstrap_key=secret) as server:
        assert server.client.get("/metrics").status_code == 401
        answer = server.client.get("/metrics", headers={"authorization": f"Bearer {secret}"})
        assert answer.status_code == 200
        assert secret not in answer.text
