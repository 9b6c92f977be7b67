"""The files of a stored encoder, and what can be read of them without torch.

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

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nidim import FORMAT_VERSION
from nidim.capacity import Resolved
from nidim.errors import BundleError
from nidim.spec import FullSpec

if TYPE_CHECKING:
    from nidim.priors import Prior

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


def cleared(directory: Path, names: tuple[str, ...] = FILES) -> None:
    """``directory`` is there, and without the files of another bundle: one that the next has not would be sealed with
    it. Whatever else lies there stays."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, *names):
        (directory / name).unlink(missing_ok=True)


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


def require_kind(directory: Path, wanted: Literal["encoder", "generator"]) -> None:
    """Raises BundleError where the directory holds the other thing; one that holds neither is refused later."""
    try:
        found = json.loads((directory / CONFIG).read_text()).get("kind", "encoder")
    except (OSError, ValueError, AttributeError):
        return
    if found != wanted:
        held, needed = ("a generator", "an encoder") if wanted == "encoder" else ("an encoder", "a generator")
        raise BundleError(f"{directory.resolve().name} holds {held}; give the directory of {needed}.")


def verified(directory: Path, expect: Manifest | None, names: tuple[str, ...] = FILES) -> Manifest:
    """The manifest of the files in ``directory``, which are those of ``expect`` or of the manifest beside them.

    Raises BundleError.
    """
    if not (directory / CONFIG).is_file():
        raise BundleError(
            f"{directory.resolve().name} holds no {CONFIG}; give the directory of a trained encoder."
        )
    found = manifest_of(directory, names)
    if expect is None and (directory / MANIFEST).is_file():
        expect = Manifest.model_validate(read_json(directory / MANIFEST))
    if expect is not None:
        for name, entry in expect.files.items():
            if found.files.get(name) != entry:
                raise BundleError(f"{name} is missing or altered: its SHA-256 is not the stored one.")
        if expect.digest != digest_of(expect.files):
            raise BundleError("The manifest does not match its own digest.")
    return expect or found


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a bundle. Raises BundleError."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path.name} cannot be read: {exc}") from exc


def read_config(directory: Path) -> Config:
    """What config.json of a bundle holds, without loading the weights. Raises BundleError."""
    if not (directory / CONFIG).is_file():
        raise BundleError(
            f"{directory.resolve().name} holds no {CONFIG}; give the directory of a trained encoder."
        )
    values = read_json(directory / CONFIG)
    version = values.get("format_version")
    if version != FORMAT_VERSION:  # before anything else is read: a newer one may have fields of its own
        raise BundleError(f"The bundle has format {version}; this version reads {FORMAT_VERSION}.")
    try:
        return Config.model_validate(values)
    except ValidationError as exc:
        raise BundleError(f"{CONFIG} is not understood: {exc.errors()[0]['msg']}") from exc


def read_report(directory: Path) -> dict[str, Any]:
    """What report.json of a bundle holds. Raises BundleError."""
    return read_json(directory / REPORT)


def read_prior(directory: Path, config: Config) -> Prior:
    """The law of the clean embeddings, without loading the encoder. Raises BundleError."""
    from nidim.priors import prior_from_dict  # and with it SciPy, which whoever only embeds need not wait for

    path = directory / PRIOR
    try:
        return prior_from_dict(config.prior, file=path.read_bytes() if path.is_file() else None)
    except (ValueError, OSError) as exc:
        raise BundleError(f"The law of the encoder cannot be read: {exc}") from exc
