"""Registering an encoder or a generator: the next number of its name, its files, once per job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert as sql_insert
from sqlalchemy.orm import Session

from service.store import audit
from service.store.audit import By
from service.store.clock import now
from service.store.encoders import Encoder, get_by_ref, summary
from service.store.ids import new_id
from service.store.names import ID_PREFIXES, Kind, stored
from service.store.tables import EncoderFileRow, EncoderNameRow, EncoderRow
from service.store.upsert import insert

_CREATED: dict[Kind, audit.Action] = {"encoder": "encoder.create", "generator": "generator.create"}


def register(
    tx: Session,
    *,
    kind: Kind = "encoder",
    name: str,
    job_id: str,
    manifest: Mapping[str, Any],
    report: dict[str, Any],
    spec: dict[str, Any],
    resolved: dict[str, Any],
    dim: int,
    prior: dict[str, Any],
    size: int,
) -> Encoder:
    """Write the next version of ``name``; a second one of the same job breaks a unique constraint."""
    encoder_id, stored_name = new_id(ID_PREFIXES[kind]), stored(kind, name)
    values = {
        "id": encoder_id,
        "kind": kind,
        "name": stored_name,
        "version": _next_version(tx, stored_name),
        "dim": dim,
        "prior": prior,
        "spec": spec,
        "resolved": resolved,
        "report": report,
        "summary": summary(report),
        "digest": manifest["digest"],
        "size_bytes": size,
        "job_id": job_id,
        "created_at": now(),
    }
    tx.execute(sql_insert(EncoderRow).values(values))
    files = [
        {"encoder_id": encoder_id, "name": file, "digest": _digest(entry), "size": entry["size"]}
        for file, entry in manifest["files"].items()
    ]
    if files:
        tx.execute(sql_insert(EncoderFileRow).values(files))
    encoder = get_by_ref(tx, encoder_id, kind)
    assert encoder is not None
    version = f"{encoder.name}@{encoder.version}"
    audit.record(tx, By(audit.WORKER), _CREATED[kind], encoder_id, version=version, job=job_id)
    return encoder


def _next_version(tx: Session, name: str) -> int:
    """Raise the counter of the name; its row stays locked until the commit."""
    statement = (
        insert(tx, EncoderNameRow)
        .values(name=name, last_version=1)
        .on_conflict_do_update(
            index_elements=[EncoderNameRow.name], set_={"last_version": EncoderNameRow.last_version + 1}
        )
        .returning(EncoderNameRow.last_version)
    )
    return int(tx.execute(statement).scalar_one())


def _digest(entry: Mapping[str, Any]) -> str:
    """The digest of a manifest's entry, whichever way it is written."""
    return str(entry["digest"]) if "digest" in entry else f"sha256:{entry['sha256']}"
