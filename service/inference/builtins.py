"""The built-in datasets as the API shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nidim.data.builtin import BUILTINS, builtin_available, builtin_facts
from nidim.spec import DatasetFacts

NAMES = tuple(BUILTINS)


def available(name: str, root: Path | None, *, allow_downloads: bool) -> bool:
    """Whether a job on it can run: its files are here, or may be downloaded."""
    return builtin_available(name, root) or allow_downloads


def present(name: str, root: Path | None) -> bool:
    """Whether its files are here."""
    return builtin_available(name, root)


def facts(name: str) -> DatasetFacts:
    """What a spec needs to know of it."""
    return builtin_facts(name)


def view(name: str, root: Path | None, *, allow_downloads: bool) -> dict[str, Any]:
    """The dataset in the form of API.md."""
    info = BUILTINS[name]
    return {
        "name": name,
        "kind": "builtin",
        "available": available(name, root, allow_downloads=allow_downloads),
        "state": "ready",
        "items": info.n_train + info.n_test,
        "classes": list(info.classes),
        "image": {"height": info.height, "width": info.width, "channels": info.channels},
        "splits": {"train": info.n_train, "test": info.n_test},
        "license": info.license,
        "digest": None,
    }
