"""BentoML: adaptive batching; images as a multipart form, as its guide to files sends them."""

import bentoml
import numpy as np
import torch
from peer_serving import BATCH, load, pixels
from PIL.Image import Image


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Embed:
    """Metrics and the access log off: they would cost it more than ours cost us."""

    def __init__(self):
        self.model = load()

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=10_000)
    @torch.inference_mode()
    def embed(self, images: list[Image]) -> list[list[float]]:
        stacked = np.stack([pixels(image) for image in images])
        return self.model(torch.from_numpy(stacked)).tolist()
