"""Writing a backup, beside a running server."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Table

from nidim import __version__
from service.errors import BlobDamaged, BlobMissing
from service.meanwhile import meanwhile
from service.store import migrate, references, singletons, snapshot
from service.store.backup import containers
from service.store.backup.containers import Progress, Writer, untold
from service.store.backup.manifest import BLOBS, NAME, BlobEntry, Lacking, Manifest, TableEntry, table_file
from service.store.blobs import Blobs, blob_path
from service.store.damage import CHANGED, GONE
from service.store.ids import new_id
from service.store.retention import HOLD
from service.store.store import Store

HOLD_S = 300.0
EXTEND_EVERY_S = 30.0
LEFT_OUT = frozenset({"singletons"})
"""Leases of processes: they mean nothing elsewhere."""

logger = logging.getLogger(__name__)


class BusyError(RuntimeError):
    """Another backup of this store is being made; wait until it has ended."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class OldSchema(RuntimeError):
    """The database is of another version of nidim; start the server once, which migrates it, then make the backup."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def write(store: Store, target: Path, *, progress: Progress = untold) -> Manifest:
    """Write everything to ``target``, a folder or a .tar. Raises BusyError, OldSchema, FileExistsError."""
    if migrate.revision(store.engine) != migrate.head():
        raise OldSchema
    with _holding(store), containers.writing(target) as writer:
        created_at = datetime.now(UTC)
        tables, digests = _write_rows(store, writer)
        blobs, lacking = _write_blobs(store.blobs, digests, writer, progress)
        manifest = Manifest(
            nidim=__version__,
            schema_revision=migrate.head(),
            created_at=created_at,
            tables=tables,
            blobs=len(blobs),
            blob_bytes=sum(blob.size for blob in blobs),
            blobs_sha256=_write_lines(writer, BLOBS, (_line(blob) for blob in blobs)).sha256,
            lacking=tuple(lacking),
        )
        _write_lines(writer, NAME, iter([manifest.model_dump_json(indent=1).encode() + b"\n"]))
    return manifest


def _write_rows(store: Store, writer: Writer) -> tuple[dict[str, TableEntry], list[str]]:
    """Every row, and every blob that they refer to, of one state of the database."""
    with store.session() as tx:
        connection = tx.connection()
        wanted = [table for table in snapshot.tables(connection) if table.name not in LEFT_OUT]
        entries = {table.name: _write_table(connection, table, writer) for table in wanted}
        return entries, references.everything(tx)


def _write_table(connection: Connection, table: Table, writer: Writer) -> TableEntry:
    lines = (snapshot.to_line(row) for row in snapshot.rows(connection, table))
    return _write_lines(writer, table_file(table.name), lines)


def _write_lines(writer: Writer, name: str, lines: Iterator[bytes]) -> TableEntry:
    file, hasher, count = writer.room / "lines", hashlib.sha256(), 0
    with file.open("wb") as target:
        for line in lines:
            target.write(line)
            hasher.update(line)
            count += 1
    writer.add(name, file)
    return TableEntry(rows=count, sha256=hasher.hexdigest())


def _write_blobs(
    blobs: Blobs, digests: list[str], writer: Writer, progress: Progress
) -> tuple[list[BlobEntry], list[Lacking]]:
    """Each is verified while it is copied; one that is damaged is left out and named, the rest goes on."""
    written: list[BlobEntry] = []
    lacking: list[Lacking] = []
    for done, digest in enumerate(digests):
        progress(done, len(digests))
        try:
            file = blobs.fetch(digest, writer.room / "blob")
        except BlobMissing:
            lacking.append(Lacking(digest=digest, why=GONE))
        except BlobDamaged:
            lacking.append(Lacking(digest=digest, why=CHANGED))
        else:
            written.append(BlobEntry(digest=digest, size=file.stat().st_size))
            writer.add(f"blobs/{blob_path(digest)}", file)
    progress(len(digests), len(digests))
    return written, lacking


def _line(blob: BlobEntry) -> bytes:
    return json.dumps(blob.model_dump()).encode() + b"\n"


@contextmanager
def _holding(store: Store) -> Iterator[None]:
    """Nobody deletes a blob meanwhile; the hold runs out by itself if this process dies. Raises BusyError."""
    owner = new_id("backup_")

    def extend() -> bool:
        with store.begin() as tx:
            return singletons.try_hold(tx, HOLD, owner, HOLD_S)

    if not extend():
        raise BusyError
    try:
        with meanwhile(extend, every_s=EXTEND_EVERY_S, name="backup-hold"):
            yield
    finally:
        with store.begin() as tx:
            singletons.release(tx, HOLD, owner)
