"""Uploads at work: from a file on disk to a dataset that is ready, a few at a time, each in a killable process."""

from __future__ import annotations

import dataclasses
import functools
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session
from starlette.responses import Response

from nidim.spec import Name
from service import quotas, views
from service.arrivals import Arrivals
from service.errors import (
    IdempotencyInFlight,
    NameTaken,
    NotFound,
    ServiceError,
    StateConflict,
    StorageFull,
)
from service.inference import builtins
from service.ingest import INDEX_FILE, POLL_S, ImageLimits, IngestFailed, Progress, cancelled, ingest_upload
from service.meanwhile import meanwhile
from service.refusals import Blame, InternalError, Overloaded, with_status
from service.replay import Once
from service.settings import Settings
from service.store import Store, audit, datasets, quota
from service.store.audit import By
from service.store.datasets import Dataset

MAX_WAITING = 64
"""Uploads that wait for their turn: each costs a thread that sleeps, and its file on the disk."""
FORGOTTEN = (
    "The first answer to this Idempotency-Key is too old to be given again; send the request once more."
)
TOUCH_EVERY_S = 1.0
TOUCH_WAITING_S = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """A dataset as it arrived: a file of ours that nobody else uses, and what the client said about it.

    Not ``kept``: the request had been answered before, so that only the digest was wanted and there is no file.
    ``made_at``: when its name was reserved; whoever has the name later has another time.
    """

    path: Path
    digest: str
    size: int
    name: Name
    license: str | None
    kept: bool = True
    made_at: datetime | None = None


@dataclass(frozen=True)
class _Work:
    cancel: threading.Event
    future: Future[Response]
    detached: bool


class Ingestions:
    """At most ``max_ingestions`` at a time; a bounded number waits."""

    def __init__(self, store: Store, settings: Settings, *, scratch: Path) -> None:
        self._store, self._settings, self.scratch = store, settings, scratch
        self.arrivals = Arrivals(store, settings)
        self._threads = ThreadPoolExecutor(
            settings.max_ingestions + MAX_WAITING, thread_name_prefix="ingestion"
        )
        self._turn = threading.Semaphore(settings.max_ingestions)
        self._work: dict[str, _Work] = {}
        self._stopping = False

    def begin(self, by: By, upload: Upload, once: Once, detached: bool) -> Response | Future[Response]:
        """Reserve the name. ``detached``: 202 now; else the future is 201 or raises a refusal.

        A Response that is not detached is the replayed first answer. Raises NameTaken, QuotaExceeded, Overloaded.
        """
        if upload.name in builtins.NAMES:
            raise NameTaken(f"{upload.name} is built in; choose another name.")
        self._bury(upload.name)
        if len(self._work) >= self._settings.max_ingestions + MAX_WAITING or self._stopping:
            raise Overloaded("Too many datasets are being read; try again later.", retry_after_s=60)
        with self._store.begin() as tx:
            if first := once.begin(tx, takeover_s=self._patience_s(tx, upload.name)):
                upload.path.unlink(missing_ok=True)
                return first
            if not upload.kept:
                raise IdempotencyInFlight(FORGOTTEN, retry_after_s=1)
            quotas.check_bytes(self._settings, tx, by, upload.size)
            quota.check(tx, self._settings, upload.size)
            row = datasets.create(
                tx, name=upload.name, license=upload.license, size_bytes=upload.size, created_by=by.who
            )
            audit.record(tx, by, "dataset.create", row.name, digest=upload.digest, bytes=upload.size)
            upload = dataclasses.replace(upload, made_at=row.created_at)
            headers = {"Location": f"/v1/datasets/{row.name}", "Preference-Applied": "respond-async"}
            response = views.answer(views.dataset(row), 202, headers)
            if detached:
                once.finish(tx, response)
        cancel = threading.Event()
        future = self._threads.submit(self._run, by, upload, once, detached, cancel)
        work = self._work[upload.name] = _Work(cancel, future, detached)
        future.add_done_callback(lambda _: self._forget(upload.name, work))
        return response if detached else future

    def _patience_s(self, tx: Session, name: str) -> float:
        """How long a request with the same key may still be at work: not at all once its dataset was found dead."""
        row = datasets.get(tx, name)
        dead = row is not None and row.state == "failed" and (row.error or {}).get("code") == datasets.SILENT
        return 0.0 if dead else self._settings.ingest_timeout_s + 60

    def cancel(self, name: str) -> bool:
        """Kill the ingestion of ``name`` if it is at work here, and wait until it is gone.

        Whether its row went with it, as that of an upload does whose client waits.
        """
        if (work := self._work.get(name)) is None:
            return False
        work.cancel.set()
        wait([work.future])
        return not work.detached and (work.future.cancelled() or work.future.exception() is not None)

    def _bury(self, name: str) -> None:
        """Wait for the end of an ingestion whose dataset has failed already: its name is about to be taken."""
        if name in self._work:
            with self._store.session() as tx:
                row = datasets.get(tx, name)
            if row is not None and row.state == "failed":
                self.cancel(name)

    @property
    def at_work(self) -> int:
        """Uploads that are being read, or wait for their turn."""
        return len(self._work)

    def close(self) -> None:
        """Kill what is at work and wait for it."""
        self._stopping = True
        for work in list(self._work.values()):
            work.cancel.set()
        self._threads.shutdown(wait=True)

    def _run(self, by: By, upload: Upload, once: Once, detached: bool, cancel: threading.Event) -> Response:
        try:
            with self._turn_of(upload, cancel):
                row = self._ingested(by, upload, cancel)
            response = views.answer(views.dataset(row), 201, {"Location": f"/v1/datasets/{row.name}"})
            if not detached:
                with self._store.begin() as tx:
                    once.finish(tx, response)
            return response
        except Exception as error:
            refusal = refusal_of(error)
            self._undo(by, upload, once, refusal, detached=detached)
            raise refusal from error
        finally:
            upload.path.unlink(missing_ok=True)

    @contextmanager
    def _turn_of(self, upload: Upload, cancel: threading.Event) -> Iterator[None]:
        """Wait for a turn, showing signs of life; once it is cancelled, no longer."""
        note_at = time.monotonic() + TOUCH_WAITING_S
        while not self._turn.acquire(timeout=POLL_S):
            if cancel.is_set():
                raise cancelled()
            if time.monotonic() >= note_at:
                note_at += TOUCH_WAITING_S
                self._note(upload, 0, None)
        try:
            yield
        finally:
            self._turn.release()

    def _ingested(self, by: By, upload: Upload, cancel: threading.Event) -> Dataset:
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="ingest-") as directory:
            index = ingest_upload(
                upload.path,
                out_dir=Path(directory),
                limits=image_limits(self._settings),
                digest=upload.digest,
                timeout_s=self._settings.ingest_timeout_s,
                on_progress=_Throttled(lambda done, total: self._note(upload, done, total)),
                cancel=cancel,
            )
            facts = index.summary()
            note = functools.partial(self._note, upload, facts["items"], facts["items"])
            # a sign of life: gigabytes into a slow store take longer than anybody may be silent
            with meanwhile(note, every_s=TOUCH_WAITING_S, name="ingestion-life"):
                blob_digest, _ = self._store.blobs.put_file(upload.path)
                index_digest, _ = self._store.blobs.put_file(Path(directory) / INDEX_FILE)
        with self._store.begin() as tx:
            audit.record(tx, by, "dataset.ready", upload.name, items=facts["items"])
            return datasets.set_state(
                tx,
                upload.name,
                "ready",
                made_at=upload.made_at,
                digest=index.digest,
                blob_digest=blob_digest,
                index_digest=index_digest,
                **{field: facts[field] for field in ("items", "classes", "image", "splits", "skipped")},
            )

    def _note(self, upload: Upload, done: int, total: int | None) -> None:
        with self._store.begin() as tx:
            datasets.set_progress(tx, upload.name, {"done": done, "total": total}, made_at=upload.made_at)

    def _undo(self, by: By, upload: Upload, once: Once, refusal: ServiceError, *, detached: bool) -> None:
        """A detached upload ends ``failed``; one whose client waits leaves nothing behind."""
        if refusal.status >= 500:
            logger.error("the ingestion of %s failed", upload.name, exc_info=refusal.__cause__ or refusal)
        else:
            logger.info("the upload %s was refused: %s", upload.name, refusal.code)
        with suppress(NotFound, StateConflict), self._store.begin() as tx:
            if detached:
                error = {"code": refusal.code, "message": str(refusal)}
                datasets.set_state(tx, upload.name, "failed", made_at=upload.made_at, error=error)
                audit.record(tx, by, "dataset.fail", upload.name, because=refusal.code)
            else:
                datasets.delete(tx, upload.name, made_at=upload.made_at)
                audit.record(tx, by, "dataset.delete", upload.name, because=refusal.code)
        if not detached:
            with self._store.begin() as tx:
                once.forget(tx)

    def _forget(self, name: str, work: _Work) -> None:
        if self._work.get(name) is work:
            del self._work[name]


class _Throttled:
    """Calls through at most once a second."""

    def __init__(self, note: Progress) -> None:
        self._note, self._next = note, 0.0

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TOUCH_EVERY_S
            self._note(done, total)


def image_limits(settings: Settings) -> ImageLimits:
    """What an uploaded file may hold."""
    return ImageLimits(
        max_pixels=settings.max_pixels,
        max_members=settings.max_archive_members,
        max_bytes=settings.max_archive_bytes,
        max_ratio=settings.max_archive_ratio,
    )


def refusal_of(error: Exception) -> ServiceError:
    """What the client is told about a failed ingestion."""
    if isinstance(error, ServiceError):
        return error
    if quota.is_full(error) or (isinstance(error, IngestFailed) and error.code == "no_space"):
        return StorageFull(retry_after_s=quota.RETRY_S)
    if isinstance(error, IngestFailed):
        blames = [Blame("/file", error.message)] if error.status_hint == 422 else []
        return with_status(error.status_hint, error.code, error.message, errors=blames)
    return InternalError()
