"""What must hold whatever was killed; each check says in words what it found broken."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx

from service.store import Store, datasets, encoders, events, jobs
from service.store.encoders import Encoder
from tests.chaos.load import Load, client
from tests.chaos.processes import command_line, marked, parent
from tests.chaos.stacks import WORDS, Stack

WEIGHTS = "model.safetensors"
ORPHAN_AFTER_LOOKS = 4
"""Half a second apart: a training has so long to notice that its runner is gone."""


class OrphanWatch:
    """Looks all the time for trainings whose parent is no worker any more."""

    def __init__(self, stack: Stack) -> None:
        self.found: set[str] = set()
        self.looks = 0
        self._stack, self._seen = stack, Counter[int]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orphans", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.5):
            self.looks += 1
            orphans = {pid for pid in self._stack.pids("training") if not self._has_runner(pid)}
            self._seen = Counter({pid: self._seen[pid] + 1 for pid in orphans})
            self.found |= {
                f"training {pid} outlived its runner"
                for pid, looks in self._seen.items()
                if looks >= ORPHAN_AFTER_LOOKS
            }

    def _has_runner(self, pid: int) -> bool:
        above = parent(pid)
        words = command_line(above)
        return WORDS["worker"] in words or WORDS["forkserver"] in words

    def close(self) -> list[str]:
        """Stop looking; what was found."""
        self._over.set()
        self._thread.join()
        return sorted(self.found)


def check(stack: Stack, load: Load) -> dict[str, Any]:
    """Every check; ``{"violations": […], counts}``. The stack must still answer: encoders are embedded with."""
    store = stack.open_store()
    try:
        found = [*_jobs(store, load), *_events(store, load)]
        versions = _all_encoders(store)
        found += [*_registered_once(store, load, versions), *_whole(store, versions)]
        found += [*_weights(store, load, versions), *_embeds(stack, versions)]
        found += [*_heard(store, load), *_cancelled(store, load), *_uploads(store, load)]
        states = Counter(
            _job(store, job_id).state for job_id in load.tally.accepted if _exists(store, job_id)
        )
        failures = [_job(store, job_id).failure for job_id in load.tally.accepted if _exists(store, job_id)]
    finally:
        store.close()
    found += load.tally.doubled
    if load.tally.wrong_vectors:
        found.append(f"{load.tally.wrong_vectors} embeddings were not the same as before")
    return {
        "violations": found,
        "accepted": len(load.tally.accepted),
        "states": dict(states),
        "failures": [failure for failure in failures if failure],
        "encoder_versions": len(versions),
        "weights_compared": sum(version.name != "reference" for version in versions),
        "sent_twice": load.tally.sent_twice,
        "cancellations": len(load.tally.cancelled),
        "uploaded": len(load.tally.uploaded),
        "upload_failures": dict(load.tally.upload_failures),
        "streams": sum(heard.streams for heard in load.readers.heard.values()),
        "streamed_events": sum(len(heard.ids) for heard in load.readers.heard.values()),
        "streamed_jobs": sum(heard.ended for heard in load.readers.heard.values()),
    }


def _exists(store: Store, job_id: str) -> bool:
    with store.session() as tx:
        return jobs.get(tx, job_id) is not None


def _job(store: Store, job_id: str) -> jobs.Job:
    with store.session() as tx:
        job = jobs.get(tx, job_id)
    assert job is not None
    return job


def _jobs(store: Store, load: Load) -> Iterator[str]:
    """None lost, none that nobody asked for, all of them ended."""
    with store.session() as tx:
        known, cursor = {}, None
        while True:
            page = jobs.list_(tx, limit=200, cursor=cursor)
            known |= {job.id: job for job in page.items}
            if (cursor := page.next_cursor) is None:
                break
    yield from (f"{job_id} was accepted and is lost" for job_id in load.tally.accepted if job_id not in known)
    yield from (
        f"{job_id} was never accepted by a client" for job_id in known if job_id not in load.tally.accepted
    )
    yield from (f"{job.id} is {job.state} for ever" for job in known.values() if not job.is_terminal)


def _log(store: Store, job_id: str) -> list[events.Event]:
    log: list[events.Event] = []
    with store.session() as tx:
        while page := events.list_after(tx, job_id, log[-1].id if log else 0):
            log += page
    return log


def _heard(store: Store, load: Load) -> Iterator[str]:
    """Every reader of events had each of its job once and in order, over all its streams."""
    for job_id, heard in list(load.readers.heard.items()):
        last = len(_log(store, job_id)) if heard.ended else len(heard.ids)
        if heard.refused:
            yield f"{job_id}: its events were answered {heard.refused[0]}"
        if heard.ids != list(range(1, last + 1)):
            yield f"{job_id}: of {last} events a reader heard {len(heard.ids)}, over {heard.streams} streams"


def _cancelled(store: Store, load: Load) -> Iterator[str]:
    """A job ends cancelled only if somebody asked for it, and not as if nobody had."""
    for job_id in load.tally.accepted:
        state, asked = (
            _job(store, job_id).state if _exists(store, job_id) else "",
            job_id in load.tally.cancelled,
        )
        if (state == "cancelled" and not asked) or (asked and state not in ("cancelled", "succeeded")):
            yield f"{job_id}: its cancellation was {'' if asked else 'not '}accepted and it is {state}"


def _uploads(store: Store, load: Load) -> Iterator[str]:
    """What was answered 201 is ready and whole; what was not is our fault only where something is away."""
    for status in set(load.tally.upload_failures) & {"500", "502", "504"}:
        yield f"{load.tally.upload_failures[status]} uploads were answered {status}"
    for name, digest in load.tally.uploaded.items():
        with store.session() as tx:
            dataset = datasets.get(tx, name)
        if dataset is None or dataset.state != "ready" or dataset.digest != digest:
            yield f"the dataset {name} was answered 201 and is {dataset and dataset.state}"
            continue
        for blob in (dataset.blob_digest, dataset.index_digest):
            try:
                store.blobs.verify(blob or "")
            except Exception as error:
                yield f"the dataset {name} is torn: {error}"


def _events(store: Store, load: Load) -> Iterator[str]:
    """Ids from 1 without a gap; one terminal state, at the very end."""
    for job_id in load.tally.accepted:
        log = _log(store, job_id)
        if [event.id for event in log] != list(range(1, len(log) + 1)):
            yield f"{job_id}: its events have gaps"
        ends = [event for event in log if event.type == "state" and event.data["state"] in jobs.TERMINAL]
        if len(ends) != 1 or ends[0] is not log[-1]:
            yield f"{job_id}: {len(ends)} terminal states, or something after one"


def _all_encoders(store: Store) -> list[Encoder]:
    found, cursor = [], None
    while True:
        with store.session() as tx:
            page = encoders.list_(tx, limit=200, cursor=cursor)
            found += [encoders.get_by_ref(tx, row.id) for row in page.items]
        if (cursor := page.next_cursor) is None:
            return found


def _registered_once(store: Store, load: Load, versions: list[Encoder]) -> Iterator[str]:
    by_job = Counter(version.job_id for version in versions)
    yield from (f"{job_id} registered {count} encoders" for job_id, count in by_job.items() if count > 1)
    for job_id in load.tally.accepted:
        if _exists(store, job_id):
            succeeded = _job(store, job_id).state == "succeeded"
            if succeeded != (by_job[job_id] == 1):
                yield f"{job_id}: succeeded is {succeeded}, encoders {by_job[job_id]}"
    for name in {version.name for version in versions}:
        numbers = sorted(version.version for version in versions if version.name == name)
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{name}: its versions are {numbers}"


def _whole(store: Store, versions: list[Encoder]) -> Iterator[str]:
    """Every file of every version is there and is what its digest says."""
    for version in versions:
        for name, file in version.files.items():
            try:
                data = store.blobs.read(file.digest)
            except Exception as error:
                yield f"{version.name}@{version.version}: {name} is torn: {error}"
                continue
            if "sha256:" + hashlib.sha256(data).hexdigest() != file.digest or len(data) != file.size:
                yield f"{version.name}@{version.version}: {name} is torn"
            elif name.endswith(".json"):
                json.loads(data)


def _weights(store: Store, load: Load, versions: list[Encoder]) -> Iterator[str]:
    """Weights are those of the uninterrupted training of the same seed, to the bit."""
    by_job = {version.job_id: version for version in versions}
    for seed, reference in load.references.items():
        wanted = by_job[reference].files[WEIGHTS].digest
        for job_id, its_seed in load.tally.accepted.items():
            version = by_job.get(job_id)
            if its_seed == seed and version is not None and version.files[WEIGHTS].digest != wanted:
                yield f"{version.name}@{version.version}: other weights than an uninterrupted training of seed {seed}"


def _embeds(stack: Stack, versions: list[Encoder]) -> Iterator[str]:
    """Every version serves."""
    with client(stack, timeout=60) as http:
        for version in versions:
            ref = f"{version.name}@{version.version}"
            try:
                answer = http.post(f"/v1/encoders/{ref}/prior/sample", json={"n": 2, "seed": 1})
                embedded = http.post(
                    f"/v1/encoders/{ref}/embed",
                    json={"images": [PIXEL]},
                    headers={"Accept": "application/json"},
                )
            except httpx.HTTPError as error:
                yield f"{ref} does not serve: {error}"
                continue
            if answer.status_code != 200 or embedded.status_code != 200:
                yield f"{ref} does not serve: {answer.status_code}, {embedded.status_code} {embedded.text[:200]}"


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
"""A gray PNG of one pixel."""


def leftovers(stack: Stack) -> list[str]:
    """Processes that are still there although the stack was stopped."""
    return [f"left behind: {command_line(pid)[:120]}" for pid in marked(stack.mark)]
