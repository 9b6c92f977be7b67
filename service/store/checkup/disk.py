"""Room: blobs that nothing refers to, what dead processes left, caches, the quota."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import islice

from service.store import cache, quota, retention, scratch
from service.store import references as needed
from service.store.checkup.findings import Case, Patient, note, problem
from service.store.store import Store

NEARLY = 0.9


def remains(patient: Patient) -> Iterator[Case]:
    """What takes room and is of no use, and whether room is short."""
    yield from _orphans(patient.store)
    yield from _leftovers(patient)
    yield from _room(patient)


def _orphans(store: Store) -> Iterator[Case]:
    before = store.clock() - retention.GRACE
    sizes = {blob.digest: blob.size for blob in store.blobs.list_() if blob.stored_at < before}
    orphans: list[str] = []
    digests = iter(sizes)
    while batch := list(islice(digests, retention.BATCH)):
        with store.session() as tx:
            orphans += needed.unused(tx, batch)
    if orphans:
        total = sum(sizes[digest] for digest in orphans)
        says = (
            f"{len(orphans)} blobs of {total} bytes are older than a day and nothing refers to them; the server "
            "deletes such blobs every hour. A repair does it now."
        )
        yield Case(note("blobs_orphaned", "blobs", says), functools.partial(retention.sweep, store))


def _leftovers(patient: Patient) -> Iterator[Case]:
    store, root = patient.store, patient.settings.data_dir
    before = store.clock() - retention.UNFINISHED
    found = {
        "blobs": (
            len(store.blobs.leftovers(before)),
            functools.partial(store.blobs.remove_leftovers, before),
        ),
        "scratch": (
            len(scratch.stale(store, root / "scratch")),
            functools.partial(scratch.remove_stale, store, root / "scratch"),
        ),
        "cache": (
            len(cache.unfinished(root / "cache")),
            functools.partial(cache.remove_unfinished, root / "cache"),
        ),
    }
    for subject, (count, repair) in found.items():
        if count:
            says = f"{count} files or folders were begun by processes that died. A repair deletes them."
            yield Case(note("leftovers", subject, says), repair)


def _room(patient: Patient) -> Iterator[Case]:
    settings = patient.settings
    with patient.store.session() as tx:
        left = quota.left_bytes(tx, settings)
    if left is not None and left < (1 - NEARLY) * settings.disk_quota_bytes:
        says = (
            f"{left} of {settings.disk_quota_bytes} bytes are left; beyond it uploads are refused and checkpoints "
            "left out. Delete datasets or encoders, shorten NIDIM_RETAIN_CHECKPOINTS_DAYS, or raise the quota."
        )
        yield Case(note("quota_nearly_used", "NIDIM_DISK_QUOTA_BYTES", says))
    if settings.disk_reserve_bytes and quota.disk_left_bytes(settings) < 0:
        says = (
            "The file system of data_dir has less than NIDIM_DISK_RESERVE_BYTES free: uploads are refused and "
            "checkpoints left out. Make room on it."
        )
        yield Case(problem("disk_full", "data_dir", says))
