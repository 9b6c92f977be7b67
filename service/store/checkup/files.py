"""Every blob that a row refers to: is it there, has it its size, and (deep) is it what was stored?"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.errors import BlobMissing
from service.store import damage
from service.store import references as needed
from service.store.checkup.findings import Case, Finding, Patient, note, problem
from service.store.damage import CHANGED, GONE
from service.store.store import Store
from service.store.tables import DamageRow, DatasetRow, EncoderFileRow, EncoderRow, JobRow


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A blob that one row refers to: ``owner`` is the id or name of the row, ``label`` what a person calls it."""

    kind: str
    owner: str
    label: str
    digest: str
    size: int | None = None
    file: str = ""


def references(patient: Patient) -> Iterator[Case]:
    """What is wrong with the blobs that are needed."""
    store = patient.store
    with store.session() as tx:
        wanted = [*_of_encoders(tx), *_of_datasets(tx), *_of_jobs(tx)]
    sizes = {blob.digest: blob.size for blob in store.blobs.list_()}
    looked_at: dict[str, str | None] = {}
    for want in wanted:
        if want.digest not in looked_at:
            looked_at[want.digest] = _look(patient, want, sizes.get(want.digest))
        state = looked_at[want.digest]
        if state is not None and _is_still_wanted(store, want.digest):
            yield _case(patient, want, state)


def outdated_damage(patient: Patient) -> Iterator[Case]:
    """Encoders that are listed as degraded although all their files are whole."""
    with patient.store.session() as tx:
        query = select(EncoderRow.id, EncoderRow.kind, EncoderRow.name, EncoderRow.version).join(
            DamageRow, DamageRow.encoder_id == EncoderRow.id
        )
        noted = tx.execute(query.where(DamageRow.file.is_not(None))).all()
    for row in noted:
        with patient.store.session() as tx:
            digests = tx.scalars(
                select(EncoderFileRow.digest).where(EncoderFileRow.encoder_id == row.id)
            ).all()
        if all(damage.look(patient.store.blobs, digest) is None for digest in digests):
            label = damage.label(row.kind, row.name, row.version)
            says = "It is listed as degraded, but all its files are whole again; the server sees that by itself soon."
            yield Case(note("damage_outdated", label, says), functools.partial(_clear, patient.store, row.id))


def _of_encoders(tx: Session) -> Iterator[Wanted]:
    columns = (EncoderRow.id, EncoderRow.kind, EncoderRow.name, EncoderRow.version)
    files = (EncoderFileRow.name.label("file"), EncoderFileRow.digest, EncoderFileRow.size)
    query = select(*columns, *files).join(EncoderFileRow, EncoderFileRow.encoder_id == EncoderRow.id)
    for row in tx.execute(query):
        label = damage.label(row.kind, row.name, row.version)
        yield Wanted(
            kind="encoder", owner=row.id, label=label, digest=row.digest, size=row.size, file=row.file
        )


def _of_datasets(tx: Session) -> Iterator[Wanted]:
    query = select(DatasetRow.name, DatasetRow.blob_digest, DatasetRow.index_digest, DatasetRow.size_bytes)
    for row in tx.execute(query.where(DatasetRow.state == "ready")):
        if row.blob_digest:
            yield Wanted(
                kind="dataset", owner=row.name, label=row.name, digest=row.blob_digest, size=row.size_bytes
            )
        if row.index_digest:
            yield Wanted(kind="index", owner=row.name, label=row.name, digest=row.index_digest)


def _of_jobs(tx: Session) -> Iterator[Wanted]:
    query = select(JobRow.id, JobRow.checkpoint_digest, JobRow.checkpoint_bytes)
    for row in tx.execute(query.where(JobRow.checkpoint_digest.is_not(None))):
        yield Wanted(
            kind="checkpoint",
            owner=row.id,
            label=row.id,
            digest=row.checkpoint_digest,
            size=row.checkpoint_bytes,
        )


def _look(patient: Patient, want: Wanted, size: int | None) -> str | None:
    """GONE, CHANGED or None. What the listing lacks may have been stored after it."""
    try:
        size = patient.store.blobs.size(want.digest) if size is None else size
    except BlobMissing:
        return GONE
    if want.size not in (None, 0, size):
        return CHANGED
    return damage.look(patient.store.blobs, want.digest) if patient.deep else None


def _is_still_wanted(store: Store, digest: str) -> bool:
    with store.session() as tx:
        return not needed.unused(tx, [digest])


def _case(patient: Patient, want: Wanted, state: str) -> Case:
    word = "gone" if state == GONE else "damaged"
    if want.kind == "encoder":
        return Case(
            _of_encoder(want, state, word), functools.partial(_note, patient.store, want, state), mends=False
        )
    if want.kind == "checkpoint":
        says = f"Its checkpoint {state}; the job would begin anew. A repair forgets the checkpoint."
        forget = functools.partial(_forget_checkpoint, patient.store, want)
        return Case(problem(f"checkpoint_{word}", want.label, says), forget)
    if want.kind == "dataset":
        says = (
            f"The uploaded file {state}; no job can train on the dataset. {_bring_back(want.digest)}, or delete the "
            "dataset and upload it again."
        )
        return Case(problem(f"dataset_{word}", want.label, says))
    says = f"The index of the uploaded file {state}; no job can train on the dataset. A repair reads the file anew."
    rebuild = patient.rebuild_index and functools.partial(patient.rebuild_index, want.owner)
    return Case(problem(f"dataset_index_{word}", want.label, says), rebuild)


def _of_encoder(want: Wanted, state: str, word: str) -> Finding:
    says = (
        f"{want.file} {state}; the encoder cannot be loaded, all others can. {_bring_back(want.digest)}: it serves "
        "again without a restart. Or train it again and delete this version."
    )
    return problem(f"encoder_file_{word}", want.label, says)


def _bring_back(digest: str) -> str:
    name = digest.removeprefix("sha256:")
    return f"Bring the blob {name[:2]}/{name[2:4]}/{name} back from a backup"


def _note(store: Store, want: Wanted, state: str) -> None:
    with store.begin() as tx:
        damage.note(tx, want.owner, file=want.file, detail=f"{want.file} {state}")


def _clear(store: Store, encoder_id: str) -> None:
    with store.begin() as tx:
        damage.clear(tx, encoder_id)


def _forget_checkpoint(store: Store, want: Wanted) -> None:
    nothing = {"checkpoint_digest": None, "checkpoint_step": None, "checkpoint_bytes": None}
    is_it = (JobRow.id == want.owner) & (JobRow.checkpoint_digest == want.digest)
    with store.begin() as tx:
        tx.execute(
            update(JobRow).where(is_it).values(nothing), execution_options={"synchronize_session": False}
        )
