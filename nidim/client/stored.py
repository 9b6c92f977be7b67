"""What an encoder and a generator at a server have in common: one version of a name, with files and a report."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Generic, TypeVar

from nidim.client.calls import Calls, segment
from nidim.client.download import fetch, write_manifest
from nidim.client.drive import method
from nidim.client.embedding import Batching
from nidim.client.values import EncoderInfo, FileInfo

Info = TypeVar("Info", bound=EncoderInfo)


class StoredLogic(Generic[Info]):
    """One version; ``info`` is what the server said of it."""

    collection: str
    """Of the path."""

    def __init__(self, calls: Calls, info: Info, batching: Batching) -> None:
        self._calls, self.info, self._batching = calls, info, batching
        self._path = f"/v1/{self.collection}/{segment(info.id)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ref}, d = {self.dim}>"

    @property
    def id(self) -> str:
        """``enc_…`` or ``gen_…``."""
        return self.info.id

    @property
    def ref(self) -> str:
        """``name@version``."""
        return f"{self.info.name}@{self.info.version}"

    @property
    def dim(self) -> int:
        """d."""
        return self.info.dim

    @method
    async def report(self) -> dict[str, Any]:
        """The full report; its key figures are in ``info.report``."""
        report: dict[str, Any] = await self._calls.get(f"{self._path}/report")
        return report

    @method
    async def files(self) -> list[FileInfo]:
        """The files, with sizes and digests."""
        return await self._files()

    @method
    async def download(self, directory: str | Path, *, names: Collection[str] | None = None) -> list[Path]:
        """Write the files (or those of ``names``) into ``directory``, each verified by its SHA-256.

        What is there already is not fetched again. With all of them comes ``manifest.json``, by which whoever loads the
        directory notices that a file was altered. Raises DownloadDamaged; ValueError for a name that is not listed.
        """
        place = Path(directory)
        files = await self._files()
        unknown = set(names or ()) - {file.name for file in files}
        if unknown:
            raise ValueError(f"{self.ref} has no file {', '.join(sorted(unknown))}")
        place.mkdir(parents=True, exist_ok=True)
        wanted = [file for file in files if names is None or file.name in names]
        paths = [await fetch(self._calls, self._path, file, place) for file in wanted]
        if names is None:
            write_manifest(place, wanted, self.info.digest)
        return paths

    @method
    async def delete(self) -> None:
        """Delete this version; not while an alias points to it (Conflict)."""
        await self._calls.change("DELETE", self._path)

    async def _files(self) -> list[FileInfo]:
        page = await self._calls.get(f"{self._path}/files")
        return [FileInfo.model_validate(item) for item in page["items"]]
