"""Restoring a backup into a place where nothing is yet.

The blobs come first, then all rows in one transaction, then the schema is brought to that of this program. Everything
is hashed on the way. If the restore is interrupted there is no row or every one; the marker in data_dir, which names
the backup, keeps servers away until the same restore was done again.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, Table, func, select, update

from service.store import audit, migrate, snapshot
from service.store.audit import By
from service.store.backup import containers
from service.store.backup.containers import Progress, Reader, untold
from service.store.backup.manifest import BLOBS, NAME, BlobEntry, Manifest, table_file
from service.store.blobs import Blobs, blob_path
from service.store.store import RESTORING, Store, StoreSettings, attach
from service.store.tables import AuditRow

ALLOWED = frozenset({RESTORING, "pepper", "lost+found"})
"""What may be in the data_dir: an operator may bring the pepper first, and a file system of its own has a folder."""
MAX_MANIFEST = 1 << 24


class BadBackup(Exception):
    """The backup cannot be used: something in it is missing or is not what was written; take another one."""


class NotEmpty(Exception):
    """There is something already; restore into an empty data_dir and an empty database."""


def restore(source: Path, settings: StoreSettings, *, progress: Progress = untold) -> Manifest:
    """Bring everything in ``source`` back. Raises NotEmpty, BadBackup, migrate.SchemaTooNew."""
    data_dir = Path(settings.data_dir)
    try:
        with containers.reading(source) as reader:
            manifest = _manifest(reader)
            _require_known(manifest)
            _require_whole(reader, manifest)
            _require_empty(data_dir)
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            begun = _begin(data_dir, manifest)
            store = attach(settings)
            try:
                if not (begun and _has_all_rows(store.engine, manifest)):
                    _restore_into(store, reader, manifest, data_dir, progress)
                _finish(store, manifest)
            finally:
                store.engine.dispose()
    except (tarfile.TarError, ValidationError) as error:
        raise BadBackup(f"The backup cannot be read ({type(error).__name__}); take another one.") from error
    except FileNotFoundError as error:
        raise BadBackup(
            f"{Path(str(error.filename or error)).name} is not in the backup; take another one."
        ) from error
    (data_dir / RESTORING).unlink()
    return manifest


def _restore_into(
    store: Store, reader: Reader, manifest: Manifest, data_dir: Path, progress: Progress
) -> None:
    _require_no_rows(store.engine, manifest)
    with tempfile.TemporaryDirectory(dir=data_dir, prefix=".restore-") as room:
        _restore_blobs(store.blobs, reader, Path(room), progress)
    migrate.migrate(store.engine, manifest.schema_revision)
    with store.engine.begin() as connection:
        _restore_rows(connection, reader, manifest)


def _finish(store: Store, manifest: Manifest) -> None:
    migrate.migrate(store.engine)
    with store.begin() as tx:  # not with the rows: an old backup's schema may have no audit log
        made_at = manifest.created_at.isoformat()
        audit.record(tx, By(audit.CLI), "store.restore", "store", made_at=made_at, rows=manifest.rows)


def _manifest(reader: Reader) -> Manifest:
    with reader.open(NAME) as stream:
        return Manifest.model_validate_json(stream.read(MAX_MANIFEST))


def _require_known(manifest: Manifest) -> None:
    if manifest.schema_revision not in migrate.revisions():
        raise migrate.SchemaTooNew


def _require_whole(reader: Reader, manifest: Manifest) -> None:
    """Every list is what was written; the blobs are looked at as they come."""
    wanted = {table_file(name): entry.sha256 for name, entry in manifest.tables.items()}
    for name, sha256 in {**wanted, BLOBS: manifest.blobs_sha256}.items():
        with reader.open(name) as stream:
            found = hashlib.file_digest(stream, "sha256")  # type: ignore[arg-type]
        if found.hexdigest() != sha256:
            raise BadBackup(f"{name} of the backup is not what was written; take another one.")


def _require_empty(data_dir: Path) -> None:
    """An earlier restore into the same place may be done again; what it left is removed."""
    found = {path.name for path in data_dir.iterdir()} if data_dir.exists() else set()
    if RESTORING in found:
        for path in data_dir.glob(".restore-*"):
            shutil.rmtree(path, ignore_errors=True)
    elif found - ALLOWED:
        raise NotEmpty(f"{data_dir} is not empty; restore into another --data-dir.")


def _begin(data_dir: Path, manifest: Manifest) -> bool:
    """Set the marker; whether a restore of the same backup into the same place was begun before."""
    marker = data_dir / RESTORING
    name = hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()
    begun = marker.exists() and marker.read_text() == name
    if not begun:
        marker.write_text(name)
    return begun


def _require_no_rows(engine: Engine, manifest: Manifest) -> None:
    if any(_counts(engine).values()) or migrate.revision(engine) not in (None, manifest.schema_revision):
        raise NotEmpty("The database is not empty; restore into another one.")


def _has_all_rows(engine: Engine, manifest: Manifest) -> bool:
    """Whether only what follows the rows was interrupted: they came in one transaction."""
    found = _counts(engine)
    return all(
        found.get(name) == entry.rows
        for name, entry in manifest.tables.items()
        if name != AuditRow.__tablename__
    )


def _counts(engine: Engine) -> dict[str, int]:
    """Rows of every table."""
    with engine.connect() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in snapshot.tables(connection)
        }


def _restore_blobs(blobs: Blobs, reader: Reader, room: Path, progress: Progress) -> None:
    entries = [BlobEntry.model_validate_json(line) for line in _lines(reader, BLOBS)]
    for done, entry in enumerate(entries):
        progress(done, len(entries))
        with reader.open(f"blobs/{blob_path(entry.digest)}") as source, (room / "blob").open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        digest, size = blobs.put_file(room / "blob")
        if (digest, size) != (entry.digest, entry.size):
            raise BadBackup(
                f"The blob {entry.digest} of the backup is not what was written; take another one."
            )
    progress(len(entries), len(entries))


def _restore_rows(connection: Connection, reader: Reader, manifest: Manifest) -> None:
    tables = {table.name: table for table in snapshot.tables(connection)}
    if unknown := manifest.tables.keys() - tables.keys():
        raise BadBackup(f"The backup has a table {min(unknown)} that its schema does not have.")
    for name, table in tables.items():
        entry = manifest.tables.get(name)
        if entry is None:
            continue
        lines = _lines(reader, table_file(name))
        count = snapshot.write_rows(connection, table, (snapshot.from_line(table, line) for line in lines))
        if count != entry.rows:
            raise BadBackup(f"The table {name} of the backup has {count} rows instead of {entry.rows}.")
    _publish_again(connection, tables["jobs"])


def _publish_again(connection: Connection, jobs: Table) -> None:
    """The broker that was told about the queued jobs is not here; the reaper tells the one that is."""
    values: dict[str, Any] = {"published_at": None, "publish_count": 0}
    connection.execute(update(jobs).where(jobs.c.state == "queued").values(values))


def _lines(reader: Reader, name: str) -> Iterator[bytes]:
    with reader.open(name) as stream:
        yield from stream
