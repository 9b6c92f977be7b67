"""What kind of file this is, by content, and the source that reads it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from nidim.data import pixels
from nidim.data.arrays import is_npz
from nidim.data.folders import FolderSource
from nidim.data.headers import MAGIC
from nidim.data.index import Format
from nidim.data.limits import ImageLimits
from nidim.data.members import Source
from nidim.data.tables import TableSource
from nidim.data.tars import TarSource, is_tar
from nidim.data.zips import ZipSource
from nidim.errors import BadImage, DataError

SOURCES: dict[str, Callable[[Path, ImageLimits], Source]] = {
    "zip": ZipSource,
    "tar": TarSource,
    "parquet": TableSource,
    "folder": FolderSource,
}
"""Formats made of members; to add one, write a Source and name it here and in ``sniff``."""


def sniff(path: Path) -> Format:
    """The format of a file or folder. Raises DataError for anything else."""
    if path.is_dir():
        return "folder"
    if not path.is_file() or path.stat().st_size == 0:
        raise DataError("The file is empty or missing.")
    with path.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(MAGIC):
        return "npy"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        return "npz" if is_npz(path) else "zip"
    if is_tar(path):
        return "tar"
    raise DataError(_what_it_is(path, head))


def open_source(path: Path, kind: Format, limits: ImageLimits) -> Source:
    return SOURCES[kind](path, limits)


def _what_it_is(path: Path, head: bytes) -> str:
    if head.startswith(b"PK"):
        return "The zip is damaged or incomplete; send it again."
    if _is_image(path):
        return "This is a single image; send an archive of images."
    return "Neither a zip, tar, tar.gz, npz, npy nor parquet file."


def _is_image(path: Path) -> bool:
    with path.open("rb") as stream:
        data = stream.read(2**20)
    try:
        pixels.read_header(data, beginning=True)
    except BadImage:
        return False
    return True
