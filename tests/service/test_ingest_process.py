"""Ingestion in its own process: what an upload does there reaches us as an answer, never as a crash or a hang."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import service.ingest as ingest_module
from nidim.data import ImageLimits, Index, OverLimit
from nidim.data.ingest_main import classify
from nidim.errors import DataError
from service.ingest import STATUS, IngestFailed, ingest_upload


def write_zip(path: Path, n: int = 20) -> Path:
    stream = io.BytesIO()
    Image.new("L", (6, 6)).save(stream, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(n):
            archive.writestr(f"{'ab'[i % 2]}/{i}.png", stream.getvalue())
    return path


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "upload")


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started."""
    started = []
    original = ingest_module._start

    def start(module: str, job: dict, stderr: object) -> tuple:
        found = original(module, job, stderr)  # type: ignore[arg-type]
        started.append(found[0])
        return found

    monkeypatch.setattr(ingest_module, "_start", start)
    return started


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``instead(code)``: a child that runs this Python instead; ``fd`` is where its events go."""

    def use(code: str) -> None:
        monkeypatch.setattr(
            ingest_module,
            "_command",
            lambda _, fd: [sys.executable, "-c", f"import os, time\nfd = {fd}\n{code}"],
        )

    return use


def failure(path: Path, tmp_path: Path, **options: object) -> IngestFailed:
    with pytest.raises(IngestFailed) as caught:
        ingest_upload(path, out_dir=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert caught.value.status_hint == STATUS[caught.value.code] < 500 or caught.value.code == "no_space"
    assert str(tmp_path) not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return caught.value


def test_an_upload_becomes_an_index(
    upload: Path, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    seen: list[tuple[int, int | None]] = []
    index = ingest_upload(
        upload, out_dir=tmp_path / "out", seed=3, on_progress=lambda done, total: seen.append((done, total))
    )
    assert (index.items, index.classes, index.seed) == (20, ("a", "b"), 3)
    assert seen[-1] == (20, 20)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["index.json"]
    assert Index.read(tmp_path / "out" / "index.json") == index
    assert children[0].returncode == 0


def test_a_known_digest_is_kept(upload: Path, tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    assert ingest_upload(upload, out_dir=tmp_path / "out", digest=digest).digest == digest


def test_a_bad_archive_is_the_senders_fault(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"hello")
    error = failure(tmp_path / "upload", tmp_path)
    assert (error.code, error.status_hint) == ("bad_archive", 422)
    assert "Neither a zip" in error.message


def test_limits_reach_the_process(upload: Path, tmp_path: Path) -> None:
    error = failure(upload, tmp_path, limits=ImageLimits(max_members=5))
    assert (error.code, error.status_hint) == ("too_large", 413)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A 16-megapixel image with transparency where only 80 MB may be used."""
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        stream = io.BytesIO()
        Image.new("RGBA", (4000, 4000), (9, 9, 9, 9)).save(stream, "PNG", compress_level=1)
        archive.writestr("large.png", stream.getvalue())
    error = failure(tmp_path / "upload", tmp_path, memory_bytes=80 * 2**20)
    assert error.code in ("bad_archive", "too_large", "ingest_crashed")
    assert "memory" in error.message or error.code == "ingest_crashed"


def test_a_crash_is_an_answer(
    upload: Path, tmp_path: Path, instead: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    instead(
        'os.write(fd, b\'{"type": "progress", "done": 7, "total": 20}\\n\')\n'
        "os.write(2, b'a word at the end')\nos.kill(os.getpid(), 11)"
    )
    error = failure(upload, tmp_path)
    assert error.code == "ingest_crashed"
    assert "after the first 7" in error.message
    assert f"status {-signal.SIGSEGV}" in caplog.text
    assert "a word at the end" in caplog.text


def test_a_hang_ends_at_the_deadline(
    upload: Path, tmp_path: Path, instead: Callable[[str], None], children: list[subprocess.Popen[bytes]]
) -> None:
    instead("time.sleep(600)")
    assert failure(upload, tmp_path, timeout_s=0.3).code == "ingest_timeout"
    assert children[0].returncode == -signal.SIGKILL


def test_a_cancelled_ingestion_ends(
    upload: Path, tmp_path: Path, instead: Callable[[str], None], children: list[subprocess.Popen[bytes]]
) -> None:
    instead('os.write(fd, b\'{"type": "progress", "done": 1, "total": null}\\n\')\ntime.sleep(600)')
    cancel = threading.Event()
    error = failure(upload, tmp_path, cancel=cancel, on_progress=lambda done, total: cancel.set())
    assert (error.code, error.status_hint) == ("ingest_cancelled", 409)
    assert children[0].returncode == -signal.SIGKILL


def test_a_caller_that_fails_leaves_no_process(
    upload: Path, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    def fail(done: int, total: int | None) -> None:
        raise LookupError("the row is gone")

    with pytest.raises(LookupError):
        ingest_upload(upload, out_dir=tmp_path / "out", on_progress=fail)
    assert children[0].returncode is not None


def test_a_child_that_lingers_after_its_work_is_ended(
    upload: Path, tmp_path: Path, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ingest_upload(upload, out_dir=tmp_path / "out")
    monkeypatch.setattr(ingest_module, "EXIT_S", 0.2)
    instead('os.write(fd, b\'{"type": "done"}\\n\')\nos.close(fd)\ntime.sleep(600)')
    assert ingest_upload(upload, out_dir=tmp_path / "out") == index


def test_settings_do_not_reach_the_process(
    upload: Path, tmp_path: Path, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIDIM_DATABASE_URL", "postgresql://user:secret@host/db")
    instead(
        "import json\nmessage = ' '.join(k for k in os.environ if k.startswith('NIDIM'))\n"
        "os.write(fd, json.dumps({'type': 'failed', 'code': 'bad_archive', 'message': message + '!'}).encode()"
        " + b'\\n')"
    )
    assert failure(upload, tmp_path).message == "!"


def test_the_process_leaves_when_its_parent_is_gone(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "nidim.data.ingest_main", "--events-fd", str(theirs)],
        stdin=subprocess.PIPE,
        pass_fds=(theirs,),
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    assert child.stdin is not None
    path = write_zip(tmp_path / "upload", 20_000)  # enough to be still at work when the pipe closes
    job = {
        "path": str(path),
        "out": str(tmp_path / "i"),
        "limits": {},
        "seed": 0,
        "digest": None,
        "memory_bytes": 2**31,
    }
    child.stdin.write(json.dumps(job).encode() + b"\n")
    child.stdin.flush()
    os.read(ours, 10)
    child.stdin.close()
    assert child.wait(60) == 1
    os.close(ours)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OverLimit("much"), "too_large"),
        (DataError("bad"), "bad_archive"),
        (MemoryError(), "too_large"),
        (RuntimeError("can't start new thread"), "too_large"),
        (RuntimeError("of another kind"), "bad_archive"),
        (OSError(28, "No space left on device"), "no_space"),
        (OSError(5, "I/O error"), "bad_archive"),
        (KeyError("/srv/secret"), "bad_archive"),
    ],
)
def test_every_error_has_a_code_and_gives_no_path_away(error: Exception, code: str) -> None:
    found, message = classify(error)
    assert found == code
    assert found in STATUS
    assert "/" not in message
