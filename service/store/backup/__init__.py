"""Backups: all rows at one moment and the blobs that they refer to, in a folder or a .tar, and back.

    manifest.json                 what there is, with the SHA-256 of every other file
    database/<table>.jsonl        the rows, one a line; the same from SQLite and PostgreSQL
    blobs.jsonl                   digest and size of every blob
    blobs/ab/cd/<hex>             the blobs; their names are their digests

The rows are read in one transaction that sees one state. No blob is deleted until all of them are copied
(``retention.HOLD``), so what a row of that state refers to is there. Leases of processes are left out. A key is stored
as an HMAC under a pepper that is not in the database, and so not in a backup: nobody gets in with what is in one.
"""

from service.store.backup.manifest import Manifest
from service.store.backup.reading import BadBackup, NotEmpty, restore
from service.store.backup.writing import write

__all__ = ["BadBackup", "Manifest", "NotEmpty", "restore", "write"]
