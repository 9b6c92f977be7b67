"""The client and a real server: that of the API's tests."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nidim.client import Client, RetryPolicy
from service.store import jobs
from tests.service.api.conftest import (
    Server,
    add_encoder,
    bundles,
    encoder,
    image_file,
    pictures,
    server,
    start_server,
    uniform_encoder,
)

__all__ = [
    "add_encoder",
    "bundles",
    "encoder",
    "image_file",
    "pictures",
    "server",
    "start_server",
    "uniform_encoder",
]

SPEC = {"dataset": "digits", "encoder": {"kind": "conv", "dim": 2}}
QUICK = RetryPolicy(total_s=30, base_s=0.02, most_s=0.2)


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(server.url, retry=QUICK) as opened:
        yield opened


@pytest.fixture
def quick() -> RetryPolicy:
    """Waits that a test has time for."""
    return QUICK


@pytest.fixture(scope="session")
def lease() -> Callable[..., jobs.Lease]:
    """``lease(server, job_id)``: as if a worker had taken the job."""

    def take(at: Server, job_id: str) -> jobs.Lease:
        with at.store.begin() as tx:
            taken = jobs.take_lease(tx, job_id, owner="test", lease_s=60)
        assert taken is not None
        return taken

    return take


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray[Any, Any]) -> Any:
    """A file with images and labels."""
    path = tmp_path_factory.mktemp("upload") / "mine.npz"
    stream = io.BytesIO()
    np.savez(stream, images=pictures, labels=np.arange(len(pictures)) % 2)
    path.write_bytes(stream.getvalue())
    return path
