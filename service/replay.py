"""Idempotency-Key: a POST that creates, sent again with the same key, gets the first answer again."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from service.auth import Principal
from service.refusals import Blame, InvalidBody
from service.store import Store, idempotency

HEADER = "Idempotency-Key"
_GOOD = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")
_KEPT = ("location", "preference-applied")


@dataclass(frozen=True)
class Once:
    """One request with or without an Idempotency-Key; without one, nothing is remembered."""

    key: str | None
    scope: str
    fingerprint: str
    keep_s: float

    def begin(self, tx: Session, *, takeover_s: float = 600) -> Response | None:
        """The first answer, if there was one. Raises IdempotencyMismatch, IdempotencyInFlight."""
        if self.key is None:
            return None
        first = idempotency.begin(
            tx,
            key=self.key,
            scope=self.scope,
            fingerprint=self.fingerprint,
            keep_s=self.keep_s,
            takeover_s=takeover_s,
        )
        if first is None:
            return None
        headers = {**first.headers, "Idempotency-Replayed": "true"}
        return Response(first.body, first.status, headers=headers, media_type="application/json")

    def finish(self, tx: Session, response: Response) -> Response:
        """Remember ``response`` and return it."""
        if self.key is not None:
            headers = {name: response.headers[name] for name in _KEPT if name in response.headers}
            idempotency.finish(
                tx,
                key=self.key,
                scope=self.scope,
                status=response.status_code,
                headers=headers,
                body=bytes(response.body),
            )
        return response

    def forget(self, tx: Session) -> None:
        """Nothing was created: the key may be used again."""
        if self.key is not None:
            idempotency.forget(tx, key=self.key, scope=self.scope)


def is_answered(request: Request, caller: Principal, store: Store) -> bool:
    """Whether a request with this Idempotency-Key got its answer already, so that nothing will come of this one."""
    key = _key(request)
    if key is None:
        return False
    with store.session() as tx:
        return idempotency.is_answered(tx, key=key, scope=_scope(request, caller))


def once(request: Request, caller: Principal, body: Any, *, keep_hours: float) -> Once:
    """``body`` is what identifies the request, as JSON values. Raises InvalidBody for an impossible key."""
    key = _key(request)
    if key is None:
        return Once(key=None, scope="", fingerprint="", keep_s=0.0)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return Once(
        key=key,
        scope=_scope(request, caller),
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
        keep_s=keep_hours * 3600,
    )


def _key(request: Request) -> str | None:
    key = request.headers.get(HEADER)
    if key is not None and not _GOOD.fullmatch(key):
        raise InvalidBody(errors=[Blame("", "1 to 255 printable ASCII characters.", parameter=HEADER)])
    return key


def _scope(request: Request, caller: Principal) -> str:
    return f"{caller.id} {request.method} {request.url.path}"
