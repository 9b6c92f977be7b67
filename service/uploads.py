"""Receiving a dataset: the form's fields into memory, its file to disk, counted and hashed on the way."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from nidim.spec import Name
from service import forms
from service.ingestion import Upload
from service.pointers import blames, unknown_field
from service.refusals import Blame, InvalidBody, TooLarge

FIELDS = ("name", "license")
MAX_FIELD = 4096


class UploadForm(BaseModel):
    """The fields beside the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    license: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")


async def receive(
    request: Request, *, directory: Path, max_bytes: int, room: forms.Room, keep: bool = True
) -> Upload:
    """Read the form; each piece of its file is written ``with room(its length)``. Without ``keep`` it is only hashed.

    The file of the result is the caller's to delete. Raises InvalidBody, TooLarge, MalformedBody, and what ``room``
    raises.
    """
    path = directory / f"upload-{secrets.token_hex(16)}"
    receiver = _Receiver(path, room, keep)
    try:
        await forms.read_form(
            request,
            max_bytes=max_bytes + 8 * MAX_FIELD,
            max_parts=len(FIELDS) + 2,  # so that one too many is refused by its name
            open_sink=receiver.open_sink,
        )
        return receiver.upload(max_bytes)
    except BaseException:
        receiver.abandon()
        path.unlink(missing_ok=True)
        raise


class _Receiver:
    def __init__(self, path: Path, room: forms.Room, keep: bool) -> None:
        self._path, self._room, self._keep = path, room, keep
        self._file: forms.FileSink | None = None
        self._fields: dict[str, forms.MemorySink] = {}

    def open_sink(self, part: forms.Part) -> forms.Sink:
        if part.name in self._fields or (part.name == "file" and self._file is not None):
            raise InvalidBody(errors=[Blame(f"/{part.name}", "given twice")])
        if part.name == "file":
            self._file = forms.FileSink(self._path if self._keep else None, self._room)
            return self._file
        if part.name not in FIELDS:
            raise InvalidBody(errors=[unknown_field(part.name, (*FIELDS, "file"))])
        self._fields[part.name] = forms.MemorySink(MAX_FIELD, what=f"The field {part.name}")
        return self._fields[part.name]

    def upload(self, max_bytes: int) -> Upload:
        form = self._form()
        if self._file is None:
            raise InvalidBody(errors=[Blame("/file", "Field required")])
        if self._file.size > max_bytes:
            raise TooLarge(f"The file is over the limit of {max_bytes} bytes.")
        return Upload(
            path=self._path,
            digest=f"sha256:{self._file.sha256}",
            size=self._file.size,
            name=form.name,
            license=form.license,
            kept=self._keep,
        )

    def abandon(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.abandon()

    def _form(self) -> UploadForm:
        values = {name: sink.value.decode("utf-8", "replace") for name, sink in self._fields.items()}
        if values.get("license") == "":
            del values["license"]
        try:
            return UploadForm.model_validate(values)
        except ValidationError as error:
            raise InvalidBody(errors=blames(error, values, UploadForm)) from None
