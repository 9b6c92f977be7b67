"""CIFAR's files are read word by word: what is published is understood, all else is refused and nothing is called."""

from __future__ import annotations

import pickletools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nidim.data import cifar, load_builtin
from nidim.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
PLANES = PIXELS.transpose(0, 3, 1, 2).tobytes()


def text(value: str | bytes) -> bytes:
    """SHORT_BINSTRING or BINSTRING, as Python 2 wrote both texts and bytes."""
    raw = value.encode() if isinstance(value, str) else value
    return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw


def array(data: bytes = PLANES, shape: tuple[int, int] = (3, 3072), dtype: str = "u1") -> bytes:
    """numpy's way of writing an array, protocol 2."""
    made = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\tU\x01bq\n\x87Rq\x0b"
    kind = (
        b"cnumpy\ndtype\nq\x0c"
        + text(dtype)
        + b"K\x00K\x01\x87Rq\r(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    sides = b"".join(b"J" + struct.pack("<i", side) for side in shape)
    return made + b"(K\x01" + sides + b"\x86" + kind + b"\x89" + text(data) + b"tb"


def content(labels: bytes = b"(K\x06K\x09K\x00e", *, key: str = "labels", data: bytes | None = None) -> bytes:
    """One batch."""
    values = array() if data is None else data
    names = b"](" + text("leptodactylus_s_000004.png") + text("x.png") + text("y.png") + b"e"
    inside = text("batch_label") + text("training batch 1 of 5") + text(key) + b"]" + labels
    return b"\x80\x02}q\x01(" + inside + text("data") + values + text("filenames") + names + b"u."


def test_a_batch_is_read() -> None:
    for key in ("labels", "fine_labels"):
        images, labels = cifar.batch(content(key=key))
        assert np.array_equal(images, PIXELS)
        assert images.dtype == np.uint8
        assert labels.tolist() == [6, 9, 0]


def test_the_built_ins_are_read_from_such_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    sums = {name: hashlib.md5(content()).hexdigest() for name in cifar.MD5}
    fine = {"train", "test"}
    sums |= {name: hashlib.md5(content(key="fine_labels")).hexdigest() for name in fine}
    monkeypatch.setattr(cifar, "MD5", sums)
    for folder, names in (
        ("cifar-10-batches-py", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]),
        ("cifar-100-python", ["train", "test", "meta"]),
    ):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(content(key="fine_labels" if name in fine else "labels"))
    ten, hundred = (load_builtin(name, root=tmp_path) for name in ("cifar10", "cifar100"))
    assert ten.train.images.shape == (15, 32, 32, 3)
    assert np.array_equal(ten.test.images, PIXELS)
    assert hundred.train.labels is not None
    assert hundred.train.labels.tolist() == [6, 9, 0]


def test_another_file_than_the_published_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(content())
    with pytest.raises(DataError, match="not the published file"):
        cifar.read(tmp_path, ("train",))


ATTACKS = {
    "a call by name": b"\x80\x02cposix\nsystem\nU\x02id\x85R.",
    "an old call": b"cos\nsystem\n(S'id'\ntR.",
    "a call from the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
    "an instance": b"(S'id'\nios\nsystem\n.",
    "an object": b"(cos\nsystem\nS'id'\no.",
    "a new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pid\n.",
    "an evaluated text": b"\x80\x02c__builtin__\neval\nU\x031+1\x85R.",
    "numpy's own loader": b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
    "an array of objects": content(data=array(dtype="O8")),
    "a state for a dictionary": b"\x80\x02}}b.",
    "a longer array than its bytes": content(data=array(shape=(4, 3072))),
    "a negative side": content(data=array(shape=(-3, -3072))),
    "another width": content(data=array(PLANES[: 3 * 1024], (3, 1024))),
    "too few labels": content(b"(K\x06e"),
    "a label beyond": content(b"(K\x06K\x64K\x00e"),
    "true as a label": content(b"(K\x06\x88K\x00e"),
    "no dictionary": b"\x80\x02].",
    "no end": content()[:-1],
    "nothing": b"",
    "a memo that has nothing": b"\x80\x02h\x05.",
    "an empty stack": b"\x80\x02R.",
    "a list as a key": b"\x80\x02}]K\x01s.",
    "a length that lies": b"\x80\x02T\xff\xff\xff\x7fx",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_everything_else_is_refused(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*arguments: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr("os.system", called)
    with pytest.raises(DataError):
        cifar.batch(ATTACKS[attack])


@given(st.data())
def test_damage_is_a_data_error_or_another_picture(data: st.DataObject) -> None:
    raw = bytearray(content())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 400)))] = data.draw(st.integers(0, 255))
    try:
        images, labels = cifar.batch(bytes(raw))
    except DataError:
        return
    assert images.dtype == np.uint8
    assert len(images) == len(labels)


def test_no_word_that_is_understood_can_reach_beyond() -> None:
    """Of the words that look something up or make something, three are known, and they go by our own list."""
    reaching = {
        "GLOBAL",
        "STACK_GLOBAL",
        "INST",
        "OBJ",
        "NEWOBJ",
        "NEWOBJ_EX",
        "REDUCE",
        "BUILD",
        "PERSID",
        "BINPERSID",
    }
    reaching |= {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
    known = {code.name for code in pickletools.opcodes}
    assert set(cifar.WORDS) <= known
    assert set(cifar.WORDS) & reaching == {"GLOBAL", "REDUCE", "BUILD"}
