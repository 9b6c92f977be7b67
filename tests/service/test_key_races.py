"""Keys under requests at the same time, on both databases: quotas hold, one Idempotency-Key makes one key."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from service import issuing, quotas
from service.errors import QuotaExceeded
from service.replay import Once
from service.schemas import KeyIn
from service.settings import Settings
from service.store import datasets, jobs, keys
from service.store.audit import By
from service.store.tables import Base

AT_ONCE = 8


def together(work: Any, times: int = AT_ONCE) -> list[Any]:
    """What ``work(number)`` gives in as many threads, all begun at the same moment."""
    start = threading.Barrier(times)

    def run(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


@pytest.fixture
def by(store) -> By:
    with store.begin() as tx:
        return By(keys.create(tx, pepper=store.pepper, name="ci", scopes=["train"])[0].id)


def test_the_last_place_in_the_queue_is_taken_once(store, by) -> None:
    def submit(number: int) -> bool:
        try:
            with store.begin() as tx:
                quotas.check_jobs(Settings(key_queued_jobs=3), tx, by)
                jobs.create(
                    tx,
                    kind="train",
                    spec={},
                    resolved={},
                    warnings=[],
                    encoder="x",
                    priority="normal",
                    created_by=by.who,
                )
        except QuotaExceeded:
            return False
        return True

    assert sum(together(submit)) == 3


def test_the_last_bytes_are_taken_once(store, by) -> None:
    def upload(number: int) -> bool:
        try:
            with store.begin() as tx:
                quotas.check_bytes(Settings(key_stored_bytes=30), tx, by, 10)
                datasets.create(tx, name=f"d{number}", size_bytes=10, created_by=by.who)
        except QuotaExceeded:
            return False
        return True

    assert sum(together(upload)) == 3


def request_of(idempotency_key: str | None, caller: str = "key_a", body: str = "same") -> Once:
    return Once(key=idempotency_key, scope=f"{caller} POST /v1/keys", fingerprint=body, keep_s=3600)


def answer_of(store, once: Once) -> dict[str, Any]:
    app: Any = SimpleNamespace(store=store, callers=SimpleNamespace(clear=lambda: None))
    answer = issuing.issue(app, By("open"), KeyIn(name="ci", scopes=["read"]), once)
    shown: dict[str, Any] = orjson.loads(answer.body)
    return shown


def test_one_idempotency_key_makes_one_key(store) -> None:
    made = together(lambda _: answer_of(store, request_of("b1f0")))
    assert len({orjson.dumps(key) for key in made}) == 1
    with store.session() as tx:
        assert keys.verify(tx, made[0]["key"], pepper=store.pepper).id == made[0]["id"]
        assert len(keys.list_(tx)) == 1


def test_secrets_differ_with_all_that_they_are_derived_from(store) -> None:
    made = [
        answer_of(store, request)["key"]
        for request in (
            request_of("b1f0"),
            request_of("b1f1"),
            request_of("b1f0", caller="key_b"),
            request_of(None),
            request_of(None),
        )
    ]
    assert len(set(made)) == len(made)
    assert {len(secret) for secret in made} == {3 + 43}
    salts = [issuing.derive(store.pepper, salt, request_of("b1f0")) for salt in ("00", "01", "00")]
    assert salts[0] == salts[2] != salts[1]
    assert issuing.derive(b"q" * 32, "00", request_of("b1f0")) != salts[0]


def test_the_whole_database_holds_neither_secret_nor_idempotency_key(store) -> None:
    secret = answer_of(store, request_of("an-idempotency-key-of-mine"))["key"]
    with store.session() as tx:
        rows = [
            row._mapping
            for table in Base.metadata.tables
            for row in tx.execute(text(f"SELECT * FROM {table}"))
        ]
    dump = " ".join(
        bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else str(value)
        for row in rows
        for value in row.values()
    )
    assert secret[:11] in dump
    assert "salt" in dump
    assert secret[11:] not in dump
    assert "an-idempotency-key-of-mine" not in dump
