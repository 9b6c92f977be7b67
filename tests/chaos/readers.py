"""Readers of event streams under fire: they come back with Last-Event-ID whenever a stream ends before its job does.

Now and then one hangs up by itself. Over all of its streams a reader must have heard every event once and in order.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx

from service.store.jobs import TERMINAL
from tests.chaos.stacks import Stack

HANGS_UP = 0.05
"""The chance after each event."""
PAUSE_S = 0.3
SILENCE_S = 20.0
"""Longer than the pings of a stream are apart."""


@dataclass
class Heard:
    """What one reader got of one job. ``refused``: answers that no accepted job may give."""

    ids: list[int] = field(default_factory=list)
    ended: bool = False
    streams: int = 0
    refused: list[str] = field(default_factory=list)


class Readers:
    """``run``, in as many threads as wanted: one job after the other, each until its end, until ``over``.

    ``heard`` is what was heard, by job; no job has two readers.
    """

    def __init__(self, stack: Stack, accepted: Mapping[str, int], over: threading.Event, seed: int) -> None:
        self.heard: dict[str, Heard] = {}
        self._stack, self._accepted, self._over = stack, accepted, over
        self._random, self._lock = random.Random(seed), threading.Lock()

    def run(self) -> None:
        """The newest job that nobody follows yet, again and again."""
        while not self._over.wait(PAUSE_S):
            with self._lock:
                free = [job_id for job_id in list(self._accepted) if job_id not in self.heard]
                heard = self.heard.setdefault(free[-1], Heard()) if free else None
            if heard is not None:
                self._follow(free[-1], heard)

    def _follow(self, job_id: str, heard: Heard) -> None:
        while not (heard.ended or heard.refused or self._over.is_set()):
            heard.streams += 1
            try:
                self._listen(job_id, heard)
            except httpx.HTTPError:
                self._over.wait(PAUSE_S)

    def _listen(self, job_id: str, heard: Heard) -> None:
        headers = {"Accept": "text/event-stream"}
        if heard.ids:
            headers["Last-Event-ID"] = str(heard.ids[-1])
        with (
            httpx.Client(base_url=self._stack.url, trust_env=False, timeout=SILENCE_S) as http,
            http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer,
        ):
            if answer.status_code != 200:
                if answer.status_code not in (429, 503):
                    heard.refused.append(f"{answer.status_code} {answer.read()[:200]!r}")
                self._over.wait(PAUSE_S)
                return
            for number, type_, data in events_in(answer.iter_lines()):
                heard.ids.append(number)
                heard.ended = type_ == "state" and json.loads(data)["data"]["state"] in TERMINAL
                if heard.ended or self._over.is_set() or self._random.random() < HANGS_UP:
                    return


def events_in(lines: Iterator[str]) -> Iterator[tuple[int, str, str]]:
    """(id, type, data) of each whole message; one that was cut off is none."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            if "id" in fields:
                yield int(fields["id"]), fields.get("event", ""), fields.get("data", "")
            fields = {}
