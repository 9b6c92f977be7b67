"""Simulated runs that are kept: a file for each row and seed, found again while the row asks for the same."""

from __future__ import annotations

import abc
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nidim.reproduce.table import Row, Run
from nidim.spec.base import Part

if TYPE_CHECKING:
    from nidim.pipeline import Hooks

P = TypeVar("P", bound=Part)


class Kept(abc.ABC, Generic[P]):
    """The runs of one table below ``root``, and how missing ones are made; a row's changes are its settings ``P``."""

    settings: type[P]
    format = 1

    def __init__(self, root: Path) -> None:
        self._root = root

    @abc.abstractmethod
    def simulated(self, row: Row, wanted: P, seed: int, hooks: Hooks) -> dict[str, Any]:
        """What a run holds besides its row, seed, settings and duration."""

    def specs(self, row: Row) -> Mapping[str, tuple[type[Part], Any]]:
        """The settings of the row."""
        return {f"Row {row.name}": (self.settings, dict(row.changes))}

    def find(self, row: Row, seed: int) -> Run | None:
        """The stored run, if it was made by the settings that the row has now."""
        try:
            found: Run = json.loads(self._path(row, seed).read_text())
        except (OSError, ValueError):
            return None
        wanted = (self.format, self._wanted(row).model_dump(mode="json"))
        return found if (found.get("format"), found.get("settings")) == wanted else None

    def make(self, row: Row, seed: int, hooks: Hooks) -> Run:
        """Simulate and store."""
        wanted = self._wanted(row)
        began = time.perf_counter()
        found = self.simulated(row, wanted, seed, hooks)
        run = {
            "format": self.format,
            "row": row.name,
            "seed": seed,
            "settings": wanted.model_dump(mode="json"),
            **found,
            "wall_s": round(time.perf_counter() - began, 1),
        }
        path = self._path(row, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run, allow_nan=False) + "\n")
        return run

    def _wanted(self, row: Row) -> P:
        return self.settings.model_validate(dict(row.changes))

    def _path(self, row: Row, seed: int) -> Path:
        return self._root / f"{row.name}-seed{seed}.json"
