"""``python -m benchmarks.access``: how long a revoked key is still taken, and what a key costs a request.

Two API processes on one database. A key is used without pause in the second while it is revoked in the first; the
*delay* is from the answer of the revocation to the start of the last request that the second still let in (0: none).
In the process that revoked, requests that begin after its answer are counted: none may pass. The cost of a key is the
difference of the medians of the same request to a server with keys and to one without, asked in turns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import secrets
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.load import stack
from benchmarks.load.figures import surroundings, timing_ms
from service.memo import TTL_S

RESULTS = Path(__file__).parent / "results" / "access"
ADMIN = "nk_" + secrets.token_urlsafe(32)
PATH = "/v1/jobs?limit=1"


class Client:
    """One connection that stays open."""

    def __init__(self, server: stack.Api, secret: str | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, path, data, {**self._headers, **kind})
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def revoke_once(first: stack.Api, second: stack.Api) -> tuple[float, int]:
    """(delay in the second process, requests that the first let in after its answer)."""
    admin = Client(first, ADMIN)
    made = json.loads(admin("POST", "/v1/keys", {"name": "measured", "scopes": ["read"]})[1])
    user, allowed, over = Client(second, made["key"]), [], threading.Event()
    begun = threading.Event()

    def use() -> None:
        while not over.is_set():
            started = time.perf_counter()
            if user("GET", PATH)[0] != 200:
                return
            allowed.append(started)
            begun.set()

    thread = threading.Thread(target=use)
    thread.start()
    begun.wait(60)
    time.sleep(TTL_S * secrets.randbelow(100) / 100)
    admin("DELETE", f"/v1/keys/{made['id']}")
    revoked = time.perf_counter()
    own = Client(first, made["key"])
    passed = sum(own("GET", PATH)[0] == 200 for _ in range(3))
    thread.join(60)
    over.set()
    return max(0.0, allowed[-1] - revoked), passed


def revocations(kind: str, count: int) -> dict[str, Any]:
    """The delays of ``count`` revocations."""
    with stack.databases(kind) as new_database, tempfile.TemporaryDirectory() as folder:
        url, directory = new_database(), Path(folder)
        with (
            stack.api(directory / "data", url, bootstrap_key=ADMIN) as first,
            stack.api(directory / "second", url, data_dir=directory / "data") as second,
        ):
            found = [revoke_once(first, second) for _ in range(count)]
    delays, passed = zip(*found, strict=True)
    return {"delay_ms": timing_ms(delays), "let_in_by_the_revoking_process": sum(passed)}


def cost(count: int) -> dict[str, Any]:
    """The same request with and without a key, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with (
            stack.api(directory / "open") as open_,
            stack.api(directory / "locked", bootstrap_key=ADMIN) as locked,
        ):
            clients = {"open": Client(open_, None), "key": Client(locked, ADMIN)}
            taken: dict[str, list[float]] = {name: [] for name in clients}
            for _ in range(count):
                for name, client in clients.items():
                    started = time.perf_counter()
                    assert client("GET", PATH)[0] == 200
                    taken[name].append(time.perf_counter() - started)
    difference = statistics.median(taken["key"]) - statistics.median(taken["open"])
    return {
        **{name: timing_ms(times) for name, times in taken.items()},
        "median_ms": round(1e3 * difference, 3),
    }


def main() -> None:
    """Measure and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--revocations", type=int, default=100)
    parser.add_argument("--requests", type=int, default=1000)
    given = parser.parse_args()
    around = {**surroundings(seed=0), "command": " ".join(["python -m benchmarks.access", *sys.argv[1:]])}
    found = {
        "surroundings": around,
        "remembered_s": TTL_S,
        "revocation": {kind: revocations(kind, given.revocations) for kind in ("sqlite", "postgresql")},
        "cost_of_a_key": cost(given.requests),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "access.json").write_text(json.dumps(found, indent=2) + "\n")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
