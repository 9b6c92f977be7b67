"""A real server in a process of its own, on a real store, with tiny real encoders."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.tiny_encoder import SIZE, register, write_bundle
from service.settings import Settings
from service.store import Store, open_store
from service.store.encoders import Encoder
from tests import migrated
from tests.forking import Forked, fork_server
from tests.nidim.samples import arc


@dataclass
class Server:
    """A running server and the store that it works on."""

    url: str
    store: Store
    settings: Settings
    process: Forked
    log: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = plain_client(self.url)

    def rss_mb(self, *, peak: bool = False) -> float:
        """Resident memory of the process, now or at its highest."""
        name = "VmHWM" if peak else "VmRSS"
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith(name))
        return int(line.split()[1]) / 1024


@contextmanager
def serving(directory: Path, **settings: Any) -> Iterator[Server]:
    """``service.serve`` on a socket that is listening already."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    values = {"data_dir": directory, "reaper_every_s": 0.5, "decode_processes": 1, **settings}
    env = {f"NIDIM_{name.upper()}": str(value) for name, value in values.items()}
    log = directory / "server.log"
    directory.mkdir(parents=True, exist_ok=True)
    if not values.get("database_url"):
        migrated.lay(directory)
    process = fork_server(listener, {**os.environ, **env, "NIDIM_PORT": str(port)}, log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_alive(url, process, log)
        chosen = Settings(**values)
        with closing(open_store(chosen)) as store:
            server = Server(url, store, chosen, process, log)
            with server.client:
                yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            listener.close()


def wait_until_alive(url: str, process: Forked, log: Path) -> None:
    deadline = time.monotonic() + 180
    with plain_client(url) as client:
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            try:
                if client.get("/healthz", timeout=30).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
    raise AssertionError(log.read_text())


def plain_client(url: str) -> httpx.Client:
    """A client that reads no certificates, which takes longer than most requests and serves none over http."""
    return httpx.Client(base_url=url, timeout=120, verify=False)


@pytest.fixture(scope="session")
def start_server() -> Callable[..., Any]:
    """``with start_server(directory, **settings) as server``."""
    return serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for many tests: open on loopback, nobody works on its jobs."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def api(server: Server) -> httpx.Client:
    """A client of the shared server."""
    return server.client


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """``bundles(**spec)`` -> directory and facts of a stored encoder; each is made once."""
    made: dict[str, tuple[Path, dict[str, Any]]] = {}

    def make(**spec: Any) -> tuple[Path, dict[str, Any]]:
        key = repr(
            [
                (name, np.asarray(value).sum() if name == "seen" else value)
                for name, value in sorted(spec.items())
            ]
        )
        if key not in made:
            directory = tmp_path_factory.mktemp("bundle") / "files"
            made[key] = (directory, write_bundle(directory, **spec))
        return made[key]

    return make


@pytest.fixture(scope="session")
def add_encoder(bundles: Callable[..., Any]) -> Callable[..., Encoder]:
    """``add_encoder(server, name, **spec)`` -> a registered encoder."""

    def add(server: Server, name: str, **spec: Any) -> Encoder:
        return register(server.store, name, *bundles(**spec))

    return add


@pytest.fixture(scope="session")
def encoder(server: Server, add_encoder: Callable[..., Encoder]) -> Encoder:
    """A Gaussian encoder of 8×8 gray images, d = 2, on the shared server: ``gauss@1``."""
    return add_encoder(server, "gauss")


@pytest.fixture(scope="session")
def uniform_encoder(server: Server, add_encoder: Callable[..., Encoder]) -> Encoder:
    """The uniform law: ``unit@1``."""
    return add_encoder(server, "unit", prior={"kind": "uniform"})


@pytest.fixture(scope="session")
def exponential_encoder(server: Server, add_encoder: Callable[..., Encoder]) -> Encoder:
    """A law on a half-line: ``decay@1``."""
    return add_encoder(server, "decay", prior={"kind": "exponential"})


@pytest.fixture(scope="session")
def sphere_encoder(server: Server, add_encoder: Callable[..., Encoder]) -> Encoder:
    """A law without independent coordinates: ``ball@1``."""
    return add_encoder(server, "ball", prior={"kind": "sphere"})


@pytest.fixture(scope="session")
def flow_encoder(server: Server, add_encoder: Callable[..., Encoder]) -> Encoder:
    """A law that has a file: ``arc@1``."""
    return add_encoder(server, "arc", prior={"kind": "flow", "points": arc(100).tolist()})


@pytest.fixture(scope="session")
def pictures() -> np.ndarray[Any, Any]:
    """Forty different images, uint8 (40, 8, 8)."""
    return np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE), dtype=np.uint8)


def encode(pixels: np.ndarray[Any, Any], kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="session")
def image_file() -> Callable[..., bytes]:
    """``image_file(pixels, "PNG")`` -> the bytes of an image file."""
    return encode


def npy_bytes(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


@pytest.fixture(scope="session")
def npy() -> Callable[..., bytes]:
    """``npy(array)`` -> the bytes of an .npy file."""
    return npy_bytes


def check_problem(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> None:
    body = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["code"] == code, body
    assert {"type", "title", "status", "detail", "code", "request_id"} <= body.keys()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    for secret in ("Traceback", "/tmp", ".py", "site-packages"):
        assert secret not in answer.text
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], body


@pytest.fixture(scope="session")
def is_problem() -> Callable[..., None]:
    """``is_problem(answer, status, code, pointer=None)``: the answer is this problem, in the right format."""
    return check_problem
