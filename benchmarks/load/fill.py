"""Many rows like those that the service writes, in one go: copies of a real one with new ids and moments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert, select, text, update

from service.store import Store, encoders, jobs
from service.store.ids import new_id
from service.store.tables import (
    AliasRow,
    EncoderFileRow,
    EncoderNameRow,
    EncoderRow,
    EventRow,
    JobRow,
)

BATCH = 2000
STEP = timedelta(milliseconds=7)
FILES = ("README.md", "config.json", "model.onnx", "model.safetensors", "report.html", "report.json")
REPORTS = Path(__file__).parent.parent / "results" / "mnist"
LONG_JOBS = 10
"""The jobs that have most of the events."""


def fill(store: Store, *, n_jobs: int, n_encoders: int, n_events: int) -> None:
    """Queued jobs and a hundredth of failed ones, older; encoders, half of few names, half of a name each; events."""
    template = _submitted(store)
    ids = _jobs(store, template, n_jobs)
    _events(store, ids[:LONG_JOBS], max(0, n_events - n_jobs))
    _encoders(store, template["created_at"], n_encoders)
    if store.engine.dialect.name == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))  # what autovacuum does within a minute


def _submitted(store: Store) -> dict[str, Any]:
    """The row of a job as submission writes it."""
    from nidim.capacity import resolve
    from nidim.spec import TrainSpec
    from service.inference import builtins

    facts = builtins.facts("digits")
    spec = TrainSpec.model_validate({"dataset": "digits"}).filled(facts)
    resolved, _ = resolve(spec, facts)
    with store.begin() as tx:
        job = jobs.create(
            tx,
            kind="train",
            spec=spec.model_dump(mode="json"),
            resolved=resolved.model_dump(mode="json"),
            warnings=[],
            encoder="template",
            priority="normal",
        )
        return dict(tx.execute(select(JobRow.__table__).where(JobRow.id == job.id)).one()._mapping)


def _jobs(store: Store, template: dict[str, Any], count: int) -> list[str]:
    failure = {"code": "poison", "message": "three attempts"}
    ended = {"state": "failed", "failure": failure, "finished_at": template["created_at"]}
    rows = [
        {
            **template,
            "id": new_id("job_"),
            "encoder": f"name-{number % 1000}",
            "created_at": template["created_at"] - STEP * number,
            "published_at": template["created_at"],
            "publish_count": 1,
            **(ended if number >= count else {"failure": None}),
        }
        for number in range(1, count + max(1, count // 100))
    ]
    _insert(store, JobRow.__table__, rows)
    states = [_event(row["id"], 1, "state", {"state": "queued", "attempt": 0}, row) for row in rows]
    _insert(store, EventRow.__table__, states)
    return [row["id"] for row in rows]


def _events(store: Store, ids: list[str], count: int) -> None:
    """Half of them in one job, the rest in the others."""
    for number, job_id in enumerate(ids):
        share = count // 2 if number == 0 else count // 2 // max(1, len(ids) - 1)
        moment = {"created_at": datetime.fromisoformat("2026-01-01T00:00:00+00:00")}
        rows = [_event(job_id, 2 + i, "progress", _progress(i, share), moment) for i in range(share)]
        _insert(store, EventRow.__table__, rows)
        with store.begin() as tx:
            tx.execute(update(JobRow).where(JobRow.id == job_id).values(last_event_id=1 + share))


def _progress(step: int, steps: int) -> dict[str, Any]:
    times = {"images_per_s": 1234.5, "eta_s": 77.0}
    return {"step": step, "steps": steps, "epoch": step // 100, "epochs": 100, "loss": 1.25, **times}


def _event(job_id: str, number: int, kind: str, data: Any, row: dict[str, Any]) -> dict[str, Any]:
    common = {"job_id": job_id, "id": number, "type": kind, "data": data}
    return {**common, "at": row["created_at"], "format_version": 1}


def _encoders(store: Store, newest: datetime, count: int) -> None:
    stored = json.loads((REPORTS / "gaussian-2-seed0.json").read_text())
    names = list(_names(count))
    last = dict(names)
    _insert(
        store,
        EncoderNameRow.__table__,
        [{"name": name, "last_version": version} for name, version in last.items()],
    )
    rows = [
        {
            "id": new_id("enc_"),
            "kind": "encoder",
            "name": name,
            "version": version,
            "dim": 2,
            "prior": {"kind": "gaussian", "dim": 2, "scale": 1.0},
            "spec": stored["spec"],
            "resolved": stored["resolved"],
            "report": stored["report"],
            "summary": encoders.summary(stored["report"]),
            "digest": "sha256:" + "0" * 64,
            "size_bytes": 123_456,
            "job_id": new_id("job_"),
            "created_at": newest - STEP * (count - number),
        }
        for number, (name, version) in enumerate(names)
    ]
    _insert(store, EncoderRow.__table__, rows)
    files = [
        {"encoder_id": row["id"], "name": file, "digest": f"sha256:{n:064x}", "size": 1000}
        for n, row in enumerate(rows)
        for file in FILES
    ]
    _insert(store, EncoderFileRow.__table__, files)
    aliases = [
        {"name": name, "alias": f"a-{version}", "version": version, "revision": 1, "updated_at": newest}
        for name, version in names
        if name == "few-0"
    ]
    _insert(store, AliasRow.__table__, aliases)


def _names(count: int) -> Iterator[tuple[str, int]]:
    """Five names take turns for half of the versions; the others have one version each. Every few-0 has an alias."""
    for number in range(count):
        if number % 2:
            yield f"many-{number}", 1
        else:
            yield f"few-{number // 2 % 5}", 1 + number // 10


def _insert(store: Store, table: Table | Any, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), BATCH):
        with store.begin() as tx:
            tx.execute(insert(table), rows[start : start + BATCH])
