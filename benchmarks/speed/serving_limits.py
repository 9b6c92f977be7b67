"""What is asked, and the least that it takes: image files, and decoding and forward pass with nothing around them."""

from __future__ import annotations

import base64
import io
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.speed import measure
from benchmarks.speed.serving_servers import FACTS
from benchmarks.speed.traffic import post
from nidim import bundle
from nidim.data.pixels import to_array
from nidim.onnx_run import OnnxEncoder

SIZE = FACTS.height
PATH = "/v1/encoders/first/embed"
NPY = "application/x-npy"
BOUNDARY = "speed-boundary"
JPEG_SIDE = 224


def picture(kind: str, side: int, seed: int) -> bytes:
    """A colour image file: noise, in JPEG as smooth as photographs are."""
    draws = np.random.default_rng(seed)
    coarse = side // 8 if kind == "JPEG" else side
    pixels = draws.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def array(n: int, seed: int) -> NDArray[np.uint8]:
    """Noise of the encoder's size, (n, h, w, 1)."""
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE, 1), dtype=np.uint8)


def npy(images: NDArray[np.uint8]) -> bytes:
    """A file."""
    stream = io.BytesIO()
    np.save(stream, images)
    return stream.getvalue()


def form(files: list[bytes], kind: str) -> tuple[bytes, str]:
    """A multipart body with the field ``images`` of each file, and its Content-Type."""
    extension = kind.rpartition("/")[2]
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="x.{extension}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    ).encode()
    body = b"".join(head + file + b"\r\n" for file in files) + f"--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Bodies:
    """The requests of all parts of the section."""

    png_file: bytes
    jpeg_files: list[bytes]
    png: bytes
    npy: bytes
    npy_64: bytes
    jpegs: bytes
    litserve: bytes
    bentoml: bytes

    @classmethod
    def make(cls, jpegs: int) -> Bodies:
        """With ``jpegs`` images in the request of JPEGs."""
        png = picture("PNG", 32, 0)
        jpeg_files = [picture("JPEG", JPEG_SIDE, seed) for seed in range(jpegs)]
        encoded = base64.b64encode(png)
        rows = {"Accept": NPY}
        return cls(
            png_file=png,
            jpeg_files=jpeg_files,
            png=post(PATH, png, "image/png"),
            npy=post(PATH, npy(array(1, 0)), NPY),
            npy_64=post(PATH, npy(array(64, 0)), NPY, **rows),
            jpegs=post(PATH, *form(jpeg_files, "image/jpeg"), **rows),
            litserve=post("/predict", b'{"image_data": "' + encoded + b'"}', "application/json"),
            bentoml=post("/embed", *form([png], "image/png")),
        )


class Encoder:
    """The encoder in this process, as the service runs it, on one thread or more."""

    def __init__(self, directory: Path) -> None:
        self._bundle, self._path = bundle.load(directory), directory / bundle.ONNX

    def seconds(self, n: int, *, threads: int = 1, least_s: float = 0.2) -> float:
        """Of a forward pass of ``n`` images, by the clock, the median of at least ``least_s``."""
        encoder, images = OnnxEncoder(self._path, threads=threads), array(n, n)
        return _median_s(lambda: encoder.embed(images), least_s)

    def traced(self, path: Path) -> Path:
        """The TorchScript file for the peers, uint8 (n, h, w, c) -> float32 (n, d)."""

        class Whole(torch.nn.Module):
            def __init__(self, model: torch.nn.Module) -> None:
                super().__init__()
                self.model = model

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return self.model(images.permute(0, 3, 1, 2).float() / 255)

        with torch.no_grad():
            traced = torch.jit.trace(Whole(self._bundle.model), torch.from_numpy(array(3, 0)))
        traced.save(str(path))
        return path


def decode_s(file: bytes, *, least_s: float = 0.2) -> float:
    """Seconds to decode one image file as the service does, in this process."""
    return _median_s(lambda: to_array(file, size=SIZE, channels=1), least_s)


def decodes_a_second(files: list[bytes], *, cores: int, seconds: float) -> float:
    """Image files a second on ``cores`` processes that do nothing else."""
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.starmap(_decode_for, [(files, 0.1)] * cores)
        began = time.perf_counter()
        done = sum(pool.starmap(_decode_for, [(files, seconds)] * cores, chunksize=1))
        return done / (time.perf_counter() - began)


def _decode_for(files: list[bytes], seconds: float) -> int:
    deadline, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < deadline:
        to_array(files[done % len(files)], size=SIZE, channels=1)
        done += 1
    return done


def _median_s(work: measure.Work, least_s: float) -> float:
    work()
    taken: list[float] = []
    while sum(taken) < least_s or len(taken) < 5:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]
