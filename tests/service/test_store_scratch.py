"""Folders of API processes in the scratch directory: kept while the process lives, taken away when it is gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from service.store import scratch

CODE = """
import sys, pathlib
from service.store import scratch
with scratch.own(pathlib.Path(sys.argv[1])) as room:
    (room / "upload-1").write_bytes(b"x")
    (room / "ingest-1").mkdir()
    print(room, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def process(tmp_path):
    """A process with a folder of its own, and the folder."""
    started = subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    room = tmp_path / started.stdout.readline().strip()
    yield started, room
    started.kill()
    started.wait()
    for pipe in (started.stdin, started.stdout):
        pipe.close()


def test_what_a_killed_process_left_goes_at_once(sqlite_store, tmp_path, process):
    killed, left = process
    os.utime(left, (1, 1))
    with scratch.own(tmp_path / "other") as room:
        assert scratch.remove_stale(sqlite_store, room.parent) == 0, "it is ours"
    assert list((tmp_path / "other").iterdir()) == []
    root = left.parent
    assert scratch.stale(sqlite_store, root) == [], "its process lives, however long it was silent"
    killed.kill()
    killed.wait()
    (root / "upload-2").write_bytes(b"of nobody, but young")
    assert scratch.remove_stale(sqlite_store, root) == 1
    assert not left.exists()
    assert (root / "upload-2").exists()
    assert not [path for path in root.iterdir() if path.name.startswith(scratch.GONE)]


def test_a_process_that_ends_leaves_nothing(process):
    ended, room = process
    ended.stdin.close()
    assert ended.wait(60) == 0
    assert not room.exists()


def test_a_folder_that_is_taken_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    real, looks = scratch._lock, []

    def late(path):
        looks.append(path)
        if len(looks) == 1:
            scratch.shutil.rmtree(path)
        return real(path)

    monkeypatch.setattr(scratch, "_lock", late)
    with scratch.own(tmp_path) as room:
        assert looks == [looks[0], room]
        assert room.is_dir()
