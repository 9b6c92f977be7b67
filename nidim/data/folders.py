"""Members of a folder on this machine: for the command line, where the caller owns the files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from nidim.data.limits import ImageLimits, OverLimit
from nidim.data.members import NOT_REGULAR, Member, Wanted, clean, is_junk, is_wanted


class FolderSource:
    """The regular files below a folder, sorted by name; symbolic links inside are not followed."""

    def __init__(self, path: Path, limits: ImageLimits) -> None:
        self._root, self._limits = path, limits
        self._names = sorted(_walk(path, limits.max_members))
        self.total: int | None = len(self._names)

    def read(self, wanted: Wanted = None) -> Iterator[Member]:
        for ordinal, name in enumerate(self._names):
            shown = clean(name)
            if not is_junk(shown) and is_wanted(wanted, ordinal):
                data, problem = self._read(self._root / name)
                yield Member(ordinal, shown, data, problem)

    def _read(self, path: Path) -> tuple[bytes | None, str | None]:
        try:
            state = path.lstat()
            if not stat.S_ISREG(state.st_mode):
                return None, NOT_REGULAR
            if state.st_size > self._limits.max_member_bytes:
                return None, f"over the limit of {self._limits.max_member_bytes} bytes a file"
            return path.read_bytes(), None
        except OSError as exc:
            return None, f"cannot be read: {exc.strerror}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def _walk(root: Path, most: int) -> Iterator[str]:
    count = 0
    for folder, _, files in os.walk(root, followlinks=False):
        for file in files:
            count += 1
            if count > most:
                raise OverLimit(f"The folder has more files than the limit of {most}.")
            yield (Path(folder) / file).relative_to(root).as_posix()
