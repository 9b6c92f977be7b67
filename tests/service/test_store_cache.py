"""The cache: bounded, the least recently used go, what is in use stays, whoever uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from nidim.data import ingest, load_archive
from service.store import cache

HOLDER = """
import sys, pathlib
from nidim.data.holding import take
take(pathlib.Path(sys.argv[1]), touch=False)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path):
    """Five entries of 100 bytes: a file and a folder used long ago, then one folder a minute."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "aa").write_bytes(b"x" * 100)
    for name in ("b", "c", "d", "e"):
        folder = tmp_path / "arrays" / f"{name * 16}-8x1"
        folder.mkdir(parents=True)
        (folder / "train.npy").write_bytes(b"x" * 60)
        (folder / "test.npy").write_bytes(b"x" * 40)
    for age, path in enumerate([tmp_path / "datasets" / "aa", *sorted((tmp_path / "arrays").iterdir())]):
        os.utime(path, (time.time() - 10_000 + 60 * age,) * 2)
    return tmp_path


def names(root):
    return [entry.path.name[:2] for entry in cache.entries(root)]


def test_the_least_recently_used_go_until_the_rest_fits(root):
    assert cache.evict(root, 0) == cache.evict(root, 500) == 0
    assert cache.evict(root, 499) == 100
    assert names(root) == ["bb", "cc", "dd", "ee"]
    assert cache.evict(root, 250) == 200
    assert names(root) == ["dd", "ee"]
    assert cache.evict(root, 1) == 200
    assert [path.name for path in root.rglob("*") if path.is_file()] == []


def test_what_was_used_just_now_stays(root):
    os.utime(root / "datasets" / "aa")
    assert cache.evict(root, 1) == 400
    assert names(root) == ["aa"]


def test_what_another_process_holds_stays_until_it_dies(root):
    held = root / "arrays" / ("b" * 16 + "-8x1")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(held)], stdin=-1, stdout=-1, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert cache.evict(root, 1) == 400
        assert names(root) == ["bb"]
        assert (held / "train.npy").is_file()
        holder.kill()
    assert cache.evict(root, 1) == 100
    assert names(root) == []


def test_what_died_half_way_is_removed(root):
    begun = root / "arrays" / ".bbbbbbbbbbbbbbbb-8x1.tmp"
    begun.mkdir()
    deleted = root / "datasets" / ".evicted-1"
    deleted.write_bytes(b"x")
    assert cache.remove_unfinished(root) == 1
    assert begun.is_dir(), "somebody may be writing it"
    os.utime(begun, (1, 1))
    assert cache.evict(root, 0) == 0
    assert not begun.exists()
    assert not deleted.exists()
    assert len(names(root)) == 5


def test_an_empty_machine_has_no_cache(tmp_path):
    assert cache.evict(tmp_path / "cache", 1) == 0
    assert cache.unfinished(tmp_path / "cache") == []


def test_a_training_keeps_its_arrays(tmp_path):
    """The real arrays of a real archive: held as long as something is mapped from them, made anew when they went."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    source = tmp_path / "datasets" / "source.npy"
    source.parent.mkdir()
    np.save(source, pixels, allow_pickle=False)
    index = ingest(source)

    def load():
        return load_archive(source, index, name="x", cache_dir=tmp_path / "arrays")

    dataset = load()
    rows = dataset.train.images[3:5]
    before = rows.copy()
    del dataset
    assert cache.evict(tmp_path, 1, young_s=-1) > 0, "the source is not needed any more"
    assert not source.exists()
    assert len(list((tmp_path / "arrays").iterdir())) == 1, "a slice of it is still mapped"
    assert (rows == before).all()
    del rows
    assert cache.evict(tmp_path, 1, young_s=-1) > 0
    assert list((tmp_path / "arrays").iterdir()) == []
    np.save(source, pixels, allow_pickle=False)
    assert (load().train.images[3:5] == before).all()
