"""The truth: jobs, events, datasets, encoders, aliases and keys in a database, files in a blob store.

    store = open_store(settings)                  migrates an old or empty database first
    with store.begin() as tx:                     one transaction; committed at the end, rolled back by an exception
        job = jobs.create(tx, kind="train", ...)
    with store.session() as tx:                   for reading only
        page = jobs.list_(tx, limit=50)

Every function takes the transaction first and never commits. What they return is frozen and outlives the transaction.
All decisions about time (leases, expiry) are taken on the database's clock. Errors are those of ``service.errors``.
Open a store after a fork, never before: connections do not survive one.
"""

from service.store import (
    audit,
    cache,
    damage,
    datasets,
    encoders,
    events,
    idempotency,
    jobs,
    keys,
    quota,
    references,
    retention,
    singletons,
)
from service.store.blobs import Blobs
from service.store.clock import rfc3339
from service.store.paging import Page
from service.store.store import Store, StoreSettings, open_store

__all__ = [
    "Blobs",
    "Page",
    "Store",
    "StoreSettings",
    "audit",
    "cache",
    "damage",
    "datasets",
    "encoders",
    "events",
    "idempotency",
    "jobs",
    "keys",
    "open_store",
    "quota",
    "references",
    "retention",
    "rfc3339",
    "singletons",
]
