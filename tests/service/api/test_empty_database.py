"""A PostgreSQL that came back empty: the service says so until a backup is restored, and begins nothing anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import create_engine, make_url, text

from benchmarks.tiny_encoder import register, write_bundle
from service.settings import Settings
from service.store import backup, open_store
from service.store.engine import database_url
from service.store.store import EmptyDatabase
from tests.chaos.load import npy, spec
from tests.chaos.processes import wait_for
from tests.service.api.conftest import Server, serving

pytestmark = pytest.mark.slow
NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}


def make_empty(url: str) -> None:
    """As after a restart on an empty disk: every connection is gone, the database is there and has no tables."""
    made = make_url(url)
    admin = create_engine(
        database_url(made.set(database="postgres").render_as_string(hide_password=False), Path()),
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {made.database} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {made.database}"))
    admin.dispose()


def embedded(server: Server) -> int:
    images = npy(np.zeros((2, 8, 8), dtype=np.uint8))
    return server.client.post("/v1/encoders/tiny/embed", content=images, headers=NPY).status_code


def test_an_emptied_database_is_no_new_one(tmp_path: Path, empty: Callable[..., SimpleNamespace]) -> None:
    url, blob_url = empty("postgresql").database_url, f"file://{tmp_path}/blobs"
    places = {"database_url": url, "blob_url": blob_url}
    with serving(tmp_path / "data", **places) as server:
        register(server.store, "tiny", tmp_path / "bundle", write_bundle(tmp_path / "bundle"))
        job = server.client.post("/v1/jobs", json={"spec": spec(1, 1), "encoder": "later"}).json()
        assert embedded(server) == 200
        backup.write(server.store, tmp_path / "before.tar")
        make_empty(url)

        for method, path in (
            ("GET", "/v1/jobs"),
            ("GET", f"/v1/jobs/{job['id']}"),
            ("GET", "/v1/encoders/tiny"),
        ):
            answer = server.client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
            assert answer.headers["retry-after"]
        again = server.client.post("/v1/jobs", json={"spec": spec(1, 1), "encoder": "later"})
        assert again.status_code == embedded(server) == 503
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/healthz").status_code == 200
        with pytest.raises(EmptyDatabase, match="nidim restore"):
            open_store(Settings(data_dir=tmp_path / "new", **places))

        backup.restore(tmp_path / "before.tar", Settings(data_dir=tmp_path / "restored", **places))
        wait_for(lambda: server.client.get("/readyz").status_code == 200, "it is ready again", 60)
        assert server.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"
        assert embedded(server) == 200
        assert (
            server.client.post("/v1/jobs", json={"spec": spec(1, 1), "encoder": "later"}).status_code == 202
        )
    open_store(Settings(data_dir=tmp_path / "new", **places)).close()
