"""Files of an encoder onto this machine: verified, whole or not at all, and nowhere but in the directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from nidim.client.calls import Calls, unreachable
from nidim.client.errors import DownloadDamaged, NidimServerError, ServerUnreachable
from nidim.client.retry import Tries
from nidim.client.transport import Call
from nidim.client.values import FileInfo

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
CHUNK = 1 << 20


def place_of(directory: Path, file: FileInfo) -> Path:
    """Where a file goes. Raises DownloadDamaged for a name that is more than a name, whatever the server says."""
    if not PLAIN_NAME.fullmatch(file.name):
        raise DownloadDamaged(
            f"The server lists a file of an unsafe name, {file.name[:100]!r}; nothing is written."
        )
    return directory / file.name


def is_there(path: Path, file: FileInfo) -> bool:
    """Whether this very content is there already."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == file.digest


async def fetch(calls: Calls, path: str, file: FileInfo, directory: Path) -> Path:
    """Write ``file``; it appears under its name once it is whole and its SHA-256 is right. Raises DownloadDamaged."""
    place = place_of(directory, file)
    if is_there(place, file):
        return place
    tries = Tries(calls.policy)
    while True:
        try:
            with _temporary(directory) as part:
                with part.open("xb") as stream:
                    await _copy(calls, f"{path}/files/{file.name}", file, stream)
                return part.replace(place)  # a link that stands there is replaced, not followed
        except (NidimServerError, ServerUnreachable) as error:
            wait_s = tries.after(error if isinstance(error, NidimServerError) else None)
            if wait_s is None:
                raise
            await calls.transport.sleep(wait_s)


def write_manifest(directory: Path, files: Sequence[FileInfo], digest: str) -> None:
    """``manifest.json`` as a training leaves it beside its files; see ``nidim.stored``."""
    listed = {file.name: {"sha256": file.digest.removeprefix("sha256:"), "size": file.size} for file in files}
    with _temporary(directory) as part:
        part.write_text(json.dumps({"files": listed, "digest": digest}, indent=1))
        part.replace(directory / "manifest.json")


async def _copy(calls: Calls, path: str, file: FileInfo, stream: BinaryIO) -> None:
    digest, size = hashlib.sha256(), 0
    call = Call(method="GET", path=path, headers={"Accept": "*/*"})
    async with contextlib.AsyncExitStack() as stack:
        answer = await stack.enter_async_context(calls.once(call))
        pieces: AsyncGenerator[bytes, None] = calls.transport.pieces(answer)
        await stack.enter_async_context(contextlib.aclosing(pieces))
        with unreachable(path):
            async for piece in pieces:
                size += len(piece)
                if size > file.size:
                    break
                digest.update(piece)
                stream.write(piece)
    if size != file.size or f"sha256:{digest.hexdigest()}" != file.digest:
        raise DownloadDamaged(
            f"{file.name} is not what the server lists ({file.size} bytes, {file.digest}); download it again."
        )


@contextlib.contextmanager
def _temporary(directory: Path) -> Iterator[Path]:
    """The name of a new file in ``directory``, gone afterwards unless it was renamed."""
    path = directory / f".nidim-{secrets.token_hex(8)}.part"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
