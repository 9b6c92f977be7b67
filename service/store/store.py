"""Store: the database and the blobs, opened from settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from service.store.blobs import Blobs, open_blobs
from service.store.engine import database_url, make_engine, reader
from service.store.migrate import migrate
from service.store.pepper import load_pepper


class StoreSettings(Protocol):
    """The settings that a store needs; ``key_pepper`` may be there too, for replicas without a common directory."""

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

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A transaction that may write: committed at the end, rolled back by an exception."""
        with Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that reads one consistent state; a write in it is an error."""
        with Session(reader(self.engine)) as session:
            yield session

    def ping(self) -> None:
        """Ask the database something; raises what the database raises."""
        with self.session() as tx:
            tx.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()


def open_store(settings: StoreSettings) -> Store:
    """Create the directories, migrate the database, connect the blobs."""
    data_dir = Path(settings.data_dir)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = make_engine(database_url(settings.database_url, data_dir))
    try:
        migrate(engine)
        return Store(
            engine=engine,
            blobs=open_blobs(settings.blob_url or str(data_dir / "blobs")),
            pepper=load_pepper(data_dir, getattr(settings, "key_pepper", None)),
        )
    except BaseException:
        engine.dispose()
        raise
