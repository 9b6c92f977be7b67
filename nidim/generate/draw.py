"""Images from embeddings: deterministic in (embedding, seed, row), pages of a stream agree with one big draw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nidim.generate.models import Generator
from nidim.priors import Prior
from nidim.streams import GENERATOR_DRAWS, uniform53

FARTHEST = 8.0
"""Normal scores are held within ± this: an embedding at the edge of a bounded law has an infinite one."""
AT_ONCE = 128
"""Images of one pass through the network."""


def condition(prior: Prior, embeddings: ArrayLike) -> NDArray[np.float32]:
    """What a generator is told of embeddings (n, d): where they lie under their law, float32 (n, d)."""
    places = prior.positions(np.asarray(embeddings, dtype=np.float64))
    return np.clip(places, -FARTHEST, FARTHEST).astype(np.float32)


def noise(values: int, n: int, *, seed: int, offset: int = 0, same: bool = False) -> NDArray[np.float32]:
    """Rows [offset, offset + n) of the stream of noise ``seed``, N(0, 1), float32 (n, ``values``).

    ``same``: n times row ``offset``.
    """
    rows = (offset, offset + (1 if same else n))
    drawn = special.ndtri(uniform53(seed, rows=rows, d=values, domain=GENERATOR_DRAWS)).astype(np.float32)
    return np.repeat(drawn, n, axis=0) if same else drawn


@torch.no_grad()
def images_of(model: Generator, scores: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 (n, h, w, c) from conditions (n, d) and noise (n, k), on the device of the model."""
    device = next(model.parameters()).device
    made = model.images(torch.from_numpy(scores).to(device), torch.from_numpy(noise).to(device))
    pixels = ((made.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


def from_embeddings(
    model: Generator,
    prior: Prior,
    embeddings: ArrayLike,
    *,
    seed: int,
    offset: int = 0,
    same_noise: bool = False,
) -> Iterator[NDArray[np.uint8]]:
    """Images of embeddings (n, d), a bounded number at a time; row i takes noise of row offset + i.

    ``same_noise``: each takes that of row ``offset``, so that on a walk only the embedding changes.
    """
    scores = condition(prior, embeddings)
    for low in range(0, len(scores), AT_ONCE):
        part, row = scores[low : low + AT_ONCE], offset + (0 if same_noise else low)
        drawn = noise(model.noise_values, len(part), seed=seed, offset=row, same=same_noise)
        yield images_of(model, part, drawn)


def from_prior(
    model: Generator, prior: Prior, n: int, *, seed: int, offset: int = 0, temperature: float = 1.0
) -> Iterator[NDArray[np.uint8]]:
    """Images of rows [offset, offset + n) of the prior's stream ``seed``: no data is touched."""
    for low in range(0, n, AT_ONCE):
        count = min(AT_ONCE, n - low)
        draws = prior.sample(count, seed=seed, offset=offset + low, temperature=temperature)
        yield from from_embeddings(model, prior, draws, seed=seed, offset=offset + low)
