"""The table of contents of a backup."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

NAME = "manifest.json"
BLOBS = "blobs.jsonl"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
TableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,62}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableEntry(_Frozen):
    """The rows of one table."""

    rows: int = Field(ge=0)
    sha256: Sha256


class BlobEntry(_Frozen):
    """One blob, a line of blobs.jsonl."""

    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: int = Field(ge=0)


class Lacking(_Frozen):
    """A blob that could not be copied, because it was gone or damaged when the backup was made."""

    digest: str
    why: str


class Manifest(_Frozen):
    """``schema_revision`` is that of the rows; ``lacking`` is empty in a whole backup."""

    format_version: Literal[1] = 1
    nidim: str
    schema_revision: str
    created_at: datetime
    tables: dict[TableName, TableEntry]
    blobs: int = Field(ge=0)
    blob_bytes: int = Field(ge=0)
    blobs_sha256: Sha256
    lacking: tuple[Lacking, ...] = ()

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for table in self.tables.values())


def table_file(name: str) -> str:
    """Where the rows of a table stand."""
    return f"database/{name}.jsonl"
