"""A server that says goodbye before it leaves.

Told to stop, uvicorn closes every connection that is idle at that moment. A client that keeps its connection open may
be sending its next request just then, and gets a reset instead of an answer. So for a moment this server goes on
answering, takes no new connection (they wait in the socket's queue for its successor, or go to another process that
listens on it) and ends every answer with ``Connection: close``. Only then it stops, with hardly a connection left.
"""

from __future__ import annotations

import time
from types import FrameType

import uvicorn

FAREWELL_S = 1.0
CLOSE = (b"connection", b"close")


class Server(uvicorn.Server):
    """uvicorn's server; a second signal skips the farewell."""

    _leaves_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the farewell."""
        if self._leaves_at is None and self.started:
            self._leaves_at = time.monotonic() + FAREWELL_S
            self._captured_signals.append(sig)
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop now."""
        if self._leaves_at is not None:
            self._say_goodbye()
            if time.monotonic() >= self._leaves_at or not self.server_state.connections:
                self.should_exit = True
        return await super().on_tick(counter)

    def _say_goodbye(self) -> None:
        if CLOSE in self.config.encoded_headers:
            return
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        for server in self.servers:
            server.close()
