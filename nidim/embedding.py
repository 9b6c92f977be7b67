"""Images through a frozen network, a batch at a time: clean embeddings in bounded memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nidim.augment import augment
from nidim.encoders import EncoderModel, scale
from nidim.feed import chunks
from nidim.footprint import embed_batch
from nidim.normalize import UnitMoments
from nidim.spec.views import Augmentation


@torch.no_grad()
def embed(model: EncoderModel, images: NDArray[np.uint8], *, batch: int | None = None) -> NDArray[np.float32]:
    """Clean embeddings (n, d) of uint8 images (n, h, w, c), float32, in the model's present mode and device.

    Written into one array: small results kept between large temporary buffers would hold on to the memory of all.
    """
    device = next(model.parameters()).device
    dim = len(model.constraint.mean) if isinstance(model.constraint, UnitMoments) else 0
    found, done = np.empty((0, dim), dtype=np.float32), 0
    for chunk in chunks(images, batch or embed_batch(images.shape[1] * images.shape[2])):
        rows = model.embed_uint8(chunk.to(device)).cpu().numpy()
        if done == 0:
            found = np.empty((len(images), rows.shape[1]), dtype=np.float32)
        found[done : done + len(rows)] = rows
        done += len(rows)
    return found


@torch.no_grad()
def embed_views(
    model: EncoderModel, images: NDArray[np.uint8], augmentation: Augmentation, *, views: int, seed: int
) -> NDArray[np.float32]:
    """Clean embeddings (m, v, d) of ``views`` random views of each of ``images`` (m, h, w, c), float32."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    found = []
    for chunk in chunks(images, embed_batch(images.shape[1] * images.shape[2])):
        originals = scale(chunk.to(device))
        seen = [model(augment(originals, augmentation, generator=generator)).cpu() for _ in range(views)]
        found.append(torch.stack(seen, dim=1).numpy())
    return np.concatenate(found)
