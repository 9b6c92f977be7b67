"""The index, and the arrays that are made from a file and its index."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from nidim.data import Index, ingest, load_archive, materialise, open_path
from nidim.data.index import Packed
from nidim.data.layout import held_out
from nidim.data.opening import name_of
from nidim.errors import DataError


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (6, 6), level).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as stream:
        for i in range(30):
            stream.writestr(f"{'ab'[i % 2]}/{i}.png", png(i))
        stream.writestr("a/broken.png", b"no")
    return tmp_path / "set.zip"


@given(st.lists(st.integers(0, 2**40)), st.sampled_from(["int64", "int32", "uint8"]))
def test_packing_loses_nothing(values: list[int], dtype: str) -> None:
    column = np.array(values, np.int64).astype(dtype)
    packed = Packed.pack(column)
    assert np.array_equal(packed.unpack(), column)
    assert packed.unpack().dtype == dtype


def test_sixty_thousand_members_take_some_kilobytes() -> None:
    ordinals = Packed.pack(np.arange(60_000))
    is_test = Packed.pack(held_out(60_000, seed=0).astype(np.uint8))
    assert len(ordinals.data) < 1000
    assert len(is_test.data) < 25_000


@pytest.mark.parametrize("data", ["", "!", "eJwDAAAAAAE=", "AAAA"])
def test_damaged_columns_are_a_data_error(data: str) -> None:
    with pytest.raises(DataError, match="damaged"):
        Packed(dtype="int64", count=3, data=data).unpack()


def test_the_index_survives_json_and_a_file(archive: Path, tmp_path: Path) -> None:
    index = ingest(archive)
    index.write(tmp_path / "index.json")
    assert Index.read(tmp_path / "index.json") == index
    assert "members" not in index.summary()
    assert index.summary()["skipped"] == {
        "count": 1,
        "first": [{"member": "a/broken.png", "reason": "not a PNG, JPEG, WebP, BMP, GIF or TIFF image"}],
    }
    assert not list(tmp_path.glob(".*"))


def test_an_index_that_does_not_add_up_is_refused(archive: Path) -> None:
    values = ingest(archive).model_dump()
    with pytest.raises(ValidationError, match="do not agree"):
        Index.model_validate({**values, "items": values["items"] + 1})


@given(n=st.integers(0, 3000), seed=st.integers(0, 2**32))
def test_a_tenth_is_held_out(n: int, seed: int) -> None:
    mask = held_out(n, seed=seed)
    assert mask.sum() == (max(1, n // 10) if n > 1 else 0)
    assert np.array_equal(mask, held_out(n, seed=seed))


def test_arrays_are_made_once_and_mapped(archive: Path, tmp_path: Path) -> None:
    index, cache = ingest(archive), tmp_path / "cache"
    counted: list[int] = []

    def load(**options: int) -> None:
        dataset = load_archive(
            archive,
            index,
            name="x",
            cache_dir=cache,
            progress=lambda done, _: counted.append(done),
            **options,
        )
        assert isinstance(dataset.train.images, np.memmap)
        assert not dataset.train.images.flags.writeable

    load()
    assert counted[-1] == 30
    counted.clear()
    load()
    assert counted == []
    load(image_size=4)
    load(channels=3)
    assert len([f for f in cache.iterdir() if f.is_dir()]) == 3
    assert not list(cache.glob(".*"))


def test_another_split_is_another_cache(archive: Path, tmp_path: Path) -> None:
    sets = [
        load_archive(archive, ingest(archive, seed=seed), name="x", cache_dir=tmp_path / "cache")
        for seed in (0, 1)
    ]
    assert not np.array_equal(sets[0].test.images, sets[1].test.images)


def test_an_interrupted_build_leaves_nothing_and_can_be_repeated(archive: Path, tmp_path: Path) -> None:
    index, cache = ingest(archive), tmp_path / "cache"

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_archive(archive, index, name="x", cache_dir=cache, progress=interrupt)
    assert list(cache.iterdir()) == []
    assert len(load_archive(archive, index, name="x", cache_dir=cache).train) == 27


def test_what_a_killed_build_left_is_removed_when_it_is_old(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "cache" / ".0123456789abcdef-6x1.abc"
    left.mkdir(parents=True)
    (left / "train.npy").write_bytes(b"half")
    index = ingest(archive)
    load_archive(archive, index, name="x", cache_dir=tmp_path / "cache")
    assert left.is_dir()
    monkeypatch.setattr(materialise, "STALE_S", -1.0)
    load_archive(archive, index, name="x", cache_dir=tmp_path / "cache", image_size=3)
    assert not left.is_dir()


def test_two_builders_at_once_agree(archive: Path, tmp_path: Path) -> None:
    index, found = ingest(archive), []
    barrier = threading.Barrier(2)

    def build() -> None:
        found.append(
            load_archive(
                archive,
                index,
                name="x",
                cache_dir=tmp_path / "cache",
                progress=lambda done, total: barrier.wait(60) and None if done == total else None,
            )
        )

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(found[0].train.images, found[1].train.images)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("change", ["fewer", "broken"])
def test_a_file_that_is_not_the_indexed_one_is_noticed(archive: Path, tmp_path: Path, change: str) -> None:
    index = ingest(archive)
    with zipfile.ZipFile(archive, "w") as stream:
        for i in range(30 if change == "broken" else 20):
            stream.writestr(f"{i}.png", b"broken" if change == "broken" and i == 7 else png(i))
    with pytest.raises(DataError, match=r"not the one|another number"):
        load_archive(archive, index, name="x", cache_dir=tmp_path / "cache")


def test_one_image_makes_an_empty_test_set(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 4, 4), np.uint8))
    dataset = open_path(tmp_path / "one.npy", cache_dir=tmp_path / "cache")
    assert (len(dataset.train), len(dataset.test)) == (1, 0)
    assert dataset.test.images.shape == (0, 4, 4, 1)


def test_open_path_indexes_once(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_path(archive, cache_dir=tmp_path / "cache", license="CC0")
    assert (first.name, first.license, first.facts.classes) == ("set", "CC0", 2)
    monkeypatch.setattr("nidim.data.opening.ingest", None)
    again = open_path(archive, cache_dir=tmp_path / "cache", name="other")
    assert again.name == "other"
    assert np.array_equal(first.train.images, again.train.images)


def test_open_path_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_path(tmp_path / "absent")


@pytest.mark.parametrize(
    ("file", "name"), [("My Set.tar.gz", "my-set"), ("ÄÖ.zip", "images"), ("a" * 80, "a" * 63)]
)
def test_names_from_files(file: str, name: str) -> None:
    assert name_of(Path("/somewhere") / file) == name


MEASURE = r"""
import re, sys
from pathlib import Path
from nidim.data import ingest, load_archive

path, cache = Path(sys.argv[1]), Path(sys.argv[2])
index = ingest(path)
load_archive(path, index, name="x", cache_dir=cache, image_size=200)
# Not ru_maxrss: it remembers the process that this one was started from.
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
print(index.items, int(peak[1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """240 MB of pixels are decoded and written by a process that stays below 160 MB."""
    stream = io.BytesIO()
    Image.new("RGB", (200, 200), "orange").save(stream, "JPEG")
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(2000):
            archive.writestr(f"{i % 10}/{i}.jpg", stream.getvalue())
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "many.zip"), str(tmp_path / "cache")]
    items, megabytes = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert items == 2000
    assert megabytes < 160
