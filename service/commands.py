"""``nidim keys`` and ``nidim audit``: who may use the server, and what they changed.

They work on the store of ``--data-dir`` and the NIDIM_* settings; a running server notices within a tenth of a second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.offline import data_dir_option, opened

if TYPE_CHECKING:
    from service.store import Store
    from service.store.audit import Entry
    from service.store.keys import Key

SCOPES = ("read", "train", "embed", "admin")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
DURATION = re.compile(r"([1-9][0-9]{0,8})([smhdw])")
NAME = re.compile(r"[\x20-\x7e]{1,100}")
LONGEST_S = 36_500 * 86_400
KEY_COLUMNS = ("ID", "NAME", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED")
AUDIT_COLUMNS = ("AT", "WHO", "ACTION", "TARGET", "REQUEST", "DETAIL")

json_option = click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")


class Duration(click.ParamType):
    """``90d``, ``12h``, ``30m``, ``45s`` or ``2w``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The span of time. Fails with advice."""
        if isinstance(value, timedelta):
            return value
        match = DURATION.fullmatch(str(value).strip())
        seconds = int(match[1]) * UNITS_S[match[2]] if match else 0
        if not 0 < seconds <= LONGEST_S:
            self.fail(f"{value!r} is no span of time; write 90d, 12h, 30m, 45s or 2w", param, ctx)
        return timedelta(seconds=seconds)


@click.group("keys")
def keys_command() -> None:
    """Create, list and revoke API keys.

    \b
    These work on the store itself, with or without a running server:
      nidim keys create --name admin --scope admin
      nidim keys create --name ci --scope train --scope read --expires-in 90d
      nidim keys list
      nidim keys revoke key_…
    With the first key a server stops being open to its own machine. Where the server's database, data directory or
    NIDIM_KEY_PEPPER is set by the environment, set the same here.
    """


@keys_command.command("create")
@click.option("--name", required=True, help="What the key is for, as lists show it.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What the key may do; give it once for each. admin may do everything.",
)
@click.option("--expires-in", type=Duration(), help="90d, 12h, 30m, 45s or 2w; without it, never.")
@data_dir_option
@json_option
def create_command(
    name: str, scopes: Sequence[str], expires_in: timedelta | None, data_dir: Path | None, as_json: bool
) -> None:
    """Create a key and print its secret, this once.

    \b
    The secret alone goes to standard output:
      KEY=$(nidim keys create --name ci --scope embed)
    """
    from service import keyring
    from service.store.audit import CLI, By

    if not NAME.fullmatch(name):
        raise click.ClickException("--name must be 1 to 100 printable ASCII characters.")
    expires_at = None if expires_in is None else datetime.now(UTC) + expires_in
    with opened(data_dir, create=True) as store, store.begin() as tx:
        key, secret = keyring.create(
            tx, By(CLI), pepper=store.pepper, name=name, scopes=scopes, expires_at=expires_at
        )
        administered = keyring.administered(tx)
    if as_json:
        click.echo(json.dumps({**_shown_key(key), "key": secret}))
        return
    click.echo(
        f"{key.id}: {key.name}, scopes {', '.join(key.scopes)}, expires {_moment(key.expires_at) or 'never'}. "
        "The secret is shown this once; send it as Authorization: Bearer …",
        err=True,
    )
    click.echo(secret)
    if not administered:
        click.echo(
            "There is no admin key: over HTTP nobody can delete or create keys, and without a key nobody can do "
            "anything. Create one with: nidim keys create --name admin --scope admin",
            err=True,
        )


@keys_command.command("list")
@data_dir_option
@json_option
def list_command(data_dir: Path | None, as_json: bool) -> None:
    """List every key, newest first, revoked and expired ones too; never a secret."""
    from service.store import keys

    with opened(data_dir) as store, store.session() as tx:
        found = keys.list_(tx)
    if not found and not as_json:
        click.echo(
            "There are no keys; create one with: nidim keys create --name admin --scope admin", err=True
        )
        return
    _print(found, as_json, _shown_key, KEY_COLUMNS, _key_row)


@keys_command.command("revoke")
@click.argument("key_id", metavar="KEY_ID")
@data_dir_option
@json_option
def revoke_command(key_id: str, data_dir: Path | None, as_json: bool) -> None:
    """Make the key with the id KEY_ID useless from now on."""
    from service import keyring
    from service.errors import NotFound
    from service.store.audit import CLI, By

    try:
        with opened(data_dir) as store, store.begin() as tx:
            key = keyring.revoke(tx, By(CLI), key_id)
    except click.ClickException as error:
        if isinstance(error.__cause__, NotFound):
            raise click.ClickException(
                "There is no key with this id; `nidim keys list` shows the ids (key_…)."
            ) from error
        raise
    click.echo(json.dumps(_shown_key(key)) if as_json else f"{key.id} ({key.name}) is revoked.")


@click.command("audit")
@click.option("--who", help="Changes by this key id, or by open, cli, bootstrap, worker or retention, only.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many changes.")
@data_dir_option
@json_option
def audit_command(who: str | None, limit: int, data_dir: Path | None, as_json: bool) -> None:
    """Show who changed what, newest first.

    \b
      nidim audit --limit 20
      nidim audit --who key_… --json --limit 100000 > changes.jsonl
    """
    with opened(data_dir) as store:
        _print(_entries(store, who, limit), as_json, _shown_entry, AUDIT_COLUMNS, _entry_row)


def _entries(store: Store, who: str | None, limit: int) -> Iterator[Entry]:
    """Page by page: a long log is never held in memory when it is printed as JSON."""
    from service.store import audit

    cursor = None
    while limit > 0:
        with store.session() as tx:
            page = audit.list_(tx, who=who, limit=min(limit, 1000), cursor=cursor)
        yield from page.items
        limit -= len(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return


def _print(
    things: Iterable[Any],
    as_json: bool,
    shown: Callable[[Any], dict[str, Any]],
    columns: Sequence[str],
    row: Callable[[Any], tuple[str, ...]],
) -> None:
    if as_json:
        for thing in things:
            click.echo(json.dumps(shown(thing)))
        return
    lines = [tuple(columns), *(row(thing) for thing in things)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _shown_key(key: Key) -> dict[str, Any]:
    from service import views

    return {**views.key(key), "state": _state(key)}


def _shown_entry(entry: Entry) -> dict[str, Any]:
    from service import views

    return views.audit(entry)


def _key_row(key: Key) -> tuple[str, ...]:
    moments = (key.created_at, key.expires_at, key.last_used_at)
    return (key.id, key.name, ",".join(key.scopes), _state(key), *(_moment(at) or "never" for at in moments))


def _entry_row(entry: Entry) -> tuple[str, ...]:
    detail = json.dumps(entry.detail) if entry.detail else ""
    texts = (entry.who, entry.action, entry.target, entry.request_id or "", detail)
    return (_moment(entry.at), *map(_printable, texts))


def _printable(text: str) -> str:
    """Without what could move the cursor of a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    expired = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return "expired" if expired else "active"


def _moment(at: datetime | None) -> str:
    return "" if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")
