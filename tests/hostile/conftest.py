"""Servers for hostile input: real processes, small limits of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile import stack
from benchmarks.hostile.stack import Stack


@pytest.fixture(scope="session")
def hostile_server(
    column: str,
    place_in: Callable[[str], AbstractContextManager[dict[str, str]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """One server in each column for the corpus: open on loopback."""
    directory = tmp_path_factory.mktemp("hostile")
    quick: dict[str, Any] = {"body_timeout_s": 1.5, "decode_processes": 2, "ingest_timeout_s": 60}
    with place_in(column) as place, stack.serving(directory, **quick, **place) as server:
        yield server


@pytest.fixture(scope="session")
def faulty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server whose decoders fail as ``faults/sitecustomize.py`` says; three seconds of patience."""
    with stack.serving(
        tmp_path_factory.mktemp("faulty"),
        python_path=Path(__file__).parent / "faults",
        decode_processes=2,
        decode_timeout_s=3,
    ) as server:
        yield server
