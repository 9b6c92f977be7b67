"""A checkup of the truth: the database against the blobs and back, and what dead processes left behind.

    for case in examine(patient):       every finding, in a sentence with what to do
        case.repair and case.repair()   where a repair is safe, also while a server runs

What is found is looked at a second time before it is reported: a running server changes things meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

from service.store.checkup import disk, files, rows
from service.store.checkup.findings import Case, Finding, Patient
from service.store.checkup.rows import unreadable

__all__ = ["Case", "Finding", "Patient", "examine", "unreadable"]

CHECKS = (
    rows.database,
    files.references,
    files.outdated_damage,
    rows.jobs_and_datasets,
    rows.keys,
    disk.remains,
)


def examine(patient: Patient) -> Iterator[Case]:
    """All findings, the worst first."""
    for check in CHECKS:
        yield from check(patient)
