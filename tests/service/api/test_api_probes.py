"""The probes and the API while the database is away, in each of the ways in which it can be."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import make_url


class Wire:
    """A TCP port in front of PostgreSQL's unix socket that can be frozen or cut."""

    def __init__(self, target: str) -> None:
        self.target, self.frozen, self.cut_off = target, False, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.cut_off:
                    near.close()
                    continue
                far = socket.socket(socket.AF_UNIX)
                far.connect(self.target)
                self._ends += [near, far]
                threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            other = {near: far, far: near}
            for end in other:
                selector.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(1 << 16)
                    while self.frozen:
                        time.sleep(0.02)
                    if not data:
                        return
                    other[key.fileobj].sendall(data)

    def cut(self) -> None:
        """Every connection ends, and new ones end at once."""
        self.cut_off = True
        self.close_connections()

    def close_connections(self) -> None:
        self.frozen = False
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self.cut()
        self._listener.close()


@pytest.fixture
def wire(postgresql_url: str) -> Iterator[Wire]:
    directory = parse_qs(urlsplit(postgresql_url).query)["host"][0]
    made = Wire(f"{directory}/.s.PGSQL.5432")
    yield made
    made.close()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    return condition()


def test_a_database_that_hangs_is_gone_or_comes_back(
    start_server: Any, tmp_path: Any, wire: Wire, empty: Any, is_problem: Any
) -> None:
    database = make_url(empty("postgresql").database_url).database
    url = f"postgresql://postgres@127.0.0.1:{wire.port}/{database}"
    with start_server(tmp_path, database_url=url) as server, httpx.Client(base_url=server.url) as client:
        client.timeout = httpx.Timeout(60)
        assert client.get("/readyz").status_code == 200

        wire.frozen = True
        for _ in range(3):
            is_problem(client.get("/readyz"), 503, "not_ready")
        assert client.get("/healthz").status_code == 200, "the process lives; killing it would help nobody"

        wire.cut()
        is_problem(client.get("/readyz"), 503, "not_ready")
        answer = client.get("/v1/datasets")
        is_problem(answer, 503, "store_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200

        wire.cut_off = False
        assert wait_for(lambda: client.get("/readyz").status_code == 200), server.log.read_text()
        assert client.get("/v1/datasets").status_code == 200
        assert "in degraded" not in server.log.read_text(), "a probe every few seconds leaves no tracebacks"
