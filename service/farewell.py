"""A server that says goodbye before it leaves.

Told to stop, uvicorn closes every connection that is idle at that moment. A client that keeps its connection open may
be sending its next request just then, and gets a reset instead of an answer. So for a moment this server goes on
answering, takes no new connection (they wait in the socket's queue for its successor, or go to another process that
listens on it) and ends every answer with ``Connection: close``. Only then it stops, with hardly a connection left.

What was accepted has a grace to be answered. At its end the requests that are left are cancelled; the middleware tells
those of which nothing was answered yet to come again, and has a moment for it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from types import FrameType

import uvicorn

FAREWELL_S = 1.0
LAST_WORDS_S = 3.0
"""From the end of the grace until what still hangs is left behind."""
CLOSE = (b"connection", b"close")

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, with ``grace_s`` seconds from the first signal; a second signal skips the farewell."""

    _leaves_at: float | None = None

    def __init__(self, config: uvicorn.Config, *, grace_s: float) -> None:
        super().__init__(config)
        self._grace_s = grace_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the farewell."""
        if self._leaves_at is None and self.started:
            self._leaves_at = time.monotonic() + min(FAREWELL_S, self._grace_s)
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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the requests; cancel what is left at the end of the grace."""
        left_s = max(0.0, self._grace_s - FAREWELL_S)
        timer = asyncio.get_running_loop().call_later(left_s, self._give_up)
        await super().shutdown(sockets)
        timer.cancel()

    def _give_up(self) -> None:
        if self.server_state.tasks:
            logger.error(
                "%d requests are told to come again: the grace is over", len(self.server_state.tasks)
            )
        for task in self.server_state.tasks:
            task.cancel()

    def _say_goodbye(self) -> None:
        if CLOSE in self.config.encoded_headers:
            return
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        for server in self.servers:
            server.close()
