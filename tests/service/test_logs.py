"""The log: fields that travel, secrets that do not, lines that cannot be forged, libraries in the same format."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
import pytest

from service import logs
from service.settings import Settings

SECRETS = {
    "a key": "nk_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
    "a header": "Bearer abcdef0123456789",
    "a password": "hunter22",
    "a pepper": "salt-and-pepper-0123456789",
}


@pytest.fixture
def settings() -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        usual = {
            "database_url": f"postgresql://nidim:{SECRETS['a password']}@db/nidim",
            "log_level": "debug",
            "log_format": "json",
        }
        return Settings(key_pepper=SECRETS["a pepper"], **{**usual, **changes})

    return make


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers = handlers
    logger.setLevel(level)
    for name in (*logs.OURS, *logs.CHATTY):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    sys.excepthook = sys.__excepthook__


@pytest.fixture
def written(root: logging.Logger, settings: Callable[..., Settings]) -> Callable[..., io.StringIO]:
    """``written(log_format="text")`` -> where everything goes from now on."""

    def start(**changes: Any) -> io.StringIO:
        stream = io.StringIO()
        logs.set_up(settings(**changes), part="api", stream=stream, worker="slot0@here:1")
        return stream

    return start


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_who_what_and_with_which_ids(written: Callable[..., io.StringIO]) -> None:
    stream = written()
    with logs.bound(request_id="abc", job_id=None):
        logging.getLogger("service.x").info("hello %s", "you", extra={"fields": {"ms": 1.5}})
    (line,) = parsed(stream)
    assert line.pop("at").endswith("Z")
    assert line.pop("pid") > 0
    assert line == {
        "level": "info",
        "logger": "service.x",
        "message": "hello you",
        "part": "api",
        "worker": "slot0@here:1",
        "request_id": "abc",
        "ms": 1.5,
    }


@pytest.mark.parametrize("name", ["uvicorn.error", "celery.worker", "py.warnings", "service.app"])
def test_libraries_use_the_same_formatter(written: Callable[..., io.StringIO], name: str) -> None:
    stream = written()
    logging.getLogger(name).warning("said")
    assert [(line["logger"], line["message"]) for line in parsed(stream)] == [(name, "said")]


def test_warnings_are_lines_too(written: Callable[..., io.StringIO]) -> None:
    stream = written()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", stacklevel=1)
    assert any("old" in line["message"] for line in parsed(stream))


def test_fields_follow_the_work_and_end_with_it(written: Callable[..., io.StringIO]) -> None:
    stream, log = written(), logging.getLogger("service.x")

    async def request(name: str) -> None:
        with logs.bound(request_id=name):
            await asyncio.sleep(0.01)
            await anyio.to_thread.run_sync(log.info, "in a thread of anyio")
            await asyncio.create_task(task())

    async def task() -> None:
        log.info("in a task")

    async def all_of_them() -> None:
        await asyncio.gather(*(request(f"r{i}") for i in range(5)))

    asyncio.run(all_of_them())
    log.info("after")
    *during, after = parsed(stream)
    assert sorted(line["request_id"] for line in during) == sorted(f"r{i}" for i in range(5) for _ in "12")
    assert "request_id" not in after


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_no_secret_is_written(written: Callable[..., io.StringIO], log_format: str, secret: str) -> None:
    stream, log = written(log_format=log_format), logging.getLogger("service.x")
    log.info("plain %s", secret)
    log.debug("headers %r", [(b"authorization", secret.encode())])
    log.info("%s", {"key": secret}, extra={"fields": {"given": secret}})
    log.warning("postgresql+psycopg://nidim:%s@db:5432/nidim does not answer", secret.split()[-1])
    try:
        raise ValueError(f"what is {secret}?")
    except ValueError:
        log.exception("it failed")
    with logs.bound(request_id=secret):
        log.info("bound")
    assert secret.split()[-1] not in stream.getvalue()
    assert stream.getvalue().count(logs.MASK) >= 6


@pytest.mark.parametrize(
    ("setting", "url", "password"),
    [
        ("database_url", "postgresql://nidim:{}@db/nidim", "hunter/22+x="),
        ("database_url", "postgresql://nidim:{}@db/nidim", "hunter%2F22"),
        ("broker_url", "redis://:{}@redis:6379/0", "hunter@22"),
        (
            "broker_url",
            "sentinel://:other@one;sentinel://two?master=bell&sentinel_password={}",
            "hunter%4022",
        ),
    ],
)
def test_a_password_with_marks_in_it_is_masked(
    written: Callable[..., io.StringIO], setting: str, url: str, password: str
) -> None:
    url = url.format(password)
    stream = written(**{setting: url})
    logging.getLogger("service.x").info("%s: no such host; the password was %s", url, unquote(password))
    assert parsed(stream)[0]["message"].endswith(f"the password was {logs.MASK}")
    assert "22" not in parsed(stream)[0]["message"]


@pytest.mark.parametrize(
    "key", ["password=hunter3hunter3", '"secret": "hunter3hunter3"', "token: hunter3hunter3"]
)
def test_what_calls_itself_secret_is_masked(written: Callable[..., io.StringIO], key: str) -> None:
    stream = written()
    logging.getLogger("service.x").info("options %s", key)
    assert "hunter3" not in stream.getvalue()


def test_harmless_words_stay(written: Callable[..., io.StringIO]) -> None:
    stream = written()
    text = "job job_01 of 12:30 at http://127.0.0.1:8000/v1/jobs with nk_ and redis+socket:///tmp/x.sock"
    logging.getLogger("service.x").info(text)
    assert parsed(stream)[0]["message"] == text


def test_a_line_cannot_pose_as_another(written: Callable[..., io.StringIO]) -> None:
    forged = "x\n2026-01-01T00:00:00Z api service.app: all is well\x1b[2J\r"
    stream = written(log_format="text")
    logging.getLogger("service.x").info("GET %s", forged)
    _, second = stream.getvalue().splitlines()
    assert second.startswith("    ")
    assert "\x1b" not in stream.getvalue()
    stream = written()
    logging.getLogger("service.x").info("GET %s", forged)
    assert parsed(stream)[0]["message"] == f"GET {forged}"


def test_libraries_stay_at_info_at_most(written: Callable[..., io.StringIO]) -> None:
    stream = written()
    for name in ("httpcore.http11", "celery.bootsteps", "somebody.else"):
        logging.getLogger(name).debug("headers")
    logging.getLogger("sqlalchemy.engine.Engine").info("SELECT")
    logging.getLogger("service.x").debug("ours")
    assert [line["message"] for line in parsed(stream)] == ["ours"]
    stream = written(log_level="error")
    logging.getLogger("service.x").warning("no")
    logging.getLogger("alembic").warning("no")
    assert stream.getvalue() == ""


def test_a_process_that_cannot_start_says_so_in_a_line(tmp_path: Path) -> None:
    env = {**os.environ, "NIDIM_DATA_DIR": str(tmp_path), "NIDIM_LOG_FORMAT": "json", "NIDIM_BROKER_URL": ""}
    done = subprocess.run([sys.executable, "-m", "worker"], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    last = [json.loads(line) for line in done.stderr.splitlines()][-1]
    assert (last["level"], last["part"]) == ("critical", "worker")
    assert "NIDIM_BROKER_URL" in last["message"]
    assert "Traceback" in last["exception"]


def test_threads_write_whole_lines(written: Callable[..., io.StringIO]) -> None:
    stream, log = written(), logging.getLogger("service.x")
    threads = [threading.Thread(target=lambda: [log.info("x" * 500) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(line["message"]) for line in parsed(stream)} == {500}
