"""POST /v1/keys: the one answer that holds a secret, and its Idempotency-Key.

A secret is stored nowhere, so the first answer cannot be kept to be given again. With an Idempotency-Key the secret is
derived instead of drawn:

    secret = nk_ + HMAC-SHA256(pepper, salt | caller | Idempotency-Key)

The salt is random and is all that is kept, in place of the secret; of the Idempotency-Key only its HMAC is. A replay
brings the Idempotency-Key again, and with it the same secret. A dump of the database gives neither, and who has the
pepper as well still lacks the Idempotency-Key. Like every key it should be random (a UUID); it lives for 24 h.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from service import keyring, views
from service.refusals import Blame, InvalidBody
from service.replay import Once
from service.schemas import KeyIn
from service.state import Services
from service.store.audit import By
from service.store.keys import START

SALT = "salt"


def issue(app: Services, by: By, body: KeyIn, once: Once) -> Response:
    """201 and the key with its secret. Raises InvalidBody and the errors of idempotency."""
    pepper = app.store.pepper
    salt = secrets.token_hex(32)
    derived = None if once.key is None else derive(pepper, salt, once)
    hidden = once if once.key is None else dataclasses.replace(once, key=_hidden(pepper, once.key))
    with app.store.begin() as tx:
        if first := hidden.begin(tx):
            return _again(first, pepper, once)
        if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
            raise InvalidBody(errors=[Blame("/expires_at", "is in the past")])
        key, secret = keyring.create(
            tx,
            by,
            pepper=pepper,
            name=body.name,
            scopes=body.scopes,
            expires_at=body.expires_at,
            secret=derived,
        )
        hidden.finish(tx, views.answer({**views.key(key), SALT: salt}, 201))
    app.callers.clear()
    return views.answer({**views.key(key), "key": secret}, 201)


def derive(pepper: bytes, salt: str, once: Once) -> str:
    """The secret of a request; 256 bits for who lacks the pepper or the Idempotency-Key."""
    given = json.dumps(["derived secret", salt, once.scope, once.key]).encode()
    mac = hmac.new(pepper, given, hashlib.sha256).digest()
    return START + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def _hidden(pepper: bytes, idempotency_key: str) -> str:
    """What is stored of the Idempotency-Key."""
    given = json.dumps(["idempotency key", idempotency_key]).encode()
    return hmac.new(pepper, given, hashlib.sha256).hexdigest()


def _again(first: Response, pepper: bytes, once: Once) -> Response:
    stored: dict[str, Any] = json.loads(bytes(first.body))
    secret = derive(pepper, stored.pop(SALT), once)
    headers = {"Idempotency-Replayed": first.headers["Idempotency-Replayed"]}
    return views.answer({**stored, "key": secret}, first.status_code, headers)
