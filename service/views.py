"""Rows of the store as the API shows them."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
from starlette.responses import Response

from service.refusals import EncoderDamaged
from service.store import Page, rfc3339
from service.store.audit import Entry
from service.store.damage import Damage
from service.store.datasets import Dataset
from service.store.encoders import Encoder, Listed
from service.store.encoders import aliases as alias_store
from service.store.events import Event
from service.store.jobs import Job
from service.store.jobs.brief import brief
from service.store.keys import Key

Json = dict[str, Any]


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """``value`` as JSON."""
    data = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(data, status, headers=headers, media_type="application/json")


def page(items: list[Json], found: Page[Any]) -> Response:
    """One page of a list."""
    return answer({"items": items, "next_cursor": found.next_cursor})


def job(row: Job, *, whole: bool = False) -> Json:
    """Job of API.md; ``whole``: with the points of a prior that is given by points."""
    shown = (
        *("id", "kind", "state", "attempt", "retry_of", "spec", "resolved", "priority"),
        *("result", "failure", "warnings", "cancel_requested", "created_by"),
    )
    times = {name: rfc3339(getattr(row, name)) for name in ("created_at", "started_at", "finished_at")}
    known = {"progress": progress(row), "metrics": {**_no_metrics(row), **row.metrics}}
    spec = row.spec if whole else brief(row.spec)
    names: Json = {"encoder": None, "generator": None, row.makes: row.encoder}
    return {**{name: getattr(row, name) for name in shown}, "spec": spec, **names, **times, **known}


def progress(row: Job) -> Json:
    """How far the training is; a job that waits has made no step of all that it will make."""
    epochs, steps = _epochs(row.spec), row.resolved.get("steps_per_epoch")
    start = {
        "step": 0,
        "steps": epochs * steps if epochs and steps else None,
        "epoch": 0,
        "epochs": epochs,
        "images_per_s": None,
        "eta_s": None,
    }
    return {**start, **(row.progress or {})}


def _epochs(spec: Json) -> int | None:
    """Of all stages."""
    last: int | None = spec.get("epochs")
    method = spec.get("method") or {}
    return last + (method.get("first_epochs") or last) if last and method.get("neighbors") else last


def _no_metrics(row: Job) -> Json:
    return {"mi_nats": None, "capacity_nats": row.resolved.get("capacity_nats"), "loss": None}


def event(row: Event) -> Json:
    """One event, in the stream and in the list."""
    return {"id": row.id, "type": row.type, "at": rfc3339(row.at), "data": row.data}


def dataset(row: Dataset) -> Json:
    """An uploaded dataset."""
    shown = (
        *("name", "kind", "state", "items", "classes", "image", "splits", "license", "digest"),
        *("skipped", "progress", "error", "created_by"),
    )
    return {
        **{name: getattr(row, name) for name in shown},
        "available": row.state == "ready",
        "created_at": rfc3339(row.created_at),
    }


def encoder(row: Encoder | Listed) -> Json:
    """One version of an encoder; its report is the summary, the whole one is at ``/report``."""
    shown = (
        *("id", "name", "version", "aliases", "dim", "prior", "spec", "resolved"),
        *("digest", "size_bytes", "job_id"),
    )
    return {
        **{name: getattr(row, name) for name in shown},
        "state": "ready" if row.damage is None else "degraded",
        "degraded": row.damage and damage(row.damage),
        "report": row.summary,
        "created_at": rfc3339(row.created_at),
    }


def generator(row: Encoder | Listed) -> Json:
    """One version of a generator; its report is the summary, the whole one is at ``/report``."""
    shown = encoder(row)
    return {**shown, "source": orjson.loads(orjson.dumps(row.spec))["source"]}


def damage(row: Damage) -> Json:
    """Why an encoder cannot be loaded; ``code`` is that of the problem which then answers."""
    return {
        "code": EncoderDamaged.code,
        "file": row.file,
        "detail": row.detail,
        "found_at": rfc3339(row.found_at),
    }


def alias(row: alias_store.Alias) -> Json:
    """Where an alias points."""
    return {
        "name": row.name,
        "alias": row.alias,
        "version": row.version,
        "etag": row.etag,
        "updated_at": rfc3339(row.updated_at),
    }


def audit(row: Entry) -> Json:
    """One change."""
    return {**dataclasses.asdict(row), "at": rfc3339(row.at)}


def key(row: Key) -> Json:
    """A key without its secret."""
    values = dataclasses.asdict(row)
    times = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {**values, **{name: rfc3339(values[name]) for name in times}}
