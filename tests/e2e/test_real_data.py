"""The main job over REST on real images: MNIST from a directory, two archives uploaded as a user would."""

from __future__ import annotations

import io
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from nidim.data import pixels

NPY = "application/x-npy"
LIMIT_MB = 400
ARCHIVES = [("cifar10-jpeg.zip", "cifar", 60_000, 10), ("tiny-imagenet-100.zip", "tiny", 29_000, 100)]
SMALL = {
    "encoder": {"kind": "conv", "dim": 4, "width": 8},
    "method": {"kind": "infomax"},
    "epochs": 1,
    "evaluation": "quick",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def server(real_data: Path, tmp_path_factory, start_stack) -> Iterator[tuple[httpx.Client, int]]:
    """A client and the process id of the launcher."""
    data_dir = tmp_path_factory.mktemp("real") / "data"
    with (
        start_stack(data_dir, "--datasets-dir", str(real_data / "torchvision")) as (url, pid),
        httpx.Client(base_url=url, timeout=300, trust_env=False) as client,
    ):
        yield client, pid


def api_process(launcher: int) -> int:
    """The process id of the API."""
    for entry in Path("/proc").glob("[0-9]*/status"):
        text = _read(entry)
        if f"PPid:\t{launcher}\n" in text and "service.serve" in _read(entry.with_name("cmdline")):
            return int(entry.parent.name)
    raise AssertionError("no API process")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def peak_mb(pid: int) -> float:
    """Peak resident memory of a process, MB."""
    return int(re.search(r"VmHWM:\s+(\d+)", _read(Path(f"/proc/{pid}/status")))[1]) / 1024


def train(client: httpx.Client, dataset: str, **spec: int) -> dict:
    """One small training; the encoder that it made."""
    body = {"spec": {"dataset": dataset, **SMALL, **spec}, "encoder": f"{dataset}-small"}
    job = client.post("/v1/jobs", json=body)
    assert job.status_code == 202, job.text
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        found = client.get(job.headers["location"]).json()
        if found["state"] not in ("queued", "running"):
            break
        time.sleep(0.5)
    assert found["state"] == "succeeded", found["failure"]
    return client.get(f"/v1/encoders/{dataset}-small").json()


def embed_files(client: httpx.Client, ref: str, files: list[bytes]) -> np.ndarray:
    answer = client.post(
        f"/v1/encoders/{ref}/embed",
        files=[("images", (f"{i}.jpg", data, "image/jpeg")) for i, data in enumerate(files)],
        headers={"Accept": NPY},
    )
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def check_the_prior(client: httpx.Client, ref: str) -> None:
    """Draws are the same each time, and pages agree with one big draw."""

    def draw(**body: int) -> np.ndarray:
        answer = client.post(f"/v1/encoders/{ref}/prior/sample", json=body, headers={"Accept": NPY})
        assert answer.status_code == 200, answer.text
        return np.load(io.BytesIO(answer.content), allow_pickle=False)

    whole = draw(n=100, seed=7)
    assert whole.shape == (100, 4)
    np.testing.assert_array_equal(whole, draw(n=100, seed=7))
    np.testing.assert_array_equal(whole[60:], draw(n=40, seed=7, offset=60))


@pytest.fixture(scope="module")
def uploads(server, real_data: Path) -> dict[str, tuple[list[dict], float]]:
    """Both archives, uploaded before any encoder is loaded: the progress that was said, and the API's peak memory."""
    client, launcher = server
    found = {}
    for archive, name, _, _ in ARCHIVES:
        told = _upload(client, real_data / archive, name)
        found[name] = (told, peak_mb(api_process(launcher)))
    return found


@pytest.mark.parametrize(("archive", "name", "items", "classes"), ARCHIVES)
def test_an_archive_as_a_user_uploads_it(
    server, uploads, archive: str, name: str, items: int, classes: int
) -> None:
    client, _ = server
    told, peak = uploads[name]
    found = client.get(f"/v1/datasets/{name}").json()
    assert found["state"] == "ready", found
    assert (found["items"], len(found["classes"])) == (items, classes)
    assert found["skipped"]["count"] == 0
    assert told, "the ingestion said no progress"
    assert peak < LIMIT_MB


def test_an_encoder_of_an_archive_embeds_its_files(server, uploads, real_data: Path) -> None:
    """Of the archive with the larger images."""
    client, _ = server
    archive, name, _, _ = ARCHIVES[1]
    path = real_data / archive
    encoder = train(client, name, image_size=16)
    size = encoder["resolved"]["image_size"]
    with zipfile.ZipFile(path) as stored:
        members = [m for m in stored.namelist() if m.startswith("test/") and not m.endswith("/")][::200][:20]
        files = [stored.read(member) for member in members]
    z = embed_files(client, f"{name}-small", files)
    assert z.shape == (20, 4)
    np.testing.assert_allclose(z[::-1], embed_files(client, f"{name}-small", files[::-1]), atol=1e-5)
    prepared = np.stack([pixels.to_array(f, size=size, channels=3) for f in files])
    buffer = io.BytesIO()
    np.save(buffer, prepared, allow_pickle=False)
    again = client.post(
        f"/v1/encoders/{name}-small/embed",
        content=buffer.getvalue(),
        headers={"Content-Type": NPY, "Accept": NPY},
    )
    np.testing.assert_allclose(z, np.load(io.BytesIO(again.content), allow_pickle=False), atol=1e-5)
    check_the_prior(client, f"{name}-small")


def test_mnist_from_the_datasets_directory(server, real_data: Path) -> None:
    client, _ = server
    found = client.get("/v1/datasets/mnist").json()
    assert (found["available"], found["items"]) == (True, 70_000)
    encoder = train(client, "mnist")
    assert encoder["dim"] == 4
    assert encoder["report"]["mi_nats"] > 0.5
    raw = (real_data / "torchvision" / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    images = np.frombuffer(raw, np.uint8).reshape(-1, 28, 28)[:300]
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    headers = {"Content-Type": NPY, "Accept": NPY}
    z = np.load(
        io.BytesIO(
            client.post("/v1/encoders/mnist-small/embed", content=buffer.getvalue(), headers=headers).content
        ),
        allow_pickle=False,
    )
    assert z.shape == (300, 4)
    assert np.abs(z.mean(0)).max() < 0.5
    check_the_prior(client, "mnist-small")


def _upload(client: httpx.Client, path: Path, name: str) -> list[dict]:
    """Upload and wait; the progress that GET said on the way."""
    told: list[dict] = []
    with path.open("rb") as file:
        answer = client.post(
            "/v1/datasets",
            data={"name": name, "license": "research use"},
            files={"file": (path.name, file, "application/zip")},
            headers={"Prefer": "respond-async"},
        )
    assert answer.status_code == 202, answer.text
    deadline, pause = time.monotonic() + 240, threading.Event()
    while time.monotonic() < deadline:
        found = client.get(f"/v1/datasets/{name}").json()
        if found["state"] != "ingesting":
            return told
        if found.get("progress"):
            told.append(found["progress"])
        pause.wait(0.2)
    raise AssertionError("the ingestion did not end")
