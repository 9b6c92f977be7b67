"""Blobs: the same laws for a directory and for S3 (a server process of moto)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from service.errors import BlobDamaged, BlobMissing, BlobsUnavailable
from service.store.blobs import DirectoryBlobs, blob_path, open_blobs

CONTENT = b"content " * 300_000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
ABSENT = "sha256:" + "0" * 64
CREDENTIALS = {"key": "test", "secret": "test"}


@pytest.fixture(scope="module")
def s3_endpoint():
    """An S3 of our own on a port that the server chooses; it says which one on its standard error."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        "from moto.server import main; main()",
        "-H",
        "127.0.0.1",
        "-p",
        "0",
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            if "Running on" in line:
                endpoint = line.split()[-1]
                break
        drain = threading.Thread(target=server.stderr.read)
        drain.start()
        yield endpoint
    finally:
        server.terminate()
        server.wait(10)
        drain.join()
        server.stderr.close()


@pytest.fixture(params=["directory", "s3"])
def blobs(request, tmp_path):
    """Empty blobs of each kind."""
    if request.param == "directory":
        return open_blobs(f"file://{tmp_path}/blobs")
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = f"bucket-{time.time_ns()}"
    request_ = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
    urllib.request.urlopen(request_).close()
    return open_blobs(f"s3://{bucket}/some/prefix", **CREDENTIALS, client_kwargs={"endpoint_url": endpoint})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def damage(blobs, digest):
    """Flip one byte where the blob lies."""
    with blobs.open(digest) as source:
        data = bytearray(source.read())
    data[len(data) // 2] ^= 1
    if isinstance(blobs, DirectoryBlobs):
        (blobs._root / blob_path(digest)).write_bytes(data)
    else:
        blobs._fs().pipe_file(blobs._place(digest), bytes(data))


def test_what_was_put_is_fetched(blobs, file, tmp_path):
    assert blobs.put_file(file) == (DIGEST, len(CONTENT))
    assert blobs.put_file(file) == blobs.put_bytes(CONTENT) == (DIGEST, len(CONTENT))
    assert blobs.exists(DIGEST)
    assert blobs.size(DIGEST) == len(CONTENT)
    assert blobs.fetch(DIGEST, tmp_path / "copy").read_bytes() == blobs.read(DIGEST) == CONTENT
    assert [blob.digest for blob in blobs.list_()] == [DIGEST]
    stored = blobs.stat(DIGEST).stored_at
    assert abs(stored - datetime.now(UTC)) < timedelta(minutes=5)


def test_empty_content(blobs, tmp_path):
    digest, size = blobs.put_bytes(b"")
    assert size == blobs.size(digest) == 0
    assert blobs.fetch(digest, tmp_path / "empty").read_bytes() == blobs.read(digest) == b""


def test_ranges_are_read_by_seeking(blobs):
    digest, _ = blobs.put_bytes(CONTENT)
    with blobs.open(digest) as source:
        source.seek(1_000_001)
        assert source.read(7) == CONTENT[1_000_001:1_000_008]


def test_a_flipped_byte_is_found_and_mended(blobs, tmp_path):
    digest, _ = blobs.put_bytes(CONTENT)
    damage(blobs, digest)
    with pytest.raises(BlobDamaged):
        blobs.fetch(digest, tmp_path / "copy")
    with pytest.raises(BlobDamaged):
        blobs.read(digest)
    assert list(tmp_path.glob("*copy*")) == []
    blobs.put_bytes(CONTENT)
    assert blobs.read(digest) == CONTENT


def test_what_is_gone_is_missing(blobs, tmp_path):
    digest, _ = blobs.put_bytes(b"x")
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.exists(digest)
    for act in (blobs.open, blobs.size, blobs.read, lambda digest: blobs.fetch(digest, tmp_path / "copy")):
        with pytest.raises(BlobMissing):
            act(digest)
    assert list(blobs.list_()) == []


@pytest.mark.parametrize(
    "strange", ["", "sha256:", "sha256:../../etc/passwd", "../x", ABSENT.upper(), ABSENT + "\n", ABSENT[7:]]
)
def test_only_digests_name_blobs(blobs, strange):
    assert not blobs.exists(strange)
    with pytest.raises(BlobMissing):
        blobs.open(strange)


def test_many_write_the_same(blobs, file, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: blobs.put_file(file), range(8))) == {(DIGEST, len(CONTENT))}
        copies = list(pool.map(lambda i: blobs.fetch(DIGEST, tmp_path / f"copy{i}"), range(8)))
    assert {copy.read_bytes() for copy in copies} == {CONTENT}


def test_a_directory_keeps_no_half_files(tmp_path, file, monkeypatch):
    blobs = open_blobs(str(tmp_path / "blobs"))

    def no_room(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        blobs.put_file(file)
    assert list(blobs.list_()) == []
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_a_failed_fetch_leaves_the_old_file(blobs, tmp_path):
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    with pytest.raises(BlobMissing):
        blobs.fetch(ABSENT, dest)
    assert dest.read_bytes() == b"old"


class Down(Exception):
    """What a library behind fsspec may raise."""


def test_a_store_that_does_not_answer(monkeypatch, file, tmp_path):
    blobs = open_blobs("s3://bucket")

    def down():
        raise Down

    monkeypatch.setattr(blobs, "_fs", down)
    acts = [
        blobs.exists,
        blobs.open,
        blobs.read,
        blobs.delete,
        lambda digest: blobs.fetch(digest, tmp_path / "copy"),
    ]
    for act in (
        *acts,
        lambda _: blobs.put_file(file),
        lambda _: blobs.put_bytes(b""),
        lambda _: list(blobs.list_()),
    ):
        with pytest.raises(BlobsUnavailable) as caught:
            act(DIGEST)
        assert isinstance(caught.value, OSError)


def test_a_bucket_that_is_not_there(s3_endpoint):
    blobs = open_blobs("s3://nowhere", **CREDENTIALS, client_kwargs={"endpoint_url": s3_endpoint})
    assert not blobs.exists(DIGEST)
    with pytest.raises(BlobsUnavailable):
        blobs.put_bytes(b"x")
