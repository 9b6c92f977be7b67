"""Store: the database and the blobs, opened from settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from service.store.blobs import Blobs


class StoreSettings(Protocol):
    """The settings that a store needs."""

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
        raise NotImplementedError
        yield

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that reads one consistent state; a write in it is an error."""
        raise NotImplementedError
        yield

    def ping(self) -> None:
        """Ask the database something; raises what the database raises."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back every connection."""
        raise NotImplementedError


def open_store(settings: StoreSettings) -> Store:
    """Create the directories, migrate the database, connect the blobs."""
    raise NotImplementedError
