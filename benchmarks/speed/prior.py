"""Draws of the prior over HTTP beside making and copying the same bytes in process; its log-density and p-value."""

from __future__ import annotations

import json
import math
import socket
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import special

from benchmarks.speed import serving_servers, traffic
from benchmarks.speed.measure import Json, in_turns, row, significant, store, surroundings
from nidim.priors import GaussianPrior
from service.inference import engine

SEED = 7
DIM = 64
NPY = "application/x-npy"
CHUNK = 1 << 20


def main(small: bool = False) -> None:
    """Measure and store."""
    where = surroundings(SEED)
    draws, many, vectors = (2_000, 20_000, 10_000) if small else (200_000, 10_000_000, 1_000_000)
    with tempfile.TemporaryDirectory(prefix="nidim-speed-") as directory:
        data = Path(directory) / "data"
        serving_servers.stored(data, ["drawn"], dim=DIM)
        with serving_servers.ours(data, max_npy_values=10**9) as server:
            rows = [over_http(server.port, draws, rounds=1 if small else 7), streaming(server, many)]
    rows += arithmetic(vectors, rounds=1 if small else 7)
    for found in rows:
        print(json.dumps(found, ensure_ascii=False))
    if not small:
        store("prior", rows, where=where)


def over_http(port: int, n: int, *, rounds: int) -> Json:
    """One request for ``n`` draws, read as it comes, beside the same pages copied into an array."""
    found = in_turns(
        {"ours": lambda: _received(port, n), "limit": lambda: _copied(n)},
        rounds=rounds,
    )
    values = {name: [n / seconds for seconds in times] for name, times in found.items()}
    share = significant(np.median(values["ours"]) / np.median(values["limit"]))
    return row(
        f"{n:,} draws in {DIM} dimensions over HTTP, npy",
        "draws/s",
        values["ours"],
        limit=values["limit"],
        limit_is="the same draws made and copied in process",
        asked="at least .5 of it",
        met=share >= 0.5,
    )


def _copied(n: int) -> None:
    kept = bytearray(n * DIM * 4)
    at = 0
    for page in engine.pages(GaussianPrior(DIM), n=n, seed=SEED, offset=0, temperature=1.0):
        data = memoryview(np.ascontiguousarray(page)).cast("B")
        kept[at : at + len(data)] = data
        at += len(data)
    assert at == len(kept)


def _received(port: int, n: int) -> int:
    """Bytes of the answer's body."""
    body = json.dumps({"n": n, "seed": SEED}).encode()
    request = traffic.post("/v1/encoders/drawn/prior/sample", body, "application/json", Accept=NPY)
    buffer, total = bytearray(CHUNK), 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1 << 16)
        head, _, rest = head.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        assert status == 200, rest
        total = len(rest)
        while total < length:
            total += connection.recv_into(buffer)
    return total


def streaming(server: serving_servers.Server, n: int) -> Json:
    """Peak memory of the API process while it streams ``n`` draws, above what it had."""
    pid = server.processes[0].pid
    before = server.memory_mb()
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    began = time.perf_counter()
    received = _received(server.port, n)
    seconds = time.perf_counter() - began
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3
    return row(
        f"memory of the API process while it streams {n:,} draws ({received / 1e9:.2f} GB)",
        "MB",
        [max(peak - before, 0.1)],
        asked="bounded",
        met=peak - before < 100,
        seconds=significant(seconds),
        draws_per_s=significant(n / seconds),
    )


def arithmetic(n: int, *, rounds: int) -> list[Json]:
    """Log-density and p-value of ``n`` vectors beside the plain formulas on the same array."""
    x, prior = np.random.default_rng(SEED).standard_normal((n, DIM)), GaussianPrior(DIM)

    def squared() -> np.ndarray:
        return np.einsum("ij,ij->i", x, x)

    works = {
        "log-density": (
            lambda: prior.log_prob(x),
            lambda: -0.5 * squared() - DIM / 2 * math.log(2 * math.pi),
        ),
        "p-value": (lambda: prior.p_value(x), lambda: special.chdtrc(DIM, squared())),
    }
    rows = []
    for what, (ours, plain) in works.items():
        found = in_turns({"ours": ours, "plain": plain}, rounds=rounds)
        slower = np.median(found["ours"]) / np.median(found["plain"])
        rows.append(
            row(
                f"{what} of {n:,} vectors, d = {DIM}",
                "s",
                found["ours"],
                limit=found["plain"],
                limit_is="the plain formula on the same array",
                asked="at most 3 times the plain formula",
                met=bool(slower <= 3),
            )
        )
    return rows
