"""Lists cost what a page costs, not what the table holds: the databases are asked how they would answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, text

from benchmarks.load import fill
from service.store import Store, encoders, events, jobs, open_store

ROWS = {"n_jobs": 400, "n_encoders": 200, "n_events": 1000}
Ask = Callable[[Any, Any], Any]


@pytest.fixture
def many(store: Store) -> Store:
    """A store with enough rows for an index to pay."""
    fill.fill(store, **ROWS)
    return store


LISTS: dict[str, Callable[..., Any]] = {
    "jobs": jobs.list_,
    "jobs queued": lambda tx, **page: jobs.list_(tx, state="queued", **page),
    "jobs failed": lambda tx, **page: jobs.list_(tx, state="failed", **page),
    "encoders": encoders.list_,
    "encoders of a name": lambda tx, **page: encoders.list_(tx, name="few-1", **page),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_page_is_read_from_where_the_one_before_ended(many: Store, name: str) -> None:
    limit = 2
    with many.session() as tx:
        first = LISTS[name](tx, limit=limit)
    with recorded(many) as statements, many.session() as tx:
        LISTS[name](tx, limit=limit)
    found = plans(many, statements)
    assert not scans(found[0], in_order=True), found
    assert not sorts(found[0]), found
    assert not any(scans(plan, in_order=False) for plan in found[1:]), found
    with recorded(many) as statements, many.session() as tx:
        LISTS[name](tx, limit=limit, cursor=first.next_cursor)
    found = plans(many, statements)
    assert not any(scans(plan, in_order=False) for plan in found), found
    assert is_seek(found[0]), found
    assert not sorts(found[0]), found


def test_what_is_read_by_its_name_is_found_by_an_index(many: Store) -> None:
    with many.session() as tx:
        job_id = jobs.list_(tx, limit=1).items[0].id
        encoder_id = encoders.list_(tx, limit=1).items[0].id
    asks: list[Callable[[Any], Any]] = [
        lambda tx: jobs.get(tx, job_id),
        lambda tx: list(jobs.heads(tx, [job_id])),
        lambda tx: events.list_after(tx, job_id, 500, 100),
        lambda tx: encoders.get_by_ref(tx, encoder_id),
        lambda tx: encoders.get_by_ref(tx, "few-0"),
        lambda tx: encoders.get_by_ref(tx, "few-0@2"),
        lambda tx: encoders.get_by_ref(tx, "few-0:a-2"),
    ]
    for ask in asks:
        with recorded(many) as statements, many.session() as tx:
            ask(tx)
        for plan in plans(many, statements):
            assert not scans(plan, in_order=False), plan


def test_four_times_the_rows_are_no_more_work(tmp_path: Any) -> None:
    """Counted in instructions of SQLite's machine, so a busy computer changes nothing."""
    work: dict[int, list[int]] = {}
    for factor in (1, 4):
        settings = SimpleNamespace(data_dir=tmp_path / str(factor), database_url="", blob_url="")
        store = open_store(settings)
        fill.fill(store, n_jobs=1100 * factor, n_encoders=200 * factor, n_events=1100 * factor)
        with store.session() as tx:
            deep = {
                name: deepest(lambda cursor, ask=ask: ask(tx, limit=100, cursor=cursor))
                for name, ask in LISTS.items()
            }
        work[factor] = [instructions(store, ask, None) for ask in LISTS.values()]
        work[factor] += [instructions(store, ask, deep[name]) for name, ask in LISTS.items()]
        store.close()
    for few, lots in zip(work[1], work[4], strict=True):
        assert 100 < lots <= 1.3 * few + 500


def test_a_scan_is_seen(store: Store) -> None:
    """The checks above can fail."""
    queries = [
        "SELECT * FROM jobs WHERE encoder = 'x'",
        "SELECT * FROM jobs ORDER BY finished_at LIMIT 3",
    ]
    found = plans(store, [(query, None) for query in queries])
    assert all(scans(plan, in_order=False) for plan in found), found
    assert sorts(found[1])


def deepest(read: Callable[[str | None], Any]) -> str | None:
    cursor, last = None, None
    while True:
        page = read(cursor)
        if page.next_cursor is None:
            return last
        last = cursor = page.next_cursor


@contextmanager
def recorded(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """The SELECTs that the store sends, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(store.engine, "before_cursor_execute", note)
    assert statements


def plans(store: Store, statements: list[tuple[str, Any]]) -> list[str]:
    prefix = "EXPLAIN QUERY PLAN " if store.engine.dialect.name == "sqlite" else "EXPLAIN "
    found = []
    with store.session() as tx:
        if store.engine.dialect.name == "postgresql":  # it prefers to read and sort so few rows, where it may
            tx.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"))
        for statement, parameters in statements:
            rows = tx.connection().exec_driver_sql(prefix + statement, parameters).all()
            found.append("\n".join(str(row[-1]) for row in rows))
    return found


def scans(plan: str, *, in_order: bool) -> bool:
    """Whether a table is read as a whole; ``in_order``: along an index until the limit is fine."""
    pattern = r"Seq Scan|SCAN \w+$" if in_order else r"Seq Scan|SCAN [a-z]\w+"
    return re.search(pattern, plan, re.MULTILINE) is not None


def sorts(plan: str) -> bool:
    """Whether more is sorted than what has equal places in the order."""
    return re.search(r"TEMP B-TREE FOR ORDER BY|(?<!Incremental )Sort  \(", plan) is not None


def is_seek(plan: str) -> bool:
    """Whether an index is entered at the cursor's place."""
    return (
        re.search(r"SEARCH .*(created_at,id\)|version)<|Index Cond: .*(ROW\(|version <=)", plan) is not None
    )


def instructions(store: Store, ask: Callable[..., Any], cursor: str | None) -> int:
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    with store.session() as tx:
        ask(tx, limit=10, cursor=cursor)
        tx.execute(text("SELECT 1"))
        driver: Any = tx.connection().connection.driver_connection
        driver.set_progress_handler(tick, 10)
        ask(tx, limit=10, cursor=cursor)
        driver.set_progress_handler(None, 0)
    return 10 * count
