"""A proxy between the stack and one of its servers that can be slow, a black hole, away, or full.

``pass``       what comes in goes out
``slow``       every chunk waits
``hole``       connections are taken and nothing answers; one that was open then stays dead for ever, without a word,
               as behind a firewall that forgot it
``away``       every connection is cut and none is taken, as while the server restarts
``lost``       what comes in goes out, and where an answer begins the connection is cut: it was done, nobody heard of it
``full``       of an S3: whatever would store something is answered 507, as MinIO does it on a full disk

``touched`` counts what the mode did to somebody: a fault that touched nobody did not happen.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from pathlib import Path

CHUNK = 1 << 16
STORING = (b"PUT ", b"POST ")
FULL = (
    b"<Error><Code>XMinioStorageFull</Code><Message>Storage backend has reached its limit.</Message></Error>"
)
REFUSAL = (
    b"HTTP/1.1 507 Insufficient Storage\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(FULL), FULL)
)
Target = Path | tuple[str, int]
"""A unix socket, or host and port; new connections go where ``target`` says at the time."""


class Proxy:
    """Listens on a free port of loopback."""

    def __init__(self, target: Target, *, delay_s: float = 0.7) -> None:
        self.delay_s = delay_s
        self.touched = 0
        self._mode = "pass"
        self.target = target
        self._dead: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """A broker's URL through the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def mode(self) -> str:
        """What it does now."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self.touched = 0
        self._mode = mode

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake who accepts
        self._thread.join(5)
        for open_ in (self._listener, *self._dead):
            with contextlib.suppress(OSError):
                open_.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.mode == "hole":
            self.touched += 1
            self._dead.append(client)
            return
        server = None if self.mode == "away" else self._connected()
        if server is None:
            self.touched += 1
            client.close()
            return
        with server:
            if self._relay(client, server):
                client.close()
            else:
                self._dead.append(client)

    def _connected(self) -> socket.socket | None:
        family = socket.AF_UNIX if isinstance(self.target, Path) else socket.AF_INET
        server = socket.socket(family)
        try:
            server.connect(str(self.target) if isinstance(self.target, Path) else self.target)
        except OSError:
            server.close()
            return None
        return server

    def _relay(self, client: socket.socket, server: socket.socket) -> bool:
        """Copy both ways until one side ends; False if the hole swallowed the connection."""
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not self._over.is_set():
                ready = selector.select(0.05)
                if self.mode in ("hole", "away"):
                    self.touched += 1
                    return self.mode == "away"
                for key, _ in ready:
                    try:
                        if not self._pass_on(key.fileobj, key.data, from_client=key.fileobj is client):  # type: ignore[arg-type]
                            return True
                    except OSError:
                        return True
        return True

    def _pass_on(self, source: socket.socket, sink: socket.socket, *, from_client: bool) -> bool:
        """One chunk; False at the end."""
        data = source.recv(CHUNK)
        if self.mode == "lost" and not from_client:
            self.touched += 1
            return False
        if self.mode == "slow" and data:
            self.touched += 1
            time.sleep(self.delay_s)
        if self.mode == "full" and from_client and data.startswith(STORING):
            self.touched += 1
            self._refuse(source)
            return False
        if data:
            sink.sendall(data)
        return bool(data)

    def _refuse(self, client: socket.socket) -> None:
        """Answer, and read on until the client has noticed: a close with bytes unread would take the answer away."""
        client.sendall(REFUSAL)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(2)
        with contextlib.suppress(TimeoutError):
            while client.recv(CHUNK):
                pass
