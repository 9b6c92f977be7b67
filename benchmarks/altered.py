"""Images that are not like those of a training, made from held-out ones, and what a table of figures says of itself."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from nidim import __version__, machine
from nidim.bundle import Bundle

Pixels = NDArray[np.uint8]


def rotated(images: Pixels, degrees: float) -> Pixels:
    """About the centre, bilinear, black outside."""
    turned = ndimage.rotate(images, degrees, axes=(1, 2), reshape=False, order=1)
    return np.asarray(turned, dtype=np.uint8)


def blurred(images: Pixels, sigma: float) -> Pixels:
    """By a Gaussian of ``sigma`` pixels."""
    return np.asarray(ndimage.gaussian_filter(images, (0, sigma, sigma, 0)), dtype=np.uint8)


def faded(images: Pixels, share: float) -> Pixels:
    """Every pixel times ``share``."""
    return np.asarray(images * share, dtype=np.uint8)


def noisy(images: Pixels, sd: float) -> Pixels:
    """Gaussian noise of ``sd`` (1 is the whole scale), clipped."""
    noise = np.random.default_rng(0).normal(0, 255 * sd, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def static(images: Pixels) -> Pixels:
    """Uniform noise alone, as many."""
    return np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)


def gray_photographs(archive: Path, size: int, n: int) -> Pixels:
    """``n`` images of the archive's test/, in gray, uint8 (n, size, size, 1)."""
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.startswith("test/"))
        chosen = np.random.default_rng(0).permutation(len(names))[:n]
        files = [opened.read(names[i]) for i in chosen]
    shown = [Image.open(io.BytesIO(file)).convert("L").resize((size, size)) for file in files]
    return np.stack([np.asarray(image) for image in shown])[..., None]


def once(
    cache: dict[str, NDArray[np.float32]], encoder: Bundle
) -> Callable[[str, Pixels], NDArray[np.float32]]:
    """``embed(name, images)``: each name is embedded once."""

    def embed(name: str, images: Pixels) -> NDArray[np.float32]:
        if name not in cache:
            print(f"embedding {name}", flush=True)
            cache[name] = encoder.embed(images)
        return cache[name]

    return embed


def provenance(encoder: Bundle, seed: int) -> dict[str, Any]:
    """Of a table: which encoder, which spec, where it was made."""
    return {
        "nidim": __version__,
        "git_revision": machine.revision(),
        "processor": machine.processor(),
        "cores": os.cpu_count(),
        "seed": seed,
        "bundle": encoder.digest,
        "spec_digest": encoder.spec.digest,
        "spec": encoder.spec.stored().model_dump(mode="json"),
    }


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(directory: Path, name: str, found: dict[str, Any], page: str) -> None:
    """``name``.json and ``name``.md."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    (directory / f"{name}.md").write_text(page)
