"""The running servers under load, in turns: one image a request, idle, and in bulk."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.speed import serving_servers as servers
from benchmarks.speed import traffic
from benchmarks.speed.measure import Json, row, significant
from benchmarks.speed.serving_limits import Bodies, Encoder, decode_s, decodes_a_second
from benchmarks.speed.serving_servers import Server

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Size:
    """How long and how often."""

    connections: int = 64
    bulk_connections: int = 8
    rounds: int = 5
    seconds: float = 6.0
    warm_s: float = 2.0
    open_s: float = 20.0
    shares: tuple[float, ...] = (0.25, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0)
    jpegs: int = 32
    starts: int = 5
    encoders: int = 6


SMALL = Size(rounds=1, seconds=1.0, warm_s=1.0, open_s=2.0, shares=(0.5, 2.0), jpegs=8, starts=1, encoders=4)


@dataclass(frozen=True)
class Field:
    """All servers of the section, the encoder in this process, and the requests."""

    ours: Server
    bare: Server
    peers: Mapping[str, Server]
    encoder: Encoder
    bodies: Bodies
    size: Size

    @property
    def cores(self) -> int:
        """That the machine lets this process have."""
        return len(os.sched_getaffinity(0))

    def closed(self, server: Server, request: bytes, connections: int) -> traffic.Found:
        """One turn. Raises RuntimeError if anything but 200 came."""
        size = self.size
        found = traffic.run(
            traffic.closed(
                server.port,
                request,
                connections=connections,
                seconds=size.seconds,
                warm_s=size.warm_s,
                server_cpu=server.cpu_s,
            )
        )
        if set(found.statuses) != {200}:
            raise RuntimeError(f"answers {dict(found.statuses)}: {found.body[:300]!r}")
        return found


@contextlib.contextmanager
def field(size: Size) -> Iterator[Field]:
    """Start everything; every peer gives the same embedding as we do, or nothing is measured."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nidim-speed-")))
        bodies = Bodies.make(size.jpegs)
        servers.stored(directory / "data", ["first"])
        encoder = Encoder(directory / "data" / "bundle-first")
        model = encoder.traced(directory / "model.pt")
        ours = stack.enter_context(servers.ours(directory / "data"))
        _, answer = servers.ask(ours.port, bodies.png)
        bare = stack.enter_context(servers.bare(directory, answer))
        servers.ask(bare.port, bodies.png)
        peers = {}
        for name in ("litserve", "bentoml"):
            request = getattr(bodies, name)
            peers[name] = stack.enter_context(servers.peer(name, directory, model, request))
            with peers[name].awake():
                _, theirs = servers.ask(peers[name].port, request)
            gap = float(np.abs(servers.values(answer) - servers.values(theirs)).max())
            if gap > TOLERANCE:
                raise RuntimeError(f"{name} answers another embedding, by {gap}")
        yield Field(ours, bare, peers, encoder, bodies, size)


def one_image(field: Field) -> tuple[list[Json], float]:
    """One image a request at 64 connections and when idle; and the requests/s that we can take."""
    many = field.size.connections
    turns: dict[str, list[traffic.Found]] = {}
    idle: dict[str, list[traffic.Found]] = {}
    decode, forward, single = [], [], []
    for _ in range(field.size.rounds):
        turns.setdefault("ours", []).append(field.closed(field.ours, field.bodies.png, many))
        turns.setdefault("npy", []).append(field.closed(field.ours, field.bodies.npy, many))
        turns.setdefault("bare", []).append(field.closed(field.bare, field.bodies.png, many))
        decode.append(decode_s(field.bodies.png_file))
        forward.append(field.encoder.seconds(many) / many)
        single.append(field.encoder.seconds(1))
        for name, server in field.peers.items():
            with server.awake():
                request = getattr(field.bodies, name)
                turns.setdefault(name, []).append(field.closed(server, request, many))
        idle.setdefault("ours", []).append(field.closed(field.ours, field.bodies.png, 1))
        idle.setdefault("bare", []).append(field.closed(field.bare, field.bodies.png, 1))
    http = [found.server_ms() / 1e3 for found in turns["bare"]]
    rows = [
        *_against_limit(field, turns, http=http, decode=decode, forward=forward),
        *_against_peers(field, turns),
        _when_idle(idle, decode=decode, forward=single),
    ]
    return rows, statistics.median(found.rate for found in turns["ours"])


def _against_limit(
    field: Field,
    turns: Mapping[str, list[traffic.Found]],
    *,
    http: list[float],
    decode: list[float],
    forward: list[float],
) -> list[Json]:
    rows = []
    for name, what, decoding in (("ours", "a 3 KB PNG", decode), ("npy", "a 28×28 npy", [0.0] * len(decode))):
        found = turns[name]
        parts = [sum(each) for each in zip(http, decoding, forward, strict=True)]
        client = [one.client_ms() / 1e3 for one in found]
        shared = [field.cores / (part + more) for part, more in zip(parts, client, strict=True)]
        what = f"{what} a request, {field.size.connections} connections"
        rates = row(
            what,
            "requests/s",
            [one.rate for one in found],
            limit=[field.cores / part for part in parts],
            limit_is="cores / (t_http + t_decode + t_forward), as if the client cost nothing",
            asked="≥ .85 of the limit",
            parts_ms=_parts_ms(http=http, decode=decoding, forward=forward, client=client),
            **latencies(found),
        )
        rates["limit_beside_client"] = significant(statistics.median(shared))
        rates["of_limit_beside_client"] = significant(rates["ours"]["median"] / statistics.median(shared))
        rates["met"] = rates["of_limit"] >= 0.85
        cpu = row(
            f"{what}: processor time of the server",
            "ms",
            [one.server_ms() for one in found],
            limit=[1e3 * part for part in parts],
            limit_is="t_http + t_decode + t_forward",
        )
        rows += [rates, cpu]
    return rows


def _parts_ms(**parts: list[float]) -> Json:
    return {name: significant(1e3 * statistics.median(values)) for name, values in parts.items()}


def latencies(found: list[traffic.Found]) -> Json:
    """Medians over the turns of p50 and p99."""
    return {
        f"{name}_ms": significant(statistics.median(one.percentile_ms(share) for one in found))
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }


def _against_peers(field: Field, turns: Mapping[str, list[traffic.Found]]) -> list[Json]:
    what = f"a 3 KB PNG a request, {field.size.connections} connections"
    rates = row(
        f"{what}, same model",
        "requests/s",
        [one.rate for one in turns["ours"]],
        peers={name: [one.rate for one in turns[name]] for name in field.peers},
        asked="≥ 2 × the best peer",
        peers_cpu_ms={
            name: significant(statistics.median(one.server_ms() for one in turns[name]))
            for name in field.peers
        },
    )
    rates["met"] = all(peer["ours_is_times"] >= 2 for peer in rates["peers"].values())
    p99 = row(
        f"{what}, same model: p99",
        "ms",
        [one.percentile_ms(0.99) for one in turns["ours"]],
        peers={name: [one.percentile_ms(0.99) for one in turns[name]] for name in field.peers},
        asked="no longer than the best peer's",
    )
    p99["met"] = all(peer["ours_is_times"] >= 1 for peer in p99["peers"].values())
    return [rates, p99]


def _when_idle(idle: Mapping[str, list[traffic.Found]], *, decode: list[float], forward: list[float]) -> Json:
    ours = [one.percentile_ms(0.5) for one in idle["ours"]]
    http = [one.percentile_ms(0.5) for one in idle["bare"]]
    least = [a + 1e3 * (b + c) for a, b, c in zip(http, decode, forward, strict=True)]
    added = statistics.median(ours) - statistics.median(least)
    return row(
        "a 3 KB PNG on an idle server, one connection: p50",
        "ms",
        ours,
        limit=least,
        limit_is="bare endpoint + decode + forward of one image",
        asked="≤ 1 ms added",
        met=added <= 1,
        added_ms=significant(added),
        http_ms=significant(statistics.median(http)),
        **{f"{name}_ms": value for name, value in _parts_ms(decode=decode, forward=forward).items()},
    )


def bulk(field: Field) -> list[Json]:
    """64 images a request as npy, and JPEG files several in a request."""
    size, threads = field.size, field.cores
    arrays, forms, forward, decode = [], [], [], []
    for _ in range(size.rounds):
        arrays.append(field.closed(field.ours, field.bodies.npy_64, size.bulk_connections))
        forward.append(64 / field.encoder.seconds(64, threads=threads))
        forms.append(field.closed(field.ours, field.bodies.jpegs, size.bulk_connections))
        decode.append(decodes_a_second(field.bodies.jpeg_files, cores=field.cores, seconds=size.seconds / 2))
    images = row(
        f"64 images a request (npy), {size.bulk_connections} connections",
        "images/s",
        [64 * one.rate for one in arrays],
        limit=forward,
        limit_is=f"forward pass of 64 images on {threads} threads, nothing else",
        asked="≥ .8 of the limit",
        server_cores=_cores_used(arrays),
        **latencies(arrays),
    )
    least = [min(one, two) for one, two in zip(decode, forward, strict=True)]
    jpegs = row(
        f"{size.jpegs} JPEG of 224 px a request, {size.bulk_connections} connections",
        "images/s",
        [size.jpegs * one.rate for one in forms],
        limit=least,
        limit_is=f"the slower of decoding on {field.cores} cores and the forward pass, each alone",
        asked="≥ .8 of the limit",
        server_cores=_cores_used(forms),
        **latencies(forms),
    )
    for found in (images, jpegs):
        found["met"] = found["of_limit"] >= 0.8
    return [images, jpegs]


def _cores_used(found: list[traffic.Found]) -> float:
    return significant(statistics.median(one.server_cpu_s / one.seconds for one in found))
