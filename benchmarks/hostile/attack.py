"""Send mutants to a server, one after the other; judge every answer, and ask for a reference after each."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from benchmarks.hostile.cases import Case, Wire
from benchmarks.hostile.pictures import of
from benchmarks.hostile.stack import Stack, Watch

PROBLEM = "application/problem+json"
MEMBERS = {"type", "title", "status", "detail", "code", "request_id"}
SECRETS = re.compile(r"Traceback|site-packages|/tmp/|\.py\b|/proc/|0x[0-9a-f]{8}")
REFERENCE = "/v1/encoders/gauss/embed"
TOO_SLOW_S = 60.0
ANSWER_S = 90.0


@dataclass(frozen=True)
class Failure:
    """A mutant that was not answered as documented."""

    number: int
    family: str
    why: str


@dataclass
class Tally:
    """What is known of one family."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Outcome:
    """What came of all mutants."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    peak_mb: dict[str, float] = field(default_factory=dict)
    reference_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def count(self) -> int:
        return sum(len(tally.seconds) for tally in self.tallies.values())


@dataclass(frozen=True)
class Answer:
    """Status 0: the server hung up without one."""

    status: int
    kind: str = ""
    body: bytes = b""


def attack(
    stack: Stack, mutants: Iterable[Case | Wire], *, first: int = 0, outcome: Outcome | None = None
) -> Outcome:
    """All of ``mutants``, in order; ``first`` is the number of the first one. What was found goes into ``outcome``."""
    outcome = outcome or Outcome()
    began = time.perf_counter()
    with stack.client(timeout_s=ANSWER_S) as client, Watch(stack.pid) as watch:
        wanted = _reference(client)
        for number, mutant in enumerate(mutants, start=first):
            started = time.perf_counter()
            answer = _sent(stack, client, mutant)
            seconds = time.perf_counter() - started
            tally = outcome.tallies.setdefault(mutant.family, Tally())
            tally.statuses[str(answer.status or "closed")] += 1
            tally.seconds.append(seconds)
            asked = time.perf_counter()
            why = _wrong(mutant, answer, seconds) or _changed(client, wanted)
            outcome.reference_s.append(time.perf_counter() - asked)
            if why:
                outcome.failures.append(Failure(number, mutant.family, why))
    for kind, mb in watch.peak_mb.items():
        outcome.peak_mb[kind] = max(mb, outcome.peak_mb.get(kind, 0.0))
    outcome.wall_s += time.perf_counter() - began
    return outcome


def _sent(stack: Stack, client: httpx.Client, mutant: Case | Wire) -> Answer:
    if isinstance(mutant, Wire):
        return _on_socket(stack, mutant)
    try:
        answer = client.request(mutant.method, mutant.path, content=mutant.body, headers=mutant.headers)
    except httpx.TransportError as error:
        return Answer(0, body=type(error).__name__.encode())
    if mutant.cleanup and answer.status_code == 201:
        client.delete(f"/v1/datasets/{mutant.cleanup}")
    return Answer(answer.status_code, answer.headers.get("content-type", ""), answer.content)


def _on_socket(stack: Stack, mutant: Wire) -> Answer:
    """Write piece by piece until the server hangs up; then read what it said."""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=ANSWER_S) as channel:
        with contextlib.suppress(ConnectionError):
            for piece in mutant.pieces:
                if isinstance(piece, float):
                    time.sleep(piece)
                else:
                    channel.sendall(_keyed(stack, piece))
        return Answer(0) if mutant.gone else _read(channel)


def _keyed(stack: Stack, piece: bytes) -> bytes:
    """With the key, where one is needed."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in stack.headers.items()).encode()
    return piece.replace(b"Host: 127.0.0.1\r\n", b"Host: 127.0.0.1\r\n" + lines, 1)


def _read(channel: socket.socket) -> Answer:
    """Whatever arrives until the end of the answer, at most a megabyte."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while len(data) < 2**20 and (piece := channel.recv(2**16)):
            data += piece
            if _complete(data):
                break
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    kind = re.search(rb"(?im)^content-type: *([^\r\n]*)", head)
    return Answer(int(found[1]) if found else 0, kind[1].decode() if kind else "", body)


def _complete(data: bytes) -> bool:
    head, mark, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    return bool(mark) and length is not None and len(body) >= int(length[1])


def _wrong(mutant: Case | Wire, answer: Answer, seconds: float) -> str | None:
    """Why the answer is not what is documented; None: it is."""
    if seconds > TOO_SLOW_S:
        return f"took {seconds:.1f} s"
    if answer.status == 0:
        hangs_up = isinstance(mutant, Wire) and mutant.closed
        return None if hangs_up else f"no answer {answer.body[:100]!r}"
    if answer.status not in mutant.allowed:
        return f"{answer.status} {answer.body[:300]!r}"
    if answer.status >= 400:
        return _no_problem(mutant, answer)
    return None


def _no_problem(mutant: Case | Wire, answer: Answer) -> str | None:
    """Every refusal is a problem document, even of what is no HTTP."""
    text = answer.body.decode("utf-8", "replace")
    if SECRETS.search(text):
        return f"tells too much: {text[:300]}"
    if isinstance(mutant, Wire) and len(answer.body) == 0:
        return None
    try:
        body = json.loads(answer.body)
    except ValueError:
        return f"no JSON: {text[:200]}"
    if answer.kind != PROBLEM or not body.keys() >= MEMBERS or body["status"] != answer.status:
        return f"no problem document: {answer.kind} {text[:200]}"
    return None


def _reference(client: httpx.Client) -> bytes:
    """The bytes of an answer that never changes."""
    headers = {"Content-Type": "image/png", "Accept": "application/x-npy"}
    answer = client.post(REFERENCE, content=of("PNG")[1], headers=headers)
    return answer.raise_for_status().content


def _changed(client: httpx.Client, wanted: bytes) -> str | None:
    try:
        found = _reference(client)
    except httpx.HTTPError as error:
        return f"the next request failed: {error!r}"
    return None if found == wanted else "the next request was answered otherwise"
