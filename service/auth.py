"""Who may do what: bearer keys with scopes; on loopback without any key, this machine's own programs.

:func:`authorize` is a dependency of the API's router, so it covers every route there. A route says what it needs
with :func:`needs`; one that says nothing needs ``admin``: whoever forgets it locks the route, and does not open it.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

from sqlalchemy.exc import DBAPIError
from starlette.requests import Request

from service.errors import StoreBusy
from service.exposure import is_loopback
from service.limits import LEAVE
from service.refusals import Forbidden, Unauthorized
from service.settings import Settings
from service.state import Services, services
from service.store import keys
from service.store.audit import OPEN
from service.store.keys import Key

log = logging.getLogger(__name__)

Scope = Literal["read", "train", "embed", "admin"]
F = TypeVar("F", bound=Callable[..., Any])
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
TOUCH_EVERY = timedelta(minutes=1)
WATCH_EVERY_S = 1.0


@dataclass(frozen=True)
class Principal:
    """Who asks: the id of a key, or ``open`` where no keys exist."""

    id: str


@dataclass(frozen=True)
class Caller:
    """What the store says about a secret: its key; no key and ``open``: none exist."""

    key: Key | None
    open: bool


def needs(scope: Scope) -> Callable[[F], F]:
    """Mark a route with the scope that a key must have."""

    def mark(endpoint: F) -> F:
        endpoint.needed_scope = scope  # type: ignore[attr-defined]
        return endpoint

    return mark


def scope_of(endpoint: Callable[..., Any]) -> Scope:
    """The scope that a route needs."""
    scope: Scope = getattr(endpoint, "needed_scope", "admin")
    return scope


async def authorize(request: Request) -> Principal:
    """The caller, if it may do this now. Raises Unauthorized, Forbidden, RateLimited, TooManyInFlight."""
    app = services(request)
    caller = await _caller(request, app)
    if caller.key is None:
        _open_or_refuse(request, app.settings, caller, given=bearer(request) is not None)
        return Principal(OPEN)
    request.scope[LEAVE].append(app.limits.enter(caller.key.id))
    needed = scope_of(request.scope["endpoint"])
    if needed not in caller.key.scopes and "admin" not in caller.key.scopes:
        raise Forbidden(f"The key lacks the scope {needed}.", code="scope_missing")
    return Principal(caller.key.id)


class Watch:
    """Whether the caller of an endless answer may go on reading it; its key may be revoked or expire meanwhile."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._due = time.monotonic() + WATCH_EVERY_S

    async def allows(self) -> bool:
        """Asked before each piece; the store is asked once a second at most.

        While the database is away there is no news to keep from anybody, and a stream outlives that: it is asked
        again at the next piece.
        """
        if time.monotonic() < self._due:
            return True
        try:
            caller = await _caller(self._request, services(self._request))
        except DBAPIError:
            return True
        self._due = time.monotonic() + WATCH_EVERY_S
        return caller.open or caller.key is not None


def bearer(request: Request) -> str | None:
    """The secret in Authorization, if there is one."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() or None if kind.lower() == "bearer" else None


async def _caller(request: Request, app: Services) -> Caller:
    secret = bearer(request)
    return await app.callers.get(secret, functools.partial(_look_up, app, secret))


def _look_up(app: Services, secret: str | None) -> Caller:
    with app.store.session() as tx:
        key = keys.verify(tx, secret, pepper=app.store.pepper) if secret else None
        caller = Caller(key, open=key is None and not keys.exist(tx))
    if key is not None:
        _touch(app, key)
    return caller


def _open_or_refuse(request: Request, settings: Settings, caller: Caller, *, given: bool) -> None:
    if not caller.open or not is_loopback(settings.host):
        if given:
            raise Unauthorized("The key is unknown, revoked or expired.", code="bad_key")
        raise Unauthorized
    check_local(request, settings)


def check_local(request: Request, settings: Settings) -> None:
    """Without keys only programs of this machine may ask, never a web page from elsewhere. Raises Forbidden."""
    if request.client is not None and not is_loopback(request.client.host):
        raise Forbidden("Without keys the server answers to its own machine only.", code="host_not_allowed")
    hosts = request.headers.getlist("host")
    host = hosts[0] if len(hosts) == 1 else ""  # of two, who knows which one others look at
    name = _hostname(host)
    if not is_loopback(name) and name not in settings.allowed_hosts:
        raise Forbidden(
            "Without keys the server answers to its loopback address only.", code="host_not_allowed"
        )
    origin = request.headers.get("origin")
    own = {f"{scheme}://{host}" for scheme in ("http", "https")}
    if origin is not None and origin not in own and origin not in settings.allowed_origins:
        raise Forbidden("Web pages from elsewhere may not use this server.", code="origin_not_allowed")
    if origin is None and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Forbidden("Web pages from elsewhere may not use this server.", code="origin_not_allowed")


def _hostname(host: str) -> str:
    """The name in a Host header; empty for what is no plain host and port."""
    match = HOST.fullmatch(host)
    return match[1].lower() if match else ""


def _touch(app: Services, key: Key) -> None:
    """Note the use of the key, without a write for every request; a database that only reads must not lock it out."""
    if key.last_used_at is not None and datetime.now(UTC) - key.last_used_at <= TOUCH_EVERY:
        return
    try:
        with app.store.begin() as tx:
            keys.touch(tx, key.id)
    except (DBAPIError, StoreBusy) as error:
        log.warning("the use of a key is not noted: %s", type(error).__name__)
