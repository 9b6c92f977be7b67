"""A stored generator: one directory of plain files, immutable, like that of an encoder (``nidim.stored``).

model.safetensors   weights, averaged over the training
config.json         spec, sizes, the law that it is fed from, the encoder that it was trained with, provenance
report.json         samples beside real images, fed from the prior and from held-out embeddings
samples.png         a hundred draws
README.md           model card
prior.safetensors   the law, where it is a flow
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from nidim import FORMAT_VERSION
from nidim.errors import BundleError
from nidim.generate import draw, pictures
from nidim.generate.models import Generator, build_generator
from nidim.generate.report import GeneratorReport
from nidim.priors import FlowPrior, Prior, prior_from_dict
from nidim.spec.generator import FullGeneratorSpec, ResolvedGenerator
from nidim.stored import MANIFEST, Manifest, cleared, manifest_of, require_kind, verified
from nidim.torch_defaults import own_defaults

WEIGHTS, PRIOR, CONFIG, REPORT, CARD, SAMPLES = (
    "model.safetensors",
    "prior.safetensors",
    "config.json",
    "report.json",
    "README.md",
    "samples.png",
)
FILES = (WEIGHTS, PRIOR, CONFIG, REPORT, CARD, SAMPLES)
SHOWN = 100


class SourceEncoder(BaseModel):
    """The encoder that a generator was trained with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str = Field(description="as it was named")
    digest: str = Field(description="of its bundle")


class GeneratorConfig(BaseModel):
    """What config.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    kind: str = "generator"
    spec: FullGeneratorSpec
    resolved: ResolvedGenerator
    prior: dict[str, Any] = Field(description="law of the embeddings that it is fed with")
    source: SourceEncoder
    provenance: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class GeneratorBundle:
    """A loaded generator."""

    config: GeneratorConfig
    report: dict[str, Any]
    digest: str
    model: Generator
    prior: Prior

    def generate(
        self, n: int, *, seed: int = 0, offset: int = 0, temperature: float = 1.0
    ) -> NDArray[np.uint8]:
        """Images (n, h, w, c) of rows [offset, offset + n) of the prior's stream; the same for the same seed."""
        return self._whole(
            draw.from_prior(self.model, self.prior, n, seed=seed, offset=offset, temperature=temperature)
        )

    def from_embeddings(
        self, embeddings: ArrayLike, *, seed: int = 0, same_noise: bool = False
    ) -> NDArray[np.uint8]:
        """Images (n, h, w, c) of embeddings (n, d); ``same_noise``: only the embedding changes from one to the next."""
        return self._whole(
            draw.from_embeddings(self.model, self.prior, embeddings, seed=seed, same_noise=same_noise)
        )

    def _whole(self, parts: Iterator[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        size, channels = self.config.resolved.image_size, self.config.resolved.channels
        return np.concatenate([np.empty((0, size, size, channels), np.uint8), *parts])


def save(
    directory: Path | str,
    *,
    model: Generator,
    prior: Prior,
    spec: FullGeneratorSpec,
    resolved: ResolvedGenerator,
    source: SourceEncoder,
    report: GeneratorReport,
    card: str,
    history: list[dict[str, Any]],
    provenance: dict[str, Any],
) -> Manifest:
    """Write a bundle into ``directory``, in place of one that lies there; returns its manifest, also written."""
    directory = Path(directory)
    cleared(directory, FILES)
    config = GeneratorConfig(
        format_version=FORMAT_VERSION,
        spec=spec,
        resolved=resolved,
        prior=prior.describe(),
        source=source,
        provenance=provenance,
    )
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    (directory / WEIGHTS).write_bytes(to_bytes(state))  # save_file makes it readable by its owner alone
    if isinstance(prior, FlowPrior):
        (directory / PRIOR).write_bytes(prior.data)
    (directory / CONFIG).write_text(config.model_dump_json(indent=1))
    shown = {**report.model_dump(mode="json"), "history": history}
    (directory / REPORT).write_text(json.dumps(shown, indent=1, allow_nan=False))
    (directory / CARD).write_text(card)
    samples = np.concatenate(list(draw.from_prior(model, prior, SHOWN, seed=0)))
    (directory / SAMPLES).write_bytes(pictures.png(pictures.grid(samples)))
    manifest = manifest_of(directory, FILES)
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return manifest


@own_defaults()
def load(directory: Path | str, *, expect: Manifest | None = None) -> GeneratorBundle:
    """Load a generator, its digest verified as that of an encoder is.

    Raises BundleError when a file is missing, altered or of another format version, or where there is no generator.
    """
    directory = Path(directory)
    require_kind(directory, "generator")
    manifest = verified(directory, expect, FILES)
    config = _config(directory)
    try:
        path = directory / PRIOR
        prior = prior_from_dict(config.prior, file=path.read_bytes() if path.is_file() else None)
        with torch.random.fork_rng(devices=[]):  # of weights that are overwritten
            model = build_generator(config.spec, config.resolved)
        model.load_state_dict(load_file(directory / WEIGHTS))
        report = json.loads((directory / REPORT).read_text())
    except (SafetensorError, RuntimeError, ValueError, OSError) as exc:
        raise BundleError(f"The files of the generator do not fit together: {str(exc)[:300]}") from exc
    return GeneratorBundle(config, report, manifest.digest, model.eval(), prior)


def _config(directory: Path) -> GeneratorConfig:
    try:
        values = json.loads((directory / CONFIG).read_text())
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise BundleError(f"The bundle has format {version}; this version reads {FORMAT_VERSION}.")
        return GeneratorConfig.model_validate(values)
    except ValidationError as exc:
        raise BundleError(f"{CONFIG} is not understood: {exc.errors()[0]['msg']}") from exc
    except (OSError, ValueError, AttributeError) as exc:
        raise BundleError(f"{CONFIG} cannot be read: {exc}") from exc
