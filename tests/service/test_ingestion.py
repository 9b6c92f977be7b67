"""What an upload leaves behind when the process that reads it dies."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from service import ingestion
from service.errors import IdempotencyInFlight
from service.ingestion import Ingestions, Upload
from service.replay import Once
from service.settings import Settings
from service.store import Store, datasets
from service.store.audit import By
from tests.waiting import wait_for

BY = By("open")
ONCE = Once(key="again", scope="open POST /v1/datasets", fingerprint="the same file", keep_s=60)


class Dying(Ingestions):
    """Of a process that dies while it reads: nothing is undone."""

    def _ingested(self, *_: Any) -> Any:
        raise KeyboardInterrupt

    def _undo(self, *_: Any, **__: Any) -> None:
        pass


def sent(scratch: Path) -> Upload:
    """Twelve pictures as they have just arrived."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for number in range(12):
            picture = io.BytesIO()
            Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(picture, "PNG")
            target.writestr(f"{number}.png", picture.getvalue())
    data = stream.getvalue()
    path = scratch / "upload"
    path.write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Upload(path=path, digest=digest, size=len(data), name="cats", license=None)


def test_the_key_of_an_upload_whose_process_died_is_free_when_its_dataset_is_found_dead(
    sqlite_store: Store, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, disk_reserve_bytes=0)
    dying = Dying(sqlite_store, settings, scratch=tmp_path)
    future = dying.begin(BY, sent(tmp_path), ONCE, detached=False)
    with pytest.raises(KeyboardInterrupt):
        future.result()
    dying.close()
    living = Ingestions(sqlite_store, settings, scratch=tmp_path)
    with pytest.raises(IdempotencyInFlight):
        living.begin(BY, sent(tmp_path), ONCE, detached=False)
    with sqlite_store.begin() as tx:
        assert datasets.fail_silent(tx, silent_s=-1) == ["cats"]
    made = living.begin(BY, sent(tmp_path), ONCE, detached=False).result()
    assert made.status_code == 201
    again = living.begin(BY, sent(tmp_path), ONCE, detached=False)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    living.close()


def test_an_upload_that_is_stored_slowly_is_not_taken_for_dead(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes into a far S3 take longer than the quarter of an hour after which silence means death."""
    monkeypatch.setattr(ingestion, "TOUCH_WAITING_S", 0.05)
    put_file, stored = sqlite_store.blobs.put_file, []

    def slowly(path: Path) -> tuple[str, int]:
        with sqlite_store.begin() as tx:
            tx.execute(text("UPDATE datasets SET touched_at = 1"))
        stored.append(wait_for(lambda: touched_at(sqlite_store) > 1))
        return put_file(path)

    monkeypatch.setattr(sqlite_store.blobs, "put_file", slowly)
    living = Ingestions(sqlite_store, Settings(data_dir=tmp_path, disk_reserve_bytes=0), scratch=tmp_path)
    made = living.begin(BY, sent(tmp_path), ONCE, detached=False).result()
    living.close()
    assert (made.status_code, stored) == (201, [True, True])


def touched_at(store: Store) -> int:
    """When the only dataset gave its last sign of life."""
    with store.session() as tx:
        return tx.execute(text("SELECT touched_at FROM datasets")).scalar_one()
