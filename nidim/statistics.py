"""What a network has to know of its training set before it is stored: the statistics of its normalisations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from nidim.capacity import Resolved
from nidim.encoders import EncoderModel, scale
from nidim.feed import chunks
from nidim.footprint import embed_batch
from nidim.normalize import UnitMoments

PRECISE_IMAGES = 20_000  # for the statistics of batch norm inside the network


@torch.no_grad()
def recompute_statistics(model: EncoderModel, images: NDArray[np.uint8], resolved: Resolved) -> None:
    """The statistics of batch norm and of the constraint, anew over clean training images, in float32.

    First those inside the network, as plain averages over batches of up to 20,000 images; then, with these
    fixed, mean and variance of the raw outputs over *all* images.
    """
    model.precision = "float32"  # as it will be served
    norms = [m for m in model.network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    model.train()
    order = np.random.default_rng(0).permutation(len(images))[:PRECISE_IMAGES]
    size = max(2, resolved.batch_size)
    for low in range(0, max(len(order) - size + 1, 1), size):
        raw_outputs(model, torch.from_numpy(images[np.sort(order[low : low + size])]), resolved)
    model.eval()
    for norm in norms:
        norm.momentum = 0.1
    at_a_time = embed_batch(resolved.image_size**2)
    if isinstance(model.constraint, UnitMoments):
        raw = (raw_outputs(model, chunk, resolved).double() for chunk in chunks(images, at_a_time))
        mean, var = pooled_moments(raw)
        model.constraint.set_moments(mean.float(), var.float())


def pooled_moments(
    pieces: Iterable[Float[Tensor, "n d"]],
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean and variance (over n) of all rows, one piece in memory at a time.

    Reference: Chan, Golub & LeVeque 1983, Algorithms for computing the sample variance.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for piece in pieces:
        n, here = len(piece), piece.mean(0)
        away = here - mean
        squares = squares + (piece - here).square().sum(0) + away.square() * (count * n / (count + n))
        mean = mean + away * (n / (count + n))
        count += n
    return mean, squares / count


def raw_outputs(model: EncoderModel, batch: Tensor, resolved: Resolved) -> Tensor:
    layout = torch.channels_last if resolved.channels_last else torch.contiguous_format
    images = scale(batch.to(next(model.parameters()).device)).contiguous(memory_format=layout)
    return model.raw(images)
