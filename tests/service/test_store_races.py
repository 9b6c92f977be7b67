"""Many at once, with real threads and processes: one wins, nothing is lost, nothing is doubled."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from service.errors import LostLease, NameTaken, PreconditionFailed, ServiceError
from service.store import datasets, encoders, events, idempotency, jobs, singletons
from service.store.aliases import Alias
from service.store.encoders import aliases

MANY = 10


def at_once(count, action):
    """Call ``action(i)`` from ``count`` threads at the same moment; results, or the errors of ours."""
    barrier = Barrier(count)

    def run(i):
        barrier.wait()
        try:
            return action(i)
        except ServiceError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def winners(results):
    return [result for result in results if result is not None and not isinstance(result, ServiceError)]


def test_one_of_many_takers_wins(store, new_job):
    job = new_job(store)

    def take(i):
        with store.begin() as tx:
            return jobs.take_lease(tx, job.id, owner=f"w{i}", lease_s=60)

    assert len(winners(at_once(MANY, take))) == 1
    with store.session() as tx:
        assert jobs.get(tx, job.id).attempt == 1


def test_one_of_many_takers_wins_an_expired_lease(store, new_job, take, expire):
    job = new_job(store)
    stale = take(store, job.id)
    expire(store, job.id)

    def act(i):
        with store.begin() as tx:
            if i % 2:
                return jobs.take_lease(tx, job.id, owner=f"w{i}", lease_s=60)
            if i:
                jobs.reap(tx, max_attempts_without_checkpoint=3, republish_after_s=60)
        return None

    leases = winners(at_once(MANY, act))
    assert len(leases) <= 1
    with pytest.raises(LostLease), store.begin() as tx:
        jobs.add_events(tx, stale, [("log", {})])
    with store.session() as tx:
        assert jobs.get(tx, job.id).fence == 1 + len(leases)


def test_one_of_many_ends_counts(store, new_job, take, finish):
    job = new_job(store)
    lease = take(store, job.id)

    def end(i):
        if i % 2:
            return finish(store, lease)
        with store.begin() as tx:
            return jobs.fail(tx, lease, "code", "message")

    assert len(winners(at_once(MANY, end))) == 1
    with store.session() as tx:
        ended = jobs.get(tx, job.id)
        assert len(encoders.list_(tx).items) == (ended.state == "succeeded")


def test_versions_of_one_name_have_no_gap_and_no_double(store, new_encoder):
    made = at_once(MANY, lambda _: new_encoder(store, "faces"))
    assert sorted(encoder.version for encoder in made) == list(range(1, MANY + 1))


def test_event_ids_of_concurrent_writers_rise_as_they_become_visible(store, new_job, take):
    job = new_job(store)
    lease = take(store, job.id)
    seen: list[int] = []

    def write_or_read(i):
        for _ in range(10):
            if i:
                with store.begin() as tx:
                    jobs.add_events(tx, lease, [("log", {"line": "a"}), ("log", {"line": "b"})])
                continue
            with store.session() as tx:
                seen.extend(event.id for event in events.list_after(tx, job.id, seen[-1] if seen else 0))

    at_once(4, write_or_read)
    with store.session() as tx:
        stored = [event.id for event in events.list_after(tx, job.id)]
    assert stored == list(range(1, 3 + 3 * 10 * 2))
    assert seen == stored[: len(seen)]


def test_one_of_many_names_one_dataset(store):
    def create(_):
        with store.begin() as tx:
            return datasets.create(tx, name="cats")

    results = at_once(MANY, create)
    assert len(winners(results)) == 1
    assert sum(isinstance(result, NameTaken) for result in results) == MANY - 1


def test_a_dataset_is_deleted_or_used_never_both(store, new_job):
    for round_ in range(5):
        name = f"cats{round_}"
        with store.begin() as tx:
            datasets.create(tx, name=name)

        def act(i, name=name):
            with store.begin() as tx:
                if i == 0:
                    return datasets.delete(tx, name)
                if datasets.hold(tx, name) is None:
                    return None
                return jobs.create(
                    tx,
                    kind="train",
                    spec={"dataset": name},
                    resolved={},
                    warnings=[],
                    encoder="e",
                    priority="low",
                )

        assert len(winners(at_once(2, act))) == 1


def test_compare_and_swap_of_an_alias(store, new_encoder):
    for _ in range(3):
        new_encoder(store, "faces")
    with store.begin() as tx:
        etag = encoders.aliases.put(tx, "faces", "prod", 1).etag

    def put(i):
        with store.begin() as tx:
            return encoders.aliases.put(tx, "faces", "prod", 2 + i % 2, if_match=etag)

    results = at_once(MANY, put)
    assert len(winners(results)) == 1
    assert sum(isinstance(result, PreconditionFailed) for result in results) == MANY - 1
    with store.session() as tx:
        assert len(encoders.aliases.history(tx, "faces", "prod")) == 2


def test_aliases_move_while_versions_are_deleted(store, new_encoder):
    new_encoder(store, "faces")
    new_encoder(store, "faces")

    def act(i):
        with store.begin() as tx:
            if i % 2:
                return encoders.delete(tx, "faces@1")
            return encoders.aliases.put(tx, "faces", f"a{i}", 1)

    at_once(MANY, act)
    with store.session() as tx:
        left = encoders.get_by_ref(tx, "faces@1")
        aliased = encoders.get_by_ref(tx, "faces:a0")
    assert left == aliased


def test_one_of_many_requests_with_one_key_does_the_work(store):
    def request(i):
        with store.begin() as tx:
            replay = idempotency.begin(tx, key="k", scope="s", fingerprint="f")
            if replay is not None:
                return replay.body
            idempotency.finish(tx, key="k", scope="s", status=202, headers={}, body=str(i).encode())
        return str(i).encode()

    assert len(set(at_once(MANY, request))) == 1


def test_one_of_many_holds_a_singleton(store):
    def hold(i):
        with store.begin() as tx:
            return singletons.try_hold(tx, "reaper", f"o{i}", 60) or None

    assert len(winners(at_once(MANY, hold))) == 1


PROCESS = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from service.store import jobs, open_store

data_dir, url, owner, *job_ids = sys.argv[1:]
store = open_store(SimpleNamespace(data_dir=Path(data_dir), database_url=url, blob_url=""))
print("ready", flush=True)
sys.stdin.readline()
won = []
for job_id in job_ids:
    with store.begin() as tx:
        lease = jobs.take_lease(tx, job_id, owner=owner, lease_s=60)
    if lease is not None:
        won.append(job_id)
        with store.begin() as tx:
            jobs.add_events(tx, lease, [("log", {"line": owner})])
store.close()
print(json.dumps(won))
"""


def start(settings, owner, *job_ids):
    """A process that has opened the store and waits for a line."""
    arguments = [str(settings.data_dir), settings.database_url, owner, *job_ids]
    return subprocess.Popen([sys.executable, "-c", PROCESS, *arguments], stdin=-1, stdout=-1, text=True)


@pytest.mark.slow
def test_processes_share_the_jobs(store, store_settings, new_job):
    job_ids = [new_job(store).id for _ in range(20)]
    takers = [start(store_settings, f"p{i}", *job_ids) for i in range(3)]
    for taker in takers:
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        taker.stdin.write("go\n")
        taker.stdin.flush()
    won = [json.loads(taker.communicate(timeout=120)[0]) for taker in takers]
    assert sorted(job_id for each in won for job_id in each) == sorted(job_ids)


def test_one_of_many_rollbacks_with_the_same_tag_counts(store, new_encoder):
    for _ in range(2):
        new_encoder(store)
    with store.begin() as tx:
        aliases.put(tx, "faces", "prod", 1)
        tag = aliases.put(tx, "faces", "prod", 2).etag

    def act(i):
        with store.begin() as tx:
            if i % 2:
                return aliases.rollback(tx, "faces", "prod", if_match=tag)
            return aliases.put(tx, "faces", "prod", 1, if_match=tag)

    results = at_once(MANY, act)
    assert len(winners(results)) == 1
    assert {type(result) for result in results} == {Alias, PreconditionFailed}
    with store.session() as tx:
        assert [move.version for move in aliases.history(tx, "faces", "prod")] == [1, 2, 1]


def test_one_of_many_creates_an_alias(store, new_encoder):
    for _ in range(MANY):
        new_encoder(store)

    def create(i):
        with store.begin() as tx:
            return aliases.put(tx, "faces", "prod", i + 1, if_none_match="*")

    (created,) = winners(at_once(MANY, create))
    with store.session() as tx:
        assert aliases.get(tx, "faces", "prod") == created
        assert len(aliases.history(tx, "faces", "prod")) == 1


def test_moves_without_conditions_are_all_in_the_history(store, new_encoder):
    for _ in range(2):
        new_encoder(store)

    def move(i):
        with store.begin() as tx:
            return (
                aliases.put(tx, "faces", "prod", 1 + i % 2)
                if i % 3
                else aliases.rollback(tx, "faces", "prod")
            )

    at_once(MANY, move)
    with store.session() as tx:
        moves = aliases.history(tx, "faces", "prod")
        versions = [move.version for move in moves]
        assert aliases.get(tx, "faces", "prod").version == versions[0]
    assert all(a != b for a, b in itertools.pairwise(versions)), versions
    assert [move.etag for move in moves] == [f'"{n}"' for n in range(len(moves), 0, -1)]
