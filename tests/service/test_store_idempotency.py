"""Idempotency keys on both databases."""

from __future__ import annotations

import pytest

from service.errors import IdempotencyInFlight, IdempotencyMismatch
from service.store import idempotency
from service.store.idempotency import Replay

REQUEST = {"key": "σ\x00", "scope": "key_1 POST /v1/jobs"}


def begin(store, fingerprint="f", **changes):
    with store.begin() as tx:
        return idempotency.begin(tx, **{**REQUEST, "fingerprint": fingerprint, **changes})


def finish(store, body=b"\x00body"):
    with store.begin() as tx:
        idempotency.finish(tx, **REQUEST, status=202, headers={"location": "/v1/jobs/x"}, body=body)


def test_the_first_answer_is_given_again(store):
    assert begin(store) is None
    finish(store)
    finish(store, b"another")
    assert begin(store) == Replay(status=202, headers={"location": "/v1/jobs/x"}, body=b"\x00body")
    with pytest.raises(IdempotencyMismatch):
        begin(store, "g")
    assert begin(store, "g", scope="key_2 POST /v1/jobs") is None


def test_in_flight(store):
    assert begin(store) is None
    with pytest.raises(IdempotencyInFlight):
        begin(store)
    with pytest.raises(IdempotencyMismatch):
        begin(store, "g")


def test_a_request_that_created_nothing_is_forgotten(store):
    begin(store)
    with store.begin() as tx:
        idempotency.forget(tx, **REQUEST)
    assert begin(store, "g") is None
    finish(store)
    with store.begin() as tx:
        idempotency.forget(tx, **REQUEST)
    assert begin(store, "g") is not None


def test_a_request_that_died_may_be_repeated(store):
    begin(store)
    with pytest.raises(IdempotencyMismatch):
        begin(store, "g", takeover_s=-1)
    assert begin(store, takeover_s=-1) is None
    with pytest.raises(IdempotencyInFlight):
        begin(store)


def test_a_day_later_the_key_is_new(store):
    begin(store, keep_s=-1)
    finish(store)
    assert begin(store, "g") is None
    with store.begin() as tx:
        assert idempotency.prune(tx) == 0
    begin(store, key="old", keep_s=-1)
    with store.begin() as tx:
        assert idempotency.prune(tx) == 1


def test_a_rolled_back_request_leaves_no_trace(store):
    def break_off():
        with store.begin() as tx:
            idempotency.begin(tx, **REQUEST, fingerprint="f")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert begin(store, "g") is None
