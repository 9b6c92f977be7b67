"""Store: the database and the blobs, opened from settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine, select, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.errors import ServiceError, StoreBusy
from service.store.blobs import SILENCE_S, Blobs, open_blobs
from service.store.clock import now
from service.store.engine import BUSY_TIMEOUT_S, database_url, make_engine, reader
from service.store.group import Group, together
from service.store.migrate import migrate, revision
from service.store.pepper import has_pepper, load_pepper
from service.store.tables import KeyRow
from service.store.turns import Turns

RESTORING = "restoring"
"""Stands in a data_dir while something is restored into it; no server starts there."""

logger = logging.getLogger(__name__)


class EmptyDatabase(RuntimeError):
    """The database is empty and the blobs are not: it is the wrong one, or it lost everything. Check the database's
    URL, run `nidim restore`, or move the blobs away to begin anew."""

    def __init__(self) -> None:
        super().__init__(" ".join((self.__doc__ or "").split()))


class StoreSettings(Protocol):
    """The settings that a store needs; ``blob_timeout_s`` may be there too, and ``key_pepper``, for replicas without a
    common directory."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def database_url(self) -> str: ...
    @property
    def blob_url(self) -> str: ...


@dataclass(frozen=True)
class Store:
    """The open truth. ``pepper`` is the key under which API keys are hashed."""

    engine: Engine
    blobs: Blobs
    pepper: bytes
    _turns: Turns[Group] = field(default_factory=Turns, repr=False)

    @contextmanager
    def begin(self, *, short: bool = False) -> Iterator[Session]:
        """A transaction that may write: committed at the end, rolled back by an exception. Raises StoreBusy.

        ``short``: where many come at a time, they may be committed as one.
        """
        alone = self.engine.dialect.name == "sqlite"
        if alone and short:
            with _answered(), together(self.engine, self._turns, BUSY_TIMEOUT_S) as session:
                yield session
            return
        turn = self._turns.turn(BUSY_TIMEOUT_S) if alone else nullcontext()
        with turn, _answered(), Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that reads one consistent state; a write in it is an error. Raises StoreBusy."""
        with _answered(), Session(reader(self.engine)) as session:
            yield session

    def clock(self) -> datetime:
        """The database's moment; what is old is judged by it, since a process may be wrong about the time."""
        with self.session() as tx:
            return tx.execute(select(now())).scalar_one()

    def ping(self) -> None:
        """Ask the database something; raises what the database raises."""
        with self.session() as tx:
            tx.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()
        self.blobs.close()


def attach(settings: StoreSettings) -> Store:
    """What is there, as it is: nothing is created or migrated, and no key can be checked. For tools beside a server."""
    data_dir = Path(settings.data_dir)
    engine = make_engine(database_url(settings.database_url, data_dir))
    return Store(engine=engine, blobs=_blobs(settings), pepper=b"")


def open_store(settings: StoreSettings) -> Store:
    """Create the directories, migrate the database, connect the blobs.

    Raises RuntimeError where a restore was begun and not finished, the schema is newer than this program, or there
    are blobs and a database without tables.
    """
    data_dir = Path(settings.data_dir)
    if (data_dir / RESTORING).exists():
        raise RuntimeError("A restore into this data_dir has not ended; run `nidim restore` again.")
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = make_engine(database_url(settings.database_url, data_dir))
    try:
        blobs = _blobs(settings)
        _require_not_emptied(engine, blobs)
        migrate(engine)
        configured = getattr(settings, "key_pepper", None)
        if not has_pepper(data_dir, configured):
            _warn_of_keys(engine, data_dir)
        return Store(engine=engine, blobs=blobs, pepper=load_pepper(data_dir, configured))
    except BaseException:
        engine.dispose()
        raise


def _blobs(settings: StoreSettings) -> Blobs:
    url = settings.blob_url or str(Path(settings.data_dir) / "blobs")
    return open_blobs(url, timeout_s=getattr(settings, "blob_timeout_s", SILENCE_S))


def _warn_of_keys(engine: Engine, data_dir: Path) -> None:
    """Nothing else would tell why every key is refused, once a new pepper lies where the old one was."""
    with Session(reader(engine)) as tx:
        if tx.execute(select(KeyRow.id).limit(1)).first() is not None:
            logger.warning(
                "there are API keys, but no NIDIM_KEY_PEPPER and no file of that kind in %s; one is made, under which "
                "an API process knows none of them. Bring the old one back",
                data_dir,
            )


def _require_not_emptied(engine: Engine, blobs: Blobs) -> None:
    """Raises EmptyDatabase. The second look is for whoever made both between the first and the blobs."""
    if revision(engine) is None and _any(blobs) and revision(engine) is None:
        raise EmptyDatabase


def _any(blobs: Blobs) -> bool:
    """Whether a blob is known to be there; blobs that do not answer are no reason not to start."""
    with suppress(ServiceError, OSError):
        return next(blobs.list_(), None) is not None
    return False


@contextmanager
def _answered() -> Iterator[None]:
    """StoreBusy where every connection is in use for long."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreBusy(retry_after_s=1) from error
