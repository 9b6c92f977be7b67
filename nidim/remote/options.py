"""What every command that asks a server has: where it is, the key, ``--json``, and errors that say what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from nidim.client import (
    Busy,
    Client,
    Forbidden,
    JobEnded,
    NidimServerError,
    NotFound,
    ServerUnreachable,
    Unauthorized,
)
from nidim.client.client import DEFAULT_URL, KEY, URL
from nidim.errors import NidimError
from nidim.remote.show import Problem, json_option

FIRST_S = 1.0
"""Patience with a server that is not there at all; one that was there gets more."""

HINTS: tuple[tuple[type[NidimError], str], ...] = (
    (ServerUnreachable, f"Start one with `nidim up`, or name it: --server URL, or {URL}."),
    (Unauthorized, f"Give a key in {KEY}; `nidim keys create` makes one at the server."),
    (Forbidden, "Another key may do it: `nidim keys list` at the server shows what each may do."),
    (
        NotFound,
        "`nidim jobs list`, `nidim encoders list`, `nidim generators list` and `nidim datasets list` show what "
        "there is.",
    ),
    (Busy, "Try again later."),
)
LASTING = frozenset(
    (
        *("spec_error", "dataset_unavailable", "source_gone", "data_error", "training_diverged"),
        *("checkpoint_error", "bundle_error", "nidim_error"),
    )
)
"""Failures that come again where nothing is changed: those that a worker does not try again by itself."""


def asks_server(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--server``, ``--key`` and ``--json``; the function gets an open ``client`` and ``as_json``."""

    @click.option(
        "--server", metavar="URL", envvar=URL, default=DEFAULT_URL, show_default=True, show_envvar=True
    )
    @click.option(
        "--key", metavar="KEY", envvar=KEY, show_envvar=True, help="nk_…, where the server asks for one."
    )
    @json_option
    @functools.wraps(command)
    def wrapped(*args: Any, server: str, key: str | None, as_json: bool, **kwargs: Any) -> Any:
        try:
            with Client(server, key=key) as client:
                client.health(patience_s=FIRST_S)
                return command(*args, client=client, as_json=as_json, **kwargs)
        except NidimError as error:
            raise _told(error, as_json) from error
        except (ValueError, TypeError) as error:
            raise click.ClickException(str(error)) from error

    return wrapped


def confirmed(question: str, *, yes: bool, as_json: bool) -> None:
    """Ask, unless ``yes`` was said; a program is not asked. Raises Abort, UsageError."""
    if yes:
        return
    if as_json:
        raise click.UsageError("With --json nothing is asked: give --yes, too.")
    click.confirm(question, abort=True, err=True)


def _told(error: NidimError, as_json: bool) -> click.ClickException:
    hint = next((text for kind, text in HINTS if isinstance(error, kind)), "")
    if isinstance(error, JobEnded):
        retry = f"`nidim jobs retry {error.job.id}`"
        hint = f"{retry} goes on from the last checkpoint."
        if error.code in LASTING:
            hint = f"Mend what it names, then submit it anew: {retry} repeats it as it is."
    if isinstance(error, Forbidden) and error.code != "scope_missing":
        hint = ""  # no key may do it
    return _problem(error) if as_json else click.ClickException(f"{error}\n{hint}".rstrip())


def _problem(error: NidimError) -> Problem:
    """With what the server said of it."""
    shown: dict[str, Any] = {"error": type(error).__name__, "detail": str(error)}
    if isinstance(error, NidimServerError):
        places = [
            {key: value for key, value in vars(place).items() if value is not None} for place in error.errors
        ]
        shown |= {"status": error.status, "code": error.code, "detail": error.detail}
        shown |= {"errors": places, "request_id": error.request_id}
    elif isinstance(error, JobEnded):
        shown |= {"code": error.code, "detail": error.message, "job": error.job.id}
    return Problem(shown)
