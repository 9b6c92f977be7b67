"""What a checkup finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from service.store.quota import QuotaSettings
from service.store.store import Store


class CheckupSettings(QuotaSettings, Protocol):
    """The settings that a checkup needs."""

    @property
    def cache_max_bytes(self) -> int: ...
    @property
    def lease_s(self) -> float: ...
    @property
    def max_attempts_without_checkpoint(self) -> int: ...
    @property
    def republish_after_s(self) -> float: ...


@dataclass(frozen=True)
class Patient:
    """What is looked at; ``deep``: every blob is read and hashed. ``rebuild_index`` makes a dataset's index anew."""

    store: Store
    settings: CheckupSettings
    deep: bool = False
    rebuild_index: Callable[[str], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be. A problem needs somebody; a note goes away by itself or costs nothing."""

    level: Literal["problem", "note"]
    code: str
    subject: str
    says: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Case:
    """A finding and its repair, if there is a safe one; without ``mends`` the repair helps but the finding stays."""

    finding: Finding
    repair: Callable[[], object] | None = None
    mends: bool = True


def problem(code: str, subject: str, says: str) -> Finding:
    """A finding that needs somebody."""
    return Finding(level="problem", code=code, subject=subject, says=says)


def note(code: str, subject: str, says: str) -> Finding:
    """A finding that does not."""
    return Finding(level="note", code=code, subject=subject, says=says)
