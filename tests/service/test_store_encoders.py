"""Encoders and aliases on both databases."""

from __future__ import annotations

import pytest

from service import views
from service.errors import EncoderAliased, NotFound, NothingBefore, PreconditionFailed, VersionRequired
from service.store import encoders, references
from service.store.encoders import EncoderFile, aliases
from service.store.names import ByAlias, ById, ByVersion, Newest, parse_ref

ID = "enc_" + "0" * 26


@pytest.mark.parametrize(
    ("ref", "parsed"),
    [
        ("faces", Newest("faces")),
        ("faces@3", ByVersion("faces", 3)),
        ("faces:prod", ByAlias("faces", "prod")),
        (ID, ById(ID)),
    ],
)
def test_references(ref, parsed):
    assert parse_ref(ref) == parsed


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "Faces",
        "faces@",
        "faces@0",
        "faces@03",
        "faces@-1",
        "faces@٣",
        "faces@99999999999999999999",
        "faces@1\n",
        "faces:",
        "faces:a:b",
        "faces@1:a",
        "../x",
        "a" * 64,
        "faces\n",
        "\x00",
        "\ud800",
        "@1",
        ":a",
    ],
)
def test_what_is_no_reference_is_not_found(sqlite_store, ref):
    assert parse_ref(ref) is None
    with sqlite_store.session() as tx:
        assert encoders.get_by_ref(tx, ref) is None


def test_every_way_to_name_an_encoder(store, new_encoder):
    first, second = new_encoder(store), new_encoder(store)
    with store.begin() as tx:
        aliases.put(tx, "faces", "prod", 1)
        assert encoders.get_by_ref(tx, "faces") == second
        assert encoders.get_by_ref(tx, "faces@2") == encoders.get_by_ref(tx, second.id) == second
        aliased = encoders.get_by_ref(tx, "faces:prod")
        assert (aliased.id, aliased.aliases) == (first.id, ("prod",))
        assert encoders.get_by_ref(tx, "faces@3") is None
        assert encoders.get_by_ref(tx, "faces:test") is None
        assert encoders.get_by_ref(tx, "enc_" + "0" * 26) is None


def test_a_registered_encoder_holds_what_was_given(store, new_encoder):
    encoder = new_encoder(
        store,
        manifest={
            "digest": "sha256:" + "d" * 64,
            "files": {
                "b.json": {"digest": "sha256:" + "2" * 64, "size": 2},
                "a.json": {"sha256": "1" * 64, "size": 1},
            },
        },
        report={"mi_nats": 1.25, "hz_p": float("nan")},
        size=3,
    )
    assert encoder.files == {
        "a.json": EncoderFile(digest="sha256:" + "1" * 64, size=1),
        "b.json": EncoderFile(digest="sha256:" + "2" * 64, size=2),
    }
    assert encoder.report == {"mi_nats": 1.25, "hz_p": None}
    assert (encoder.digest, encoder.size_bytes, encoder.version) == ("sha256:" + "d" * 64, 3, 1)


def test_a_version_number_is_never_used_again(store, new_encoder):
    new_encoder(store)
    new_encoder(store)
    with store.begin() as tx:
        assert encoders.delete(tx, "faces@2").version == 2
        assert encoders.get_by_ref(tx, "faces").version == 1
    assert new_encoder(store).version == 3
    with store.begin() as tx:
        for encoder in encoders.list_(tx, name="faces").items:
            encoders.delete(tx, encoder.id)
    assert new_encoder(store).version == 4


@pytest.mark.parametrize("ref", ["faces", "faces:prod"])
def test_deleting_needs_one_version(store, new_encoder, ref):
    new_encoder(store)
    with pytest.raises(VersionRequired), store.begin() as tx:
        encoders.delete(tx, ref)


def test_an_aliased_encoder_stays(store, new_encoder):
    encoder = new_encoder(store)
    with store.begin() as tx:
        aliases.put(tx, "faces", "prod", 1)
    with pytest.raises(EncoderAliased, match="prod"), store.begin() as tx:
        encoders.delete(tx, encoder.id)
    with store.begin() as tx:
        aliases.delete(tx, "faces", "prod")
        encoders.delete(tx, encoder.id)
    for ref in (encoder.id, "faces@1", "faces@2", "nobody@1", "Bad@1"):
        with pytest.raises(NotFound), store.begin() as tx:
            encoders.delete(tx, ref)


def test_listing_is_newest_first_and_by_name(store, new_encoder):
    made = [new_encoder(store, name) for name in ("a", "b", "a")]
    with store.session() as tx:
        listed = encoders.list_(tx).items
        assert [encoder.id for encoder in listed] == [encoder.id for encoder in made[::-1]]
        assert [encoder.version for encoder in encoders.list_(tx, name="a").items] == [2, 1]
        assert encoders.list_(tx, name="No").items == ()


def test_a_list_shows_what_one_encoder_shows(store, new_encoder):
    new_encoder(store)
    with store.begin() as tx:
        aliases.put(tx, "faces", "prod", 1)
        (listed,) = encoders.list_(tx).items
        assert (
            views.answer(views.encoder(listed)).body
            == views.answer(views.encoder(encoders.get_by_ref(tx, "faces"))).body
        )


def test_an_alias_moves_by_compare_and_swap(store, new_encoder):
    new_encoder(store)
    new_encoder(store)
    with store.begin() as tx:
        first = aliases.put(tx, "faces", "prod", 1)
        assert aliases.put(tx, "faces", "prod", 1, if_match=first.etag) == first
        second = aliases.put(tx, "faces", "prod", 2, if_match=f'"x", {first.etag}')
        assert aliases.get(tx, "faces", "prod") == second
        assert aliases.put(tx, "faces", "prod", 1, if_match="*").version == 1
    for tag in (first.etag, second.etag, "W/" + second.etag, "", "1"):
        with pytest.raises(PreconditionFailed), store.begin() as tx:
            aliases.put(tx, "faces", "prod", 2, if_match=tag)
    with pytest.raises(PreconditionFailed), store.begin() as tx:
        aliases.put(tx, "faces", "new", 2, if_match="*")


def test_the_history_survives_deletion_and_tags_do_not_come_back(store, new_encoder):
    new_encoder(store)
    with store.begin() as tx:
        first = aliases.put(tx, "faces", "prod", 1)
        aliases.delete(tx, "faces", "prod", if_match=first.etag)
        again = aliases.put(tx, "faces", "prod", 1)
        assert again.etag != first.etag
        assert [move.version for move in aliases.history(tx, "faces", "prod")] == [1, None, 1]
        assert len({move.etag for move in aliases.history(tx, "faces", "prod")}) == 3
        assert aliases.history(tx, "faces", "never") == aliases.history(tx, "N\x00", "x") == []


@pytest.mark.parametrize(
    ("name", "version"), [("faces", 2), ("faces", 0), ("faces", 10**30), ("nobody", 1), ("\x00", 1)]
)
def test_an_alias_needs_a_version_that_is_there(store, new_encoder, name, version):
    new_encoder(store)
    with pytest.raises(NotFound), store.begin() as tx:
        aliases.put(tx, name, "prod", version)
    with pytest.raises(NotFound), store.begin() as tx:
        aliases.delete(tx, name, "prod")


def test_blobs_are_in_use_as_long_as_a_row_names_them(store, new_encoder):
    encoder = new_encoder(store)
    used = encoder.files["model.safetensors"].digest
    other = "sha256:" + "f" * 64
    with store.begin() as tx:
        assert references.stored_bytes(tx) == 10
        assert references.unused(tx, [other, used, other]) == [other]
        encoders.delete(tx, encoder.id)
        assert references.unused(tx, [used]) == [used]
        assert references.unused(tx, []) == []
        assert references.stored_bytes(tx) == 0


def test_an_alias_is_created_once(store, new_encoder):
    for _ in range(2):
        new_encoder(store)
    with store.begin() as tx:
        first = aliases.put(tx, "faces", "prod", 1, if_none_match="*")
        for tags in ("*", first.etag, f'W/{first.etag}, "9"'):
            with pytest.raises(PreconditionFailed):
                aliases.put(tx, "faces", "prod", 2, if_none_match=tags)
        assert aliases.put(tx, "faces", "prod", 2, if_none_match='"9"').version == 2


def test_a_rollback_undoes_the_last_move(store, new_encoder):
    for _ in range(3):
        new_encoder(store)
    with store.begin() as tx:
        with pytest.raises(NotFound):
            aliases.rollback(tx, "faces", "prod")
        aliases.put(tx, "faces", "prod", 1)
        with pytest.raises(NothingBefore):
            aliases.rollback(tx, "faces", "prod")
        stale = aliases.put(tx, "faces", "prod", 3)
        back = aliases.rollback(tx, "faces", "prod", if_match=stale.etag)
        assert back.version == aliases.get(tx, "faces", "prod").version == 1
        with pytest.raises(PreconditionFailed):
            aliases.rollback(tx, "faces", "prod", if_match=stale.etag)
        assert aliases.rollback(tx, "faces", "prod").version == 3
        assert [move.version for move in aliases.history(tx, "faces", "prod")] == [3, 1, 3, 1]


def test_a_rollback_brings_a_deleted_alias_back_but_not_a_deleted_version(store, new_encoder):
    for _ in range(2):
        new_encoder(store)
    with store.begin() as tx:
        aliases.put(tx, "faces", "prod", 1)
        aliases.delete(tx, "faces", "prod")
        assert aliases.rollback(tx, "faces", "prod").version == 1
        aliases.put(tx, "faces", "prod", 2)
        encoders.delete(tx, "faces@1")
        with pytest.raises(NothingBefore, match="was deleted"):
            aliases.rollback(tx, "faces", "prod")
        assert aliases.get(tx, "faces", "prod").version == 2
