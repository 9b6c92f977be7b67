"""``nidim doctor``: looks the truth over, says what is wrong and what to do, and repairs what is safe to repair.

It works beside a running server and changes nothing without ``--repair``, the schema of the database included.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service import offline
from service.settings import Settings

if TYPE_CHECKING:
    from service.store import Store
    from service.store.checkup import Case, Finding

COLOURS = {"problem": "red", "note": "yellow"}


@dataclass(frozen=True)
class Seen:
    """A finding, and whether it was repaired just now."""

    finding: Finding
    repaired: bool = False

    @property
    def needs_somebody(self) -> bool:
        """Whether it is a problem still."""
        return self.finding.level == "problem" and not self.repaired

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self.finding), "repaired": self.repaired}


@click.command("doctor")
@offline.data_dir_option
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing anything.")
@click.option(
    "--deep", is_flag=True, help="Read and hash every stored file; takes as long as reading them all."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def doctor_command(data_dir: Path | None, repair: bool, deep: bool, as_json: bool) -> None:
    """Check the database against the stored files, both ways, and explain every finding.

    \b
    Exit status: 0 nothing needs you, 1 something does.
      nidim doctor                   look, change nothing
      nidim doctor --deep --repair   also hash every file; mend what is safe
    It works while the server runs, with the same NIDIM_* settings.
    """
    with offline.attached(data_dir) as (store, settings):
        seen = []
        for one in examined(store, settings, deep=deep, repair=repair):
            seen.append(one)
            if not as_json:
                _show(one)
    problems = sum(one.needs_somebody for one in seen)
    if as_json:
        click.echo(json.dumps({"problems": problems, "findings": [one.as_dict() for one in seen]}, indent=1))
    else:
        repaired = sum(one.repaired for one in seen)
        click.echo(f"{len(seen)} findings, {repaired} repaired, {problems} problems left.")
    raise SystemExit(1 if problems else 0)


def examined(store: Store, settings: Settings, *, deep: bool, repair: bool) -> Iterator[Seen]:
    """Everything that is found, repaired as it is found; the last thing, where the database cannot be read."""
    from sqlalchemy.exc import DatabaseError

    from service.store.checkup import unreadable

    try:
        yield from _readable(store, settings, deep=deep, repair=repair)
    except DatabaseError as error:
        case = unreadable(error)
        if case is None:
            raise
        yield Seen(case.finding)


def _readable(store: Store, settings: Settings, *, deep: bool, repair: bool) -> Iterator[Seen]:
    from service.store.checkup import Patient, examine

    for case in _of_schema(store):
        seen = _treated(store, case, repair=repair)
        yield seen
        if not seen.repaired:
            return
    patient = Patient(
        store, settings, deep=deep, rebuild_index=lambda name: rebuild_index(store, settings, name)
    )
    for case in examine(patient):
        yield _treated(store, case, repair=repair)


def rebuild_index(store: Store, settings: Settings, name: str) -> None:
    """Read the uploaded file of a dataset anew and store its index. Raises what ingestion raises."""
    from service.ingest import INDEX_FILE, ingest_upload
    from service.ingestion import image_limits
    from service.store import datasets

    with store.session() as tx:
        row = datasets.get(tx, name)
    if row is None or row.blob_digest is None:
        return
    scratch = settings.data_dir / "scratch"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="doctor-") as folder:
        file = store.blobs.fetch(row.blob_digest, Path(folder) / "file")
        ingest_upload(
            file,
            out_dir=Path(folder),
            limits=image_limits(settings),
            digest=row.blob_digest,
            timeout_s=settings.ingest_timeout_s,
        )
        digest, _ = store.blobs.put_file(Path(folder) / INDEX_FILE)
    with store.begin() as tx:
        datasets.set_index(tx, name, digest, instead_of=row.index_digest)


def _of_schema(store: Store) -> Iterator[Case]:
    """The schema comes first: nothing else can be asked of a database that this program does not know."""
    from service.store import migrate
    from service.store.checkup import Case
    from service.store.checkup.findings import problem

    found = migrate.revision(store.engine)
    if found == migrate.head():
        return
    if found is not None and found not in migrate.revisions():
        says = f"It is of revision {found}, which a newer version of nidim made; install that version."
        yield Case(problem("schema_too_new", "database", says))
        return
    says = (
        f"It is of revision {found or 'none'}, this version of nidim works with {migrate.head()}; starting the server "
        "migrates it, and so does a repair. Make a backup first."
    )
    yield Case(problem("schema_old", "database", says), lambda: migrate.migrate(store.engine))


def _treated(store: Store, case: Case, *, repair: bool) -> Seen:
    """The finding after its repair, if there is one and it is wanted; one that fails stays a finding."""
    if not repair or case.repair is None:
        return Seen(case.finding)
    try:
        case.repair()
        _note(store, case.finding)
    except Exception as error:
        click.echo(f"The repair of {case.finding.code} {case.finding.subject} failed: {error}", err=True)
        return Seen(case.finding)
    return Seen(case.finding, repaired=case.mends)


def _note(store: Store, finding: Finding) -> None:
    """After the repair: some mend files, and the first may make the very table of the log."""
    from service.store import audit
    from service.store.audit import By

    with store.begin() as tx:
        audit.record(tx, By(audit.CLI), "doctor.repair", finding.subject, code=finding.code)


def _show(seen: Seen) -> None:
    finding = seen.finding
    state = "repaired" if seen.repaired else finding.level
    colour = "green" if seen.repaired else COLOURS[finding.level]
    click.echo(f"{click.style(state, fg=colour)}  {finding.code}  {finding.subject}\n    {finding.says}")
