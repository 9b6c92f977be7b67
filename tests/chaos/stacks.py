"""Whole stacks of real processes, one for each column of the design.

embedded   ``nidim up`` as a user starts it: SQLite, the embedded Redis, blobs in a directory
servers    Redis and an S3, each behind a proxy, and PostgreSQL; two API processes on one socket, two workers, and a
           supervisor
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from service import embedded_redis
from service.settings import Settings
from service.store import Store, open_store
from tests.chaos import servers
from tests.chaos.disk import Disk
from tests.chaos.processes import (
    MARK,
    Service,
    Supervisor,
    children,
    command_line,
    end_all,
    marked,
    name,
    wait_for,
)
from tests.chaos.proxy import Proxy
from worker.guard import NAME as TRAINING

SHORT = {
    "NIDIM_LEASE_S": "3",
    "NIDIM_HEARTBEAT_S": "0.5",
    "NIDIM_REAPER_EVERY_S": "0.5",
    "NIDIM_REPUBLISH_AFTER_S": "5",
    "NIDIM_CHECKPOINT_EVERY_S": "0.3",
    "NIDIM_MAX_ATTEMPTS_WITHOUT_CHECKPOINT": "10",
}
"""Quick times for the short form; a busy machine misses such a lease more often than a job may be given up for."""
FULL = {"NIDIM_CHECKPOINT_EVERY_S": "1"}
"""The figures are measured with the defaults (a lease of 30 s); tiny trainings need quicker checkpoints."""
PYTHON = (sys.executable, "-P", "-m")
ROOT = Path(__file__).resolve().parents[2]
WORDS = {
    "api": "service.serve",
    "worker": "-m worker --name",
    "forkserver": "-m worker.forkserver",
    "redis": "redis-server",
}


class Stack(ABC):
    """A running stack. ``url`` answers whichever API process lives; ``store`` is the harness's own view."""

    column = ""
    parts: tuple[str, ...] = ()
    url: str
    settings: Settings

    def __init__(self, directory: Path, times: dict[str, str], *, disks: bool = False) -> None:
        self.directory = directory
        self.mark = secrets.token_hex(8)
        self.env = {
            **times,
            MARK: self.mark,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "NIDIM_DECODE_PROCESSES": "1",
            "NIDIM_SERVE_THREADS": "1",
        }
        self.lease_s = float(times.get("NIDIM_LEASE_S", "30"))
        self.disks: dict[str, Disk] = {}
        self.sockets = Path(tempfile.mkdtemp(prefix="nidim-chaos-"))
        self._wants_disks = disks

    def disk(self, name: str, directory: Path, megabytes: int) -> Path:
        """``directory``, on a disk of its own if disks are wanted and can be had."""
        directory.mkdir(parents=True, exist_ok=True)
        if self._wants_disks:
            self.disks[name] = Disk(directory, megabytes=megabytes)
        return directory

    def pids(self, part: str) -> list[int]:
        """The living processes of a part."""
        trainings = [pid for pid in marked(self.mark) if name(pid) == TRAINING]
        if part == "training":
            return trainings
        return [pid for pid in marked(self.mark) if WORDS[part] in command_line(pid) and pid not in trainings]

    def open_store(self) -> Store:
        """A connection of the harness's own."""
        return open_store(self.settings)

    @abstractmethod
    def start(self) -> None:
        """Start everything and wait until it is ready."""

    @abstractmethod
    def stop(self) -> bool:
        """Stop everything in order; whether every part left by itself."""

    @abstractmethod
    def redis_socket(self) -> Path:
        """Where Redis itself listens."""

    @abstractmethod
    def redis_directory(self) -> Path:
        """Where Redis keeps its file."""

    def close(self) -> None:
        """Leave nothing behind."""
        end_all(self.mark)
        for disk in reversed(self.disks.values()):
            disk.remove()
        shutil.rmtree(self.sockets, ignore_errors=True)


class Embedded(Stack):
    """``nidim up --workers 2``."""

    column = "embedded"
    parts = ("api", "worker", "training", "redis")

    def start(self) -> None:
        data = self.disk("database", self.directory / "data", 512)
        self.disk("blobs", data / "blobs", 1024)
        self.settings = Settings(data_dir=data)
        self.start_again("0")

    def start_again(self, port: str) -> None:
        """``nidim up`` on that port."""
        data = self.settings.data_dir
        command = [*PYTHON, "nidim", "up", "--port", port, "--workers", "2", "--data-dir", str(data)]
        self._out = self.directory / "up.out"
        self._out.unlink(missing_ok=True)
        with self._out.open("wb") as out, (self.directory / "up.log").open("ab") as log:
            self.process = subprocess.Popen(command, env={**os.environ, **self.env}, stdout=out, stderr=log)
        self.url = wait_for(self._said, "nidim up is ready", 120)

    def _said(self) -> str:
        words = "nidim is ready: "
        lines = self._out.read_text().splitlines()
        return next((line.removeprefix(words) for line in lines if line.startswith(words)), "")

    def pids(self, part: str) -> list[int]:
        if part in ("training", "forkserver"):
            return super().pids(part)
        return [pid for pid in children(self.process.pid) if WORDS[part] in command_line(pid)]

    def redis_socket(self) -> Path:
        return embedded_redis.socket_dir(self.settings.data_dir) / "redis.sock"

    def redis_directory(self) -> Path:
        return self.settings.data_dir / "redis"

    def stop(self) -> bool:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(90) == 0

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.redis_socket().parent, ignore_errors=True)
        super().close()


class Servers(Stack):
    """Every part a process of its own, nothing shared but the servers."""

    column = "servers"
    parts = ("api", "worker", "training", "redis", "postgresql", "s3")

    s3: Service | None = None
    _listener: socket.socket | None = None

    def __init__(self, directory: Path, times: dict[str, str], *, disks: bool = False) -> None:
        super().__init__(directory, times, disks=disks)
        self.supervisor = Supervisor()
        self.services: dict[str, Service] = {}
        self.proxies: dict[str, Proxy] = {}
        self._former: dict[str, str | None] = {}

    def start(self) -> None:
        self._start_servers()
        self.settings = Settings(
            data_dir=self.directory / "harness",
            database_url=self.postgresql.url,
            blob_url=f"s3://{servers.BUCKET}/blobs",
            broker_url=self.proxies["broker"].url,
        )
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.services = {"redis": self.redis, "postgresql": self.postgresql.service}
        self.open_store().close()  # migrate once
        for number in (0, 1):
            serve = (*PYTHON, "service.serve", "--fd", str(self._listener.fileno()))
            self._add(f"api{number}", serve, fds=(self._listener.fileno(),), NIDIM_PORT=str(port))
            self._add(f"worker{number}", (*PYTHON, "worker", "--name", f"slot{number}"))
        for service in self.services.values():
            self.supervisor.services.append(service)
        self.supervisor.start()

    def _start_servers(self) -> None:
        self.redis = servers.redis_service(self.directory / "redis", self.redis_socket(), self.env)
        self.redis.start()
        self.proxies["broker"] = Proxy(self.redis_socket())
        home = self.disk("database", self.sockets / "postgresql", 512)
        self.sockets.chmod(0o755)
        self.postgresql = servers.Postgresql(home, self.env)
        self.postgresql.service.log = self.directory / "postgresql.log"
        self.postgresql.service.start()
        self.s3 = servers.s3_service(self.directory / "s3.log", self.env)
        self.s3.start()
        endpoint = servers.s3_endpoint(self.s3.log)
        self.proxies["s3"] = Proxy(("127.0.0.1", int(endpoint.rsplit(":", 1)[1])))
        s3 = {**servers.KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.proxies['s3'].port}"}
        self._former = {name: os.environ.get(name) for name in s3}
        os.environ.update(s3)  # for the harness's own store, and inherited by every process
        wait_for(self.postgresql.answers, "PostgreSQL starts")
        wait_for(lambda: embedded_redis.answers(self.redis_socket()), "Redis starts")

    def _add(self, name: str, command: tuple[str, ...], fds: tuple[int, ...] = (), **more: str) -> None:
        env = {
            **self.env,
            "NIDIM_DATA_DIR": str(self.directory / name),
            "NIDIM_DATABASE_URL": self.settings.database_url,
            "NIDIM_BLOB_URL": self.settings.blob_url,
            "NIDIM_BROKER_URL": self.proxies["broker"].url,
            "NIDIM_KEY_PEPPER": "chaos" * 8,
            **more,
        }
        service = Service(name, command, env, self.directory / f"{name}.log", fds=fds)
        service.start()
        self.services[name] = service

    def pids(self, part: str) -> list[int]:
        if part in ("training", "forkserver"):
            return super().pids(part)
        if part == "s3":
            return [self.s3.pid] if self.s3 is not None and self.s3.pid is not None else []
        found = [service.pid for name, service in self.services.items() if name.startswith(part)]
        return [pid for pid in found if pid is not None]

    def redis_socket(self) -> Path:
        return self.sockets / "redis.sock"

    def redis_directory(self) -> Path:
        return self.directory / "redis"

    def stop(self) -> bool:
        self.supervisor.close()
        order = ("api0", "api1", "worker0", "worker1", "redis", "postgresql")
        left = [self.services[name].stop(60) for name in order]  # all of them, whatever one of them does
        self.s3.stop()
        return all(left)

    def close(self) -> None:
        """Also where the start failed half-way."""
        self.supervisor.close()
        end_all(self.mark)
        started = [*self.services.values(), self.s3]
        for service in started:
            if service is not None and service.process is not None:
                service.process.kill()  # Redis writes its title over its environment, the mark included
                service.process.wait()
        for proxy in self.proxies.values():
            proxy.close()
        if self._listener is not None:
            self._listener.close()
        for variable, value in self._former.items():
            os.environ.pop(variable) if value is None else os.environ.update({variable: value})
        super().close()


COLUMNS: dict[str, type[Stack]] = {"embedded": Embedded, "servers": Servers}
