"""A backup of a server at work, and a server on what was restored: it answers as the first one did."""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from service.backup import backup_command, restore_command

KIND = {"content-type": "application/x-npy", "accept": "application/x-npy"}


def run(command: Any, *arguments: object, **settings: str) -> str:
    env = {f"NIDIM_{name.upper()}": value for name, value in settings.items()}
    result = CliRunner().invoke(command, [str(one) for one in arguments], env=env, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_server_at_work_is_backed_up_and_another_goes_on(
    start_server: Any, add_encoder: Any, empty: Any, use_s3: Any, s3_endpoint: str, new_bucket: Any, tmp_path: Any,
    npy: Any, pictures: Any, kind: str,
) -> None:  # fmt: skip
    if kind == "postgresql":
        use_s3()
    first, second = (
        empty(kind, f"s3://{new_bucket(s3_endpoint)}/blobs" if kind == "postgresql" else "") for _ in range(2)
    )

    def places(settings: Any) -> dict[str, str]:
        return {"database_url": settings.database_url, "blob_url": settings.blob_url}

    def embed(server: Any) -> bytes:
        answer = server.client.post("/v1/encoders/kept:live/embed", content=npy(pictures), headers=KIND)
        assert answer.status_code == 200
        return answer.content

    with start_server(first.data_dir, **places(first)) as server:
        add_encoder(server, "kept")
        server.client.put("/v1/encoders/kept/aliases/live", json={"version": 1}).raise_for_status()
        form = {"data": {"name": "cats"}, "files": {"file": ("cats.npy", npy(pictures))}}
        assert server.client.post("/v1/datasets", **form).status_code == 201
        spec = {"dataset": "cats", "encoder": {"kind": "conv", "dim": 2}}
        job = server.client.post("/v1/jobs", json={"spec": spec, "encoder": "next"}).json()
        rows, stop, busy = embed(server), threading.Event(), []

        def work() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                busy.append(embed(server) == rows)
                body = {"spec": {**spec, "seed": number}, "encoder": "busy"}
                busy.append(server.client.post("/v1/jobs", json=body).status_code == 202)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            out = run(backup_command, tmp_path / "b.tar", "--data-dir", first.data_dir, **places(first))
        finally:
            stop.set()
            worker.join()
        assert "Wrote" in out
        assert busy
        assert all(busy), "the server served as if nothing happened"
    run(restore_command, tmp_path / "b.tar", "--data-dir", second.data_dir, **places(second))
    with start_server(second.data_dir, **places(second)) as server:
        assert embed(server) == rows
        assert np.load(io.BytesIO(rows), allow_pickle=False).shape == (len(pictures), 2)
        assert server.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"
        assert server.client.get("/v1/datasets/cats").json()["state"] == "ready"
        assert server.client.get("/v1/encoders/kept").json()["state"] == "ready"
        assert server.client.delete("/v1/encoders/kept@1").status_code == 409
