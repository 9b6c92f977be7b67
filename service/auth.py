"""Who may do what: bearer keys with scopes; on loopback without any key, this machine's own programs.

:func:`authorize` is a dependency of the API's router, so it covers every route there. A route says what it needs
with :func:`needs`; one that says nothing needs ``admin``: whoever forgets it locks the route, and does not open it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from starlette.requests import Request

from service.refusals import Forbidden, Unauthorized
from service.settings import Settings, is_loopback
from service.state import Services, services
from service.store import Store, keys
from service.store.keys import Key

Scope = Literal["read", "train", "embed", "admin"]
F = TypeVar("F", bound=Callable[..., Any])
TOUCH_EVERY = timedelta(minutes=1)


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
    """The caller, if it may do this. Raises Unauthorized, Forbidden."""
    app = services(request)
    secret = bearer(request)
    caller = await app.callers.get(secret, functools.partial(_look_up, app, secret))
    if caller.key is None:
        _open_or_refuse(request, app.settings, caller, given=secret is not None)
        return Principal("open")
    needed = scope_of(request.scope["endpoint"])
    if needed not in caller.key.scopes and "admin" not in caller.key.scopes:
        raise Forbidden(f"The key lacks the scope {needed}.", code="scope_missing")
    return Principal(caller.key.id)


def bearer(request: Request) -> str | None:
    """The secret in Authorization, if there is one."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() or None if kind.lower() == "bearer" else None


def check_exposure(settings: Settings, *, has_keys: bool) -> str | None:
    """Why the server must not start, or None: an address that others reach needs keys."""
    if is_loopback(settings.host) or has_keys or settings.bootstrap_key is not None:
        return None
    return (
        f"{settings.host} can be reached from other machines and no API key exists: set NIDIM_BOOTSTRAP_KEY "
        "(nk_ and at least 32 random characters), or listen on 127.0.0.1 and create a key first."
    )


def create_bootstrap_key(settings: Settings, store: Store) -> None:
    """The first key, from the settings; nothing if there is none to create."""
    if settings.bootstrap_key is None:
        return
    with store.begin() as tx:
        keys.create(
            tx,
            pepper=store.pepper,
            name="bootstrap",
            scopes=("admin",),
            secret=settings.bootstrap_key.get_secret_value(),
        )


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
    host = request.headers.get("host", "")
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
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _touch(app: Services, key: Key) -> None:
    """Note the use of the key, without a write for every request."""
    if key.last_used_at is None or datetime.now(UTC) - key.last_used_at > TOUCH_EVERY:
        with app.store.begin() as tx:
            keys.touch(tx, key.id)
