"""Blobs: the same laws for a directory and for S3 (a server process of moto)."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import signal
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.errors import BlobDamaged, BlobMissing, BlobsUnavailable
from service.store import blobs as store_blobs
from service.store import remote
from service.store.blobs import DirectoryBlobs, blob_path, open_blobs
from tests.chaos.proxy import Proxy

CONTENT = b"content " * 300_000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
ABSENT = "sha256:" + "0" * 64
CREDENTIALS = {"key": "test", "secret": "test"}


@pytest.fixture
def s3_blobs(s3_endpoint, new_bucket):
    """Empty blobs below a prefix of a bucket of their own."""
    bucket = new_bucket(s3_endpoint)
    opened = open_blobs(
        f"s3://{bucket}/some/prefix", **CREDENTIALS, client_kwargs={"endpoint_url": s3_endpoint}
    )
    yield opened
    opened.close()


@pytest.fixture(params=["directory", "s3"])
def blobs(request, tmp_path):
    """Empty blobs of each kind."""
    if request.param == "directory":
        return open_blobs(f"file://{tmp_path}/blobs")
    return request.getfixturevalue("s3_blobs")


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


def test_a_whole_blob_is_asked_for_in_few_requests(s3_blobs, monkeypatch):
    digest, _ = s3_blobs.put_bytes(CONTENT)
    asked = []
    range_of = s3_blobs.range_of

    def counted(place, start, stop):
        asked.append((start, stop))
        return range_of(place, start, stop)

    monkeypatch.setattr(s3_blobs, "range_of", counted)
    assert s3_blobs.read(digest) == CONTENT
    assert asked == [(0, len(CONTENT))]
    asked.clear()
    monkeypatch.setattr(remote, "WINDOW", 2_000_000)
    assert s3_blobs.read(digest) == CONTENT
    assert asked == [(0, 2_000_000), (2_000_000, len(CONTENT))]


def test_a_flipped_byte_is_found_and_mended(blobs, tmp_path):
    digest, _ = blobs.put_bytes(CONTENT)
    damage(blobs, digest)
    with pytest.raises(BlobDamaged):
        blobs.fetch(digest, tmp_path / "copy")
    for look in (blobs.read, blobs.verify):
        with pytest.raises(BlobDamaged):
            look(digest)
    assert list(tmp_path.glob("*copy*")) == []
    blobs.put_bytes(CONTENT)
    assert blobs.read(digest) == CONTENT
    blobs.verify(digest)


def test_what_is_gone_is_missing(blobs, tmp_path):
    digest, _ = blobs.put_bytes(b"x")
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.exists(digest)
    for act in (
        blobs.open,
        blobs.size,
        blobs.read,
        blobs.verify,
        lambda digest: blobs.fetch(digest, tmp_path / "copy"),
    ):
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


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("owner", "call"), [(os, "fsync"), (Path, "replace"), (Path, "mkdir"), (store_blobs, "_copy")]
)
def test_a_full_disk_leaves_nothing_half_written(tmp_path, file, monkeypatch, owner, call):
    blobs = open_blobs(str(tmp_path / "blobs"))
    monkeypatch.setattr(owner, call, no_room)
    for put in (lambda: blobs.put_file(file), lambda: blobs.put_bytes(CONTENT)):
        with pytest.raises(OSError, match="No space"):
            put()
    monkeypatch.undo()
    assert not blobs.exists(DIGEST)
    assert list(blobs.list_()) == []
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
    assert blobs.put_file(file)[0] == DIGEST


LIMITED = """
import resource, signal, sys
from pathlib import Path
from service.store.blobs import open_blobs

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
blobs = open_blobs(sys.argv[1])
small, _ = blobs.put_bytes(b"small")
for act in (lambda: blobs.put_file(Path(sys.argv[2])), lambda: blobs.fetch(sys.argv[3], Path(sys.argv[4]))):
    try:
        act()
    except OSError as error:
        print(error.errno)
"""


def test_a_file_that_the_system_cuts_short_is_no_blob(tmp_path, file):
    """A real limit of the kernel: the write itself comes back short, then fails."""
    blobs = open_blobs(str(tmp_path / "blobs"))
    other, _ = blobs.put_bytes(CONTENT + b"2")
    arguments = [str(tmp_path / "blobs"), str(file), other, str(tmp_path / "copy")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(errno.EFBIG)] * 2, done.stderr
    assert not blobs.exists(DIGEST)
    assert sorted(blob.size for blob in blobs.list_()) == [len(b"small"), len(CONTENT) + 1]
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == list(tmp_path.glob("*copy*")) == []


KILLED = """
import os, signal, sys, io
from service.store.blobs import open_blobs

class Source(io.BytesIO):
    def read(self, n=-1):
        data = super().read(n)
        if not data:
            os.kill(os.getpid(), signal.SIGKILL)
        return data

open_blobs(sys.argv[1])._put(Source(b"x" * 3_000_000))
"""


def test_what_a_killed_process_left_is_removed_later(tmp_path):
    blobs = open_blobs(str(tmp_path / "blobs"))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "blobs")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(blobs.list_()) == []
    now = datetime.now(UTC)
    assert blobs.leftovers(now - timedelta(hours=1)) == [], "it may still be written"
    assert len(blobs.leftovers(now + timedelta(hours=1))) == 1
    assert blobs.remove_leftovers(now - timedelta(hours=1)) == 0
    assert blobs.remove_leftovers(now + timedelta(hours=1)) == 1
    assert blobs.leftovers(now + timedelta(hours=1)) == []


def test_unfinished_uploads_to_s3_are_ended(s3_blobs):
    s3_blobs.put_bytes(b"whole")
    bucket, key = s3_blobs._root.split("/", 1)
    for name in (f"{key}/aa/bb/half", "elsewhere/half"):
        s3_blobs._fs().call_s3("create_multipart_upload", Bucket=bucket, Key=name)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert s3_blobs.leftovers(datetime(2000, 1, 1, tzinfo=UTC)) == []  # moto begins every upload in 2010
    assert s3_blobs.leftovers(later) == [f"{key}/aa/bb/half"]
    assert s3_blobs.remove_leftovers(later) == 1
    assert s3_blobs.leftovers(later) == []
    assert [upload["Key"] for upload in s3_blobs._fs().list_multipart_uploads(bucket)] == ["elsewhere/half"]


@pytest.fixture
def synced(monkeypatch):
    """What is synced and renamed from now on, in order: for a sync its path as it was then and whether it is empty."""
    order, fsync, replace = [], os.fsync, Path.replace

    def note_sync(descriptor):
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        order.append((place, place.stat().st_size == 0))
        fsync(descriptor)

    def note_name(source, target):
        order.append("renamed")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_name)
    return order


def test_a_directory_that_gets_a_blob_is_synced(tmp_path, synced):
    """The file before its name, then every directory that the name needs: a power cut loses no stored blob."""
    digest, _ = open_blobs(str(tmp_path / "blobs")).put_bytes(b"x")
    place = tmp_path / "blobs" / blob_path(digest)
    (file, empty), renamed, *directories = synced
    assert (file.parent, empty, renamed) == (tmp_path / "blobs" / "incoming", False, "renamed")
    assert [directory for directory, _ in directories] == list(place.parents[:3])


def test_a_durable_copy_is_synced_before_it_has_its_name(tmp_path, synced):
    blobs = open_blobs(str(tmp_path / "blobs"))
    digest, _ = blobs.put_bytes(b"x")
    synced.clear()
    blobs.fetch(digest, tmp_path / "copy", durable=True)
    (file, empty), renamed, (directory, _) = synced
    assert (file.name.split(".")[1], empty, renamed, directory) == ("copy", False, "renamed", tmp_path)


def test_what_was_verified_is_what_is_read(s3_endpoint, new_bucket, tmp_path):
    """The object is another one a moment later; a second read of it would not be what was hashed."""
    blobs = open_blobs(
        f"s3://{new_bucket(s3_endpoint)}",
        **CREDENTIALS,
        client_kwargs={"endpoint_url": s3_endpoint},
        default_block_size=1 << 16,
    )
    content = os.urandom(1 << 20)
    digest, _ = blobs.put_bytes(content)
    with blobs.open_verified(digest, tmp_path) as stream:
        damage(blobs, digest)
        assert stream.read() == content
        assert stream.seek(7) == 7
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BlobDamaged):
        blobs.open_verified(digest, tmp_path)
    blobs.close()


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


@pytest.fixture
def behind(s3_endpoint, new_bucket):
    """The S3 through a proxy: the blobs, and the proxy."""
    proxy = Proxy(("127.0.0.1", int(s3_endpoint.rsplit(":", 1)[1])))
    through = {"endpoint_url": f"http://127.0.0.1:{proxy.port}"}
    url = f"s3://{new_bucket(s3_endpoint)}/x"
    blobs = open_blobs(url, timeout_s=5, **CREDENTIALS, client_kwargs=through)
    yield blobs, proxy
    blobs.close()
    proxy.close()


def test_a_store_that_falls_silent_is_given_up(behind, monkeypatch, file):
    """The client of S3 waits for the word to go on before it sends a body, and has no limit of its own for that."""
    blobs, proxy = behind
    blobs.put_bytes(b"before")
    monkeypatch.setattr(remote, "SLOWEST_BYTES_PER_S", 1 << 30)
    proxy.mode = "hole"
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(blobs.put_file, file), threads.submit(blobs.put_bytes, CONTENT)]
        errors = [call.exception(timeout=30) for call in calls]
    assert [type(error) for error in errors] == [BlobsUnavailable] * 2
    proxy.mode = "pass"
    assert blobs.put_file(file) == (DIGEST, len(CONTENT))


def test_a_full_store_says_so(behind, file):
    blobs, proxy = behind
    proxy.mode = "full"
    with pytest.raises(BlobsUnavailable):
        blobs.put_file(file)
    proxy.mode = "pass"
    assert blobs.put_file(file) == (DIGEST, len(CONTENT))


def test_a_bucket_that_is_not_there(s3_endpoint):
    blobs = open_blobs("s3://nowhere", **CREDENTIALS, client_kwargs={"endpoint_url": s3_endpoint})
    with pytest.raises(BlobsUnavailable):
        blobs.put_bytes(b"x")
    for look in (blobs.exists, blobs.open, blobs.read, blobs.verify, blobs.stat):
        with pytest.raises(BlobsUnavailable):  # no reason to call an encoder damaged
            look(DIGEST)
    blobs.close()


def test_who_opens_later_gets_the_credentials_of_then(s3_endpoint, new_bucket, monkeypatch):
    """Two stores of one URL in one process, the second under another environment."""
    url = f"s3://{new_bucket(s3_endpoint)}/x"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    first = open_blobs(url)
    assert first._fs() is first._fs()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    second = open_blobs(url)
    assert second._fs() is not first._fs()
    digest, _ = second.put_bytes(b"x")
    second.close()
    assert second.read(digest) == b"x"
    second.close()


def test_a_closed_store_lets_its_file_system_go(s3_blobs):
    """s3fs ends the connections of a file system that nobody holds."""
    s3_blobs.put_bytes(b"x")
    held = weakref.ref(s3_blobs._fs())
    s3_blobs.close()
    gc.collect()
    assert held() is None
