"""A stored encoder: weights, spec, preprocessing, report and provenance in one directory of plain files.

    model.safetensors   weights
    config.json         spec, what "auto" became, prior, preprocessing, provenance
    report.json         the evidence that the embeddings follow the prior, and what they are good for
    report.html         the same for people, in one file that stands alone
    README.md           model card
    prior.safetensors   the law, where it is a flow: its weights and the points that it was fitted to
    model.onnx          `images` uint8 (n, image_size, image_size, c) -> `embeddings` float32 (n, d)

No pickle. A bundle is immutable: its digest is SHA-256 over the lines ``<sha256> <size> <name>``, sorted by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nidim import FORMAT_VERSION
from nidim.build import build_encoder
from nidim.capacity import Resolved
from nidim.embedding import embed
from nidim.encoders import EncoderModel
from nidim.errors import BundleError
from nidim.noise import add_noise
from nidim.onnx_export import export_onnx, some_pixels
from nidim.priors import FlowPrior, Prior, noisy_prior, prior_from_dict
from nidim.spec import FullSpec

log = logging.getLogger(__name__)

WEIGHTS, PRIOR, CONFIG, REPORT, PAGE, CARD, ONNX = (
    "model.safetensors",
    "prior.safetensors",
    "config.json",
    "report.json",
    "report.html",
    "README.md",
    "model.onnx",
)
FILES = (WEIGHTS, PRIOR, CONFIG, REPORT, PAGE, CARD, ONNX)
MANIFEST = "manifest.json"
"""Beside the files of a bundle on disk; not one of them."""


class Preprocessing(BaseModel):
    """How pixels reach the encoder: the one rule for ingestion and embedding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(ge=1, description="side of the square, pixels")
    channels: Literal[1, 3]
    rule: str = (
        "EXIF orientation applied; first frame; 16-bit scaled to 8; palette and CMYK to RGB; alpha over white; "
        "gray by ITU-R 601; shorter side to image_size (Pillow bilinear), centre crop; uint8 / 255"
    )


class Config(BaseModel):
    """What config.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    spec: FullSpec
    resolved: Resolved
    prior: dict[str, Any] = Field(description="law of the clean embeddings; of a flow the digest of its file")
    noisy_prior: dict[str, Any] = Field(description="law promised to the embeddings with noise")
    preprocessing: Preprocessing
    provenance: dict[str, Any]


class FileEntry(BaseModel):
    """One file of a bundle: SHA-256 in hexadecimal, size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Manifest(BaseModel):
    """The files of a bundle and the digest over them all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, FileEntry]
    digest: str

    @property
    def size_bytes(self) -> int:
        return sum(entry.size for entry in self.files.values())


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A loaded encoder."""

    config: Config
    report: dict[str, Any]
    digest: str
    model: EncoderModel
    prior: Prior
    noisy: Prior

    @property
    def spec(self) -> FullSpec:
        return self.config.spec

    @property
    def resolved(self) -> Resolved:
        return self.config.resolved

    @property
    def preprocessing(self) -> Preprocessing:
        return self.config.preprocessing

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Clean embeddings (n, d) of prepared uint8 images (n, image_size, image_size, channels)."""
        side, channels = self.preprocessing.image_size, self.preprocessing.channels
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, channels):
            raise ValueError(
                f"images must be uint8 (n, {side}, {side}, {channels}), got {images.dtype} {images.shape}"
            )
        if len(images) == 0:
            return np.empty((0, self.resolved.dim), dtype=np.float32)
        return embed(self.model, images)

    def embed_noisy(self, images: NDArray[np.uint8], *, seed: int, offset: int = 0) -> NDArray[np.float32]:
        """f(x) + Z; row i uses row offset + i of the stream ``seed``."""
        return add_noise(self.embed(images), self.prior, self.resolved, seed=seed, offset=offset)


def save(
    directory: Path,
    *,
    model: EncoderModel,
    prior: Prior,
    spec: FullSpec,
    resolved: Resolved,
    report: dict[str, Any],
    page: str,
    card: str,
    provenance: dict[str, Any],
    onnx: bool = True,
    sample: NDArray[np.uint8] | None = None,
) -> Manifest:
    """Write a bundle into an empty or missing ``directory``; returns its manifest, also written beside it.

    ``prior``: the law of the embeddings of ``model``.

    The ONNX file is compared with the model on the images ``sample`` (n, h, w, c), random ones if there are none: it
    differs by at most 1e-4. If it does not agree it is left out, with a warning: a training is worth more than that.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = Config(
        format_version=FORMAT_VERSION,
        spec=spec.stored(),
        resolved=resolved,
        prior=prior.describe(),
        noisy_prior=noisy_prior(prior, resolved).describe(),
        preprocessing=Preprocessing(image_size=resolved.image_size, channels=resolved.channels),
        provenance=provenance,
    )
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, directory / WEIGHTS)
    if isinstance(prior, FlowPrior):
        (directory / PRIOR).write_bytes(prior.data)
    (directory / CONFIG).write_text(config.model_dump_json(indent=1))
    (directory / REPORT).write_text(json.dumps(report, indent=1, allow_nan=False))
    (directory / PAGE).write_text(page)
    (directory / CARD).write_text(card)
    if onnx:
        _add_onnx(directory, model, resolved, sample)
    manifest = manifest_of(directory)
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return manifest


def _add_onnx(
    directory: Path, model: EncoderModel, resolved: Resolved, sample: NDArray[np.uint8] | None
) -> None:
    images = (
        torch.from_numpy(sample.copy())  # a memory-mapped one is read-only
        if sample is not None and len(sample)
        else some_pixels(resolved.image_size, resolved.channels)
    )
    try:
        export_onnx(model, directory / ONNX, sample=images)
    except BundleError as error:
        log.warning("the bundle has no %s: %s", ONNX, error)


def manifest_of(directory: Path, names: tuple[str, ...] = FILES) -> Manifest:
    """The manifest of a bundle's files as they are in ``directory`` now; whatever else lies there is no part of it.

    ``names``: the files that a bundle of this kind may have.
    """
    files = {}
    for path in (directory / name for name in names):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[path.name] = FileEntry(sha256=digest, size=path.stat().st_size)
    return Manifest(files=files, digest=digest_of(files))


def digest_of(files: dict[str, FileEntry]) -> str:
    """``sha256:`` and the digest over one line a file, sorted by name."""
    lines = "".join(f"{entry.sha256} {entry.size} {name}\n" for name, entry in sorted(files.items()))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def load(directory: Path, *, expect: Manifest | None = None) -> Bundle:
    """Load a bundle, its digest verified against ``expect`` or the manifest beside the files.

    Raises BundleError when a file is missing, altered or of another format version.
    """
    require_kind(directory, "encoder")
    manifest = verified(directory, expect)
    config, report = read_config(directory), read_report(directory)
    prior = read_prior(directory, config)
    model = build_encoder(config.spec, config.resolved, prior)
    try:
        model.load_state_dict(load_file(directory / WEIGHTS))
    except (SafetensorError, RuntimeError, OSError) as exc:
        raise BundleError(f"{WEIGHTS} does not fit {CONFIG}: {str(exc)[:300]}") from exc
    return Bundle(
        config=config,
        report=report,
        digest=manifest.digest,
        model=model.eval(),
        prior=prior,
        noisy=noisy_prior(prior, config.resolved),
    )


def require_kind(directory: Path, wanted: Literal["encoder", "generator"]) -> None:
    """Raises BundleError where the directory holds the other thing; one that holds neither is refused later."""
    try:
        found = json.loads((directory / CONFIG).read_text()).get("kind", "encoder")
    except (OSError, ValueError, AttributeError):
        return
    if found != wanted:
        held, needed = ("a generator", "an encoder") if wanted == "encoder" else ("an encoder", "a generator")
        raise BundleError(f"{directory.name} holds {held}; give the directory of {needed}.")


def verified(directory: Path, expect: Manifest | None, names: tuple[str, ...] = FILES) -> Manifest:
    """The manifest of the files in ``directory``, which are those of ``expect`` or of the manifest beside them.

    Raises BundleError.
    """
    if not (directory / CONFIG).is_file():
        raise BundleError(f"{directory.name} holds no {CONFIG}; give the directory of a trained encoder.")
    found = manifest_of(directory, names)
    if expect is None and (directory / MANIFEST).is_file():
        expect = Manifest.model_validate(_read_json(directory / MANIFEST))
    if expect is not None:
        for name, entry in expect.files.items():
            if found.files.get(name) != entry:
                raise BundleError(f"{name} is missing or altered: its SHA-256 is not the stored one.")
        if expect.digest != digest_of(expect.files):
            raise BundleError("The manifest does not match its own digest.")
    return expect or found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path.name} cannot be read: {exc}") from exc


def read_config(directory: Path) -> Config:
    """What config.json of a bundle holds, without loading the weights. Raises BundleError."""
    values = _read_json(directory / CONFIG)
    version = values.get("format_version")
    if version != FORMAT_VERSION:  # before anything else is read: a newer one may have fields of its own
        raise BundleError(f"The bundle has format {version}; this version reads {FORMAT_VERSION}.")
    try:
        return Config.model_validate(values)
    except ValidationError as exc:
        raise BundleError(f"{CONFIG} is not understood: {exc.errors()[0]['msg']}") from exc


def read_report(directory: Path) -> dict[str, Any]:
    """What report.json of a bundle holds. Raises BundleError."""
    return _read_json(directory / REPORT)


def read_prior(directory: Path, config: Config) -> Prior:
    """The law of the clean embeddings, without loading the encoder. Raises BundleError."""
    path = directory / PRIOR
    try:
        return prior_from_dict(config.prior, file=path.read_bytes() if path.is_file() else None)
    except (ValueError, OSError) as exc:
        raise BundleError(f"The law of the encoder cannot be read: {exc}") from exc
