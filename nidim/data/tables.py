"""Members of a parquet table: a column of image bytes, and perhaps a label and a split.

The image column holds bytes, or a struct with a field ``bytes`` as Hugging Face writes it (a ``path`` beside it is
never opened). The label is an integer or a string, the split is called ``split``. pyarrow is imported on use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nidim.data.limits import ImageLimits, OverLimit
from nidim.data.members import Member, Wanted, is_wanted
from nidim.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_NAMES = ("image", "images", "img", "picture", "bytes")
LABEL_NAMES = ("label", "labels", "class", "target", "fine_label", "category")
ROWS = 64
"""Rows read at a time: a row may hold an image of many megabytes."""
BUFFER = 2**20


class TableSource:
    """The rows of a parquet file."""

    def __init__(self, path: Path, limits: ImageLimits) -> None:
        self._limits = limits
        self._file = _open(path, limits)
        schema = self._file.schema_arrow
        self._image = _image_column(schema)
        self._label = _label_column(schema)
        self._split = "split" if "split" in schema.names and _is_text(schema.field("split").type) else None
        self.class_names = _class_names(schema, self._label)
        self.total: int | None = self._file.metadata.num_rows

    def read(self, wanted: Wanted = None) -> Iterator[Member]:
        import pyarrow as pa

        try:
            yield from self._read(wanted)
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise DataError("The parquet file is damaged or incomplete; send it again.") from exc

    def _read(self, wanted: Wanted) -> Iterator[Member]:
        columns = [c for c in (self._image, self._label, self._split) if c]
        ordinal = spent = 0
        for batch in self._file.iter_batches(batch_size=ROWS, columns=columns, use_threads=False):
            spent += batch.nbytes
            if spent > self._limits.max_bytes:
                raise OverLimit(f"The table holds more than the limit of {self._limits.max_bytes} bytes.")
            for row in range(batch.num_rows):
                if is_wanted(wanted, ordinal):
                    yield self._member(batch, row, ordinal)
                ordinal += 1

    def _member(self, batch: pa.RecordBatch, row: int, ordinal: int) -> Member:
        value = batch.column(self._image)[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        problem = None
        if data is None:
            problem = "no image bytes in this row"
        elif len(data) > self._limits.max_member_bytes:
            data, problem = None, f"over the limit of {self._limits.max_member_bytes} bytes a file"
        label = batch.column(self._label)[row].as_py() if self._label else None
        split = batch.column(self._split)[row].as_py() if self._split else None
        return Member(ordinal, f"row {ordinal}", data, problem, label, split)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _open(path: Path, limits: ImageLimits) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise DataError("The parquet file is damaged or incomplete; send it again.") from exc
    if file.metadata.num_rows > limits.max_members:
        rows = file.metadata.num_rows
        file.close()
        raise OverLimit(f"The table has {rows} rows; the limit is {limits.max_members}.")
    return file


def _image_column(schema: pa.Schema) -> str:
    fits = [f.name for f in schema if _holds_bytes(f.type)]
    named = [name for name in IMAGE_NAMES if name in fits]
    if not fits:
        raise DataError(
            'The table has no column of image bytes; name it "image", of binary or {bytes, path}.'
        )
    return (named or fits)[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _label_column(schema: pa.Schema) -> str | None:
    import pyarrow as pa

    for name in LABEL_NAMES:
        if name in schema.names:
            kind = schema.field(name).type
            if not (pa.types.is_integer(kind) or _is_text(kind)):
                raise DataError(
                    f'The column "{name}" holds {kind}; labels are integers or strings. '
                    "Give it another name to have it ignored."
                )
            return name
    return None


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _class_names(schema: pa.Schema, label: str | None) -> tuple[str, ...]:
    """The names that Hugging Face keeps beside integer labels; empty where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, ValueError, TypeError):
        return ()
    return tuple(str(n) for n in names) if isinstance(names, list) else ()
