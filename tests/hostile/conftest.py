"""Servers for hostile input: real processes, small limits of time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hostile import stack
from benchmarks.hostile.stack import Stack


@pytest.fixture(scope="session")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One server for the corpus and for names: open on loopback."""
    with stack.serving(
        tmp_path_factory.mktemp("hostile"), body_timeout_s=1.5, decode_processes=2, ingest_timeout_s=60
    ) as server:
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
