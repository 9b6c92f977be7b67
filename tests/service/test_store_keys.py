"""API keys: usable by who has the secret, useless to who has the database."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service import logs
from service.errors import NotFound, WeakKey
from service.store import keys, open_store
from service.store.pepper import load_pepper

PEPPER = b"p" * 32


def create(store, **changes):
    with store.begin() as tx:
        return keys.create(tx, **{"pepper": PEPPER, "name": "ci", "scopes": ["read"], **changes})


def verify(store, secret, pepper=PEPPER):
    with store.session() as tx:
        return keys.verify(tx, secret, pepper=pepper)


def test_a_key_is_known_by_its_secret_alone(store):
    key, secret = create(store, scopes=["train", "read"])
    assert secret.startswith("nk_")
    assert key.scopes == ("read", "train")
    assert verify(store, secret) == key
    others = [
        secret + "x",
        secret[:-1],
        secret[:11],
        "nk_",
        "",
        key.id,
        secret + "\x00",
        "nk_\ud800" + "x" * 40,
    ]
    assert [verify(store, other) for other in others] == [None] * len(others)
    assert verify(store, secret[:-1] + ("A" if secret[-1] != "A" else "B")) is None
    assert verify(store, secret, pepper=b"q" * 32) is None


def test_secrets_are_compared_in_constant_time(store, monkeypatch):
    """Two keys that share their first characters: the comparison is hmac's, over the whole of both digests."""
    start = "nk_" + "a" * 8
    made = [create(store, secret=start + letter * 40)[0] for letter in "bc"]
    compared = []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    assert verify(store, start + "b" * 40) == made[0]
    assert verify(store, start + "d" * 40) is None
    assert compared == [(64, 64)] * 4


def test_the_database_holds_no_usable_key(store):
    key, secret = create(store)
    with store.session() as tx:
        dump = str(tx.execute(text("SELECT * FROM api_keys")).all())
    assert key.prefix in dump
    assert secret not in dump
    assert secret[len(key.prefix) :] not in dump
    assert key.prefix == secret[:11]


def test_revoked_and_expired_keys_are_useless(store):
    key, secret = create(store)
    with store.begin() as tx:
        first = keys.revoke(tx, key.id)
        assert keys.revoke(tx, key.id) == first
    assert verify(store, secret) is None
    _, late = create(store, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert verify(store, late) is None
    _, early = create(store, expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert verify(store, early) is not None
    for unknown in ("key_" + "0" * 26, "nobody", "\x00"):
        with pytest.raises(NotFound), store.begin() as tx:
            keys.revoke(tx, unknown)


def test_listing_and_existence(store):
    with store.session() as tx:
        assert not keys.exist(tx)
    made = [create(store, name=f"k{i}\x00")[0] for i in range(3)]
    with store.session() as tx:
        assert keys.exist(tx)
        assert keys.list_(tx) == made[::-1]


def test_use_is_noted_once_a_minute(store):
    key, _ = create(store)
    with store.begin() as tx:
        keys.touch(tx, key.id)
        first = keys.list_(tx)[0].last_used_at
        keys.touch(tx, key.id)
        assert keys.list_(tx)[0].last_used_at == first is not None


def test_an_error_of_the_database_shows_no_values(store):
    with pytest.raises(DBAPIError) as caught, store.session() as tx:
        tx.execute(text("SELECT no_such_column FROM api_keys WHERE digest = :digest"), {"digest": "a-digest"})
    assert "a-digest" not in str(caught.value)


def test_a_bootstrap_key_is_created_once(store):
    secret = "nk_" + "s" * 32
    key, _ = create(store, secret=secret, scopes=keys.SCOPES)
    assert create(store, secret=secret) == (key, secret)
    for weak in ("nk_short", "s" * 64, "nk_" + "s" * 31, "nk_" + "σ" * 40):
        with pytest.raises(WeakKey):
            create(store, secret=weak)


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "Read"]])
def test_scopes_are_ours(store, scopes):
    with pytest.raises(ValueError, match="read, train, embed, admin"):
        create(store, scopes=scopes)


def test_the_pepper_is_made_once_and_private(tmp_path):
    pepper = load_pepper(tmp_path, None)
    assert len(pepper) == 32
    assert load_pepper(tmp_path, None) == pepper
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["pepper"]
    assert load_pepper(tmp_path, SecretStr("ours")) == b"ours"
    (tmp_path / "pepper").write_bytes(b"short")
    with pytest.raises(RuntimeError, match="damaged"):
        load_pepper(tmp_path, None)


def test_a_pepper_that_was_lost_is_told(store_settings, store, caplog):
    """The new one in its place would look as if all were well, and every key is refused."""
    (store_settings.data_dir / "pepper").unlink()
    open_store(store_settings).close()
    assert "API keys" not in caplog.text, "there are none"
    create(store)
    open_store(store_settings).close()
    assert "API keys" not in caplog.text, "it is there"
    (store_settings.data_dir / "pepper").unlink()
    given = SimpleNamespace(**vars(store_settings), key_pepper=SecretStr("configured pepper"))
    open_store(given).close()
    assert "API keys" not in caplog.text, "it is elsewhere"
    for _ in range(2):
        open_store(store_settings).close()
    assert caplog.text.count("knows none of them") == 1
    (record,) = caplog.records
    assert logs.Lines({}).masked(record.getMessage()) == record.getMessage()
