"""Datasets at a server: list, read, upload, delete."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
import zipfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from nidim.client.calls import JSON, Calls, new_key, segment
from nidim.client.drive import Awaiting, Blocking, method, stream
from nidim.client.errors import IngestionFailed, WaitTimeout
from nidim.client.progress import Moved, transferring
from nidim.client.transport import Call
from nidim.client.values import DatasetInfo

FIRST_LOOK_S, SLOWEST_LOOK_S = 0.1, 2.0
ANSWER_S = 600.0
"""The server answers an upload once all of it is on its disk."""


class DatasetsLogic:
    """What both kinds of client can do with datasets."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @stream
    async def list(self) -> AsyncGenerator[DatasetInfo, None]:
        """Uploaded datasets, newest first, then the built-in ones."""
        async with contextlib.aclosing(self._calls.listed("/v1/datasets")) as items:
            async for item in items:
                yield DatasetInfo.model_validate(item)

    @method
    async def get(self, name: str) -> DatasetInfo:
        """One dataset. Raises NotFound."""
        return await self._get(name)

    @method
    async def upload(
        self,
        name: str,
        file: str | Path,
        *,
        license: str | None = None,  # noqa: A002 - the field's name in the API
        wait: bool = True,
        timeout_s: float | None = None,
        progress: bool = False,
        moved: Moved | None = None,
    ) -> DatasetInfo:
        """Upload an archive of images, an .npz, .npy or .parquet file, and wait until the server has read it.

        Of a directory a .zip is made first, where temporary files go, without what is hidden; the folders in it are
        classes. The file is read from disk as it is sent; ``moved(done, total)`` hears of its bytes, ``progress`` shows
        a bar. With ``wait=False`` the dataset comes back in the state ingesting. Raises IngestionFailed, WaitTimeout
        (the ingestion goes on), Conflict where the name is taken, ValueError for a directory without files.
        """
        with (
            _file(Path(file)) as path,
            transferring(path.name, show=progress, moved=moved) as told,
            _Told(path, told) as source,
        ):
            call = Call(
                method="POST",
                path="/v1/datasets",
                headers={"Idempotency-Key": new_key(), "Prefer": "respond-async", "Accept": JSON},
                body=lambda: _form(name, license, source, path.name),
                repeatable=True,
                read_timeout_s=ANSWER_S,
            )
            found = DatasetInfo.model_validate((await self._calls.answer(call)).json())
        return await self._ingested(found, timeout_s) if wait else found

    @method
    async def wait(self, name: str, *, timeout_s: float | None = None) -> DatasetInfo:
        """Wait until an uploaded dataset has been read. Raises IngestionFailed, WaitTimeout, NotFound."""
        return await self._ingested(await self._get(name), timeout_s)

    @method
    async def delete(self, name: str) -> None:
        """Delete an uploaded dataset; not while a job needs it (Conflict)."""
        await self._calls.change("DELETE", f"/v1/datasets/{segment(name)}")

    async def _get(self, name: str) -> DatasetInfo:
        return DatasetInfo.model_validate(await self._calls.get(f"/v1/datasets/{segment(name)}"))

    async def _ingested(self, found: DatasetInfo, timeout_s: float | None) -> DatasetInfo:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = FIRST_LOOK_S
        while found.state == "ingesting":
            if deadline_s is not None and time.monotonic() + pause_s > deadline_s:
                raise WaitTimeout(f"Dataset {found.name} is still being read; the server goes on with it.")
            await self._calls.transport.sleep(pause_s)
            pause_s = min(SLOWEST_LOOK_S, 1.5 * pause_s)
            found = await self._get(found.name)
        if found.state == "failed":
            error = found.error or {}
            message = str(error.get("detail") or error.get("message") or "the server names no reason")
            raise IngestionFailed(found.name, code=str(error.get("code", "unknown")), message=message)
        return found


@contextlib.contextmanager
def _file(path: Path) -> Iterator[Path]:
    """``path``, or a .zip of the directory that it is, which is gone afterwards."""
    if not path.is_dir():
        yield path
        return
    names = sorted(name for name in path.rglob("*") if name.is_file() and not _hidden(name.relative_to(path)))
    if not names:
        raise ValueError(f"{path} holds no files")
    with tempfile.TemporaryDirectory(prefix="nidim-") as scratch:
        written = Path(scratch) / f"{path.resolve().name}.zip"
        with zipfile.ZipFile(
            written, "w", strict_timestamps=False
        ) as archive:  # stored: images are compressed
            for name in names:
                archive.write(name, name.relative_to(path))
        yield written


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


class _Told(io.FileIO):
    """A file that tells how much of it has been read; a second reading starts again at nothing."""

    def __init__(self, path: Path, moved: Moved) -> None:
        super().__init__(path, "rb")
        self._moved, self._total = moved, os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> Any:
        data = super().read(-1 if size is None else size)
        if data:
            self._moved(self.tell(), self._total)
        return data


def _form(name: str, license_: str | None, source: io.FileIO, filename: str) -> dict[str, Any]:
    fields = {"name": name} if license_ is None else {"name": name, "license": license_}
    return {"data": fields, "files": {"file": (filename, source, "application/octet-stream")}}


class Datasets(DatasetsLogic, Blocking):
    """Datasets at a server."""


class AsyncDatasets(DatasetsLogic, Awaiting):
    """Datasets at a server, for asyncio."""
