"""A proxy between the stack and its broker that can be slow, or a black hole.

``pass``       what comes in goes out
``slow``       every chunk waits
``hole``       connections are taken and nothing answers; one that was open then stays dead for ever, without a word,
               as behind a firewall that forgot it
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from pathlib import Path

CHUNK = 1 << 16


class Proxy:
    """Listens on a free port of loopback and talks to a unix socket."""

    def __init__(self, target: Path, *, delay_s: float = 0.7) -> None:
        self.mode = "pass"
        self.delay_s = delay_s
        self._target = target
        self._dead: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The broker's URL through the proxy."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

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
            self._dead.append(client)
            return
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            server.close()
            client.close()
            return
        with server:
            if self._relay(client, server):
                client.close()
            else:
                self._dead.append(client)

    def _relay(self, client: socket.socket, server: socket.socket) -> bool:
        """Copy both ways until one side ends; False if the hole swallowed the connection."""
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not self._over.is_set():
                ready = selector.select(0.05)
                if self.mode == "hole":
                    return False
                for key, _ in ready:
                    source, sink = key.fileobj, key.data
                    try:
                        data = source.recv(CHUNK)  # type: ignore[union-attr]
                        if self.mode == "slow":
                            time.sleep(self.delay_s)
                        if not data:
                            return True
                        sink.sendall(data)
                    except OSError:
                        return True
        return True
