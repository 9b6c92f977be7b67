"""The settings as people read them: ``nidim settings``, and what is wrong with one."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import click
from pydantic import SecretStr

from service.entry import BadSettings, read, unknown
from service.settings import Settings


def shown(value: Any) -> str:
    """A value as ``nidim settings`` prints it; secrets are hidden."""
    if isinstance(value, SecretStr):
        return "********"
    if value is None or value in ("", ()):
        return "(none)"
    return re.sub(r"(?<=://)\S*(?=@)|(?<=password=)[^&\s]*", "********", str(value))


def rows(settings: Settings) -> list[tuple[str, str, str]]:
    """(environment variable, value, meaning) of every setting."""
    fields = type(settings).model_fields
    return [
        (f"NIDIM_{name.upper()}", shown(getattr(settings, name)), field.description or "")
        for name, field in fields.items()
    ]


def as_dicts(settings: Settings) -> list[dict[str, Any]]:
    """The same for programs: numbers and switches as such, what is not set as null."""
    return [
        {"name": variable, "value": _plain(getattr(settings, name)), "meaning": meaning}
        for name, (variable, _, meaning) in zip(type(settings).model_fields, rows(settings), strict=True)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if value is None or value == "":
        return None
    return value if isinstance(value, int | float) else shown(value)


@click.command("settings")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def settings_command(as_json: bool) -> None:
    """Print every setting with its value and meaning.

    \b
    A setting is an environment variable, read when a process starts:
      NIDIM_LEASE_S=60 nidim up
    Secrets are hidden; docs/settings.md is the same list with the defaults.
    """
    try:
        settings = read()
    except BadSettings as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_dicts(settings)))
        return
    for variable, value, meaning in rows(settings):
        click.echo(f"{variable}={value}\n    {meaning}")
    for name in unknown(os.environ):
        click.echo(f"{name} is no setting of this version.", err=True)
