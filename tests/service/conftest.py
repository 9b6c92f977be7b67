"""Stores to test with: SQLite in a file and a real PostgreSQL; the same tests run on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from service.store import Store, jobs, open_store
from service.store.engine import database_url
from service.store.tables import Base
from tests import migrated

DIGEST = "sha256:" + "0" * 64


@pytest.fixture(params=["sqlite", "postgresql"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> SimpleNamespace:
    """Settings of a store of each kind; each test has an empty one."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    return SimpleNamespace(data_dir=tmp_path, database_url=url, blob_url="")


@pytest.fixture
def store(store_settings: SimpleNamespace) -> Iterator[Store]:
    """An open, empty store of each kind."""
    if not store_settings.database_url:
        migrated.lay(store_settings.data_dir)
    opened = open_store(store_settings)
    if store_settings.database_url:
        with opened.begin() as tx:
            for table in reversed(Base.metadata.sorted_tables):
                tx.execute(table.delete())
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """An open, empty store where the kind does not matter."""
    migrated.lay(tmp_path)
    opened = open_store(SimpleNamespace(data_dir=tmp_path, database_url="", blob_url=""))
    yield opened
    opened.close()


def create_job(store: Store, **changes: Any) -> jobs.Job:
    values: dict[str, Any] = {
        "kind": "train",
        "spec": {"dataset": "digits", "seed": 1},
        "resolved": {"sigma": 0.5},
        "warnings": [],
        "encoder": "faces",
        "priority": "normal",
    }
    with store.begin() as tx:
        return jobs.create(tx, **{**values, **changes})


def take_lease(store: Store, job_id: str, owner: str = "worker") -> jobs.Lease:
    with store.begin() as tx:
        lease = jobs.take_lease(tx, job_id, owner=owner, lease_s=60)
    assert lease is not None
    return lease


def finish_job(store: Store, lease: jobs.Lease, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "manifest": {
            "digest": DIGEST,
            "files": {"model.safetensors": {"sha256": "1" * 64, "size": 10}},
        },
        "report": {"mi_nats": 1.5},
        "spec": {"dataset": "digits"},
        "resolved": {"sigma": 0.5},
        "dim": 2,
        "prior": {"kind": "gaussian", "dim": 2},
        "size": 10,
    }
    with store.begin() as tx:
        return jobs.succeed(tx, lease, **{**values, **changes})


def expire_lease(store: Store, job_id: str) -> None:
    """As if the worker had been silent for long."""
    with store.begin() as tx:
        tx.execute(
            text("UPDATE jobs SET lease_until = 1 WHERE id = :id AND state = 'running'"), {"id": job_id}
        )


@pytest.fixture
def new_job() -> Callable[..., jobs.Job]:
    """``new_job(store, **changes)`` -> a queued job."""
    return create_job


@pytest.fixture
def take() -> Callable[..., jobs.Lease]:
    """``take(store, job_id, owner=)`` -> a lease."""
    return take_lease


@pytest.fixture
def finish() -> Callable[..., Any]:
    """``finish(store, lease, **changes)`` -> the encoder that the job became."""
    return finish_job


@pytest.fixture
def expire() -> Callable[[Store, str], None]:
    """``expire(store, job_id)``: as if the worker had been silent for long."""
    return expire_lease


@pytest.fixture
def new_encoder() -> Callable[..., Any]:
    """``new_encoder(store, name)`` -> the next version of this name."""

    def register(store: Store, name: str = "faces", **changes: Any) -> Any:
        job = create_job(store, encoder=name)
        return finish_job(store, take_lease(store, job.id), **changes)

    return register


@pytest.fixture
def empty(tmp_path: Path, postgresql_url: str) -> Iterator[Callable[..., SimpleNamespace]]:
    """``empty("postgresql")`` -> settings of a place where nothing is yet."""
    admin = create_engine(database_url(postgresql_url, tmp_path), isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make(kind: str = "sqlite", blob_url: str = "") -> SimpleNamespace:
        place = tmp_path / f"empty-{len(made)}"
        made.append(f"restored_{abs(hash(str(place)))}")
        url = ""
        if kind == "postgresql":
            with admin.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {made[-1]}"))
            url = make_url(postgresql_url).set(database=made[-1]).render_as_string(hide_password=False)
        return SimpleNamespace(data_dir=place, database_url=url, blob_url=blob_url)

    yield make
    with admin.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    admin.dispose()
