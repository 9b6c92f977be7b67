"""A stored encoder: weights, spec, preprocessing, report and provenance in one directory of plain files.

:mod:`nidim.stored` lists the files; here are the model that they hold and how it is written.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from nidim import FORMAT_VERSION
from nidim.build import build_encoder
from nidim.capacity import Resolved
from nidim.embedding import embed
from nidim.encoders import EncoderModel
from nidim.errors import BundleError
from nidim.noisy import add_noise
from nidim.onnx_export import export_onnx, some_pixels
from nidim.priors import FlowPrior, Prior, noisy_prior
from nidim.spec import FullSpec
from nidim.stored import (
    CARD,
    CONFIG,
    MANIFEST,
    ONNX,
    PAGE,
    PRIOR,
    REPORT,
    WEIGHTS,
    Config,
    Manifest,
    Preprocessing,
    cleared,
    manifest_of,
    read_config,
    read_prior,
    read_report,
    require_kind,
    verified,
)
from nidim.torch_defaults import own_defaults

log = logging.getLogger(__name__)


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
        """Clean embeddings (n, d) of prepared uint8 images (n, image_size, image_size, channels).

        Raises ValueError for anything else; a tensor of torch is taken as the array that it holds.
        """
        side, channels = self.preprocessing.image_size, self.preprocessing.channels
        images = _as_array(images)
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, channels):
            raise ValueError(
                f"images must be uint8 (n, {side}, {side}, {channels}), got {images.dtype} {tuple(images.shape)}; of "
                "nidim.data.pixels, to_array makes them of the bytes of a file, prepare of a picture of Pillow, "
                "prepare_array of an array of another size"
            )
        if len(images) == 0:
            return np.empty((0, self.resolved.dim), dtype=np.float32)
        return embed(self.model, images)

    def embed_noisy(self, images: NDArray[np.uint8], *, seed: int, offset: int = 0) -> NDArray[np.float32]:
        """f(x) + Z; row i uses row offset + i of the stream ``seed``."""
        return add_noise(self.embed(images), self.prior, self.resolved, seed=seed, offset=offset)


def _as_array(images: Any) -> Any:
    """As NumPy sees it; of torch, a tensor of bytes of any device, and any other one as it is, to be refused."""
    if not isinstance(images, torch.Tensor):
        return np.asarray(images)
    return images.numpy(force=True) if images.dtype == torch.uint8 else images


def save(
    directory: Path | str,
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
    """Write a bundle into ``directory``, made if it is missing; returns its manifest, also written beside it.

    A bundle that lies there goes first, all its files. ``prior``: the law of the embeddings of ``model``.

    The ONNX file is compared with the model on the images ``sample`` (n, h, w, c), random ones if there are none: it
    differs by at most 1e-4. If it does not agree it is left out, with a warning: a training is worth more than that.
    """
    directory = Path(directory)
    cleared(directory)
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
    (directory / WEIGHTS).write_bytes(to_bytes(state))  # save_file makes it readable by its owner alone
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


@own_defaults()
def load(directory: Path | str, *, expect: Manifest | None = None) -> Bundle:
    """Load a bundle, its digest verified against ``expect`` or the manifest beside the files.

    Raises BundleError when a file is missing, altered or of another format version.
    """
    directory = Path(directory)
    require_kind(directory, "encoder")
    manifest = verified(directory, expect)
    config, report = read_config(directory), read_report(directory)
    prior = read_prior(directory, config)
    with torch.random.fork_rng(devices=[]):  # of weights that are overwritten
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
