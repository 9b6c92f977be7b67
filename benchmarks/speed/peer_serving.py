"""Peers that serve the encoder, as their guides to batching recommend: ``python peer_serving.py NAME PORT``.

The encoder is the TorchScript file of ``PEER_MODEL``: uint8 (n, h, w, c) -> float32 (n, d). Each decodes the image
files of its requests with Pillow, batches what is waiting, and answers JSON. Math threads are pinned to one, as ours
are on two cores: unpinned ones cost all of them a factor. Knows nothing of ours.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

BATCH, WINDOW_S = 64, 0.005


def pixels(image):
    """uint8 (size, size, 1)."""
    import numpy as np
    from PIL import Image

    size = int(os.environ["PEER_SIZE"])
    gray = image.convert("L").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(gray, dtype=np.uint8)[:, :, None]


def load():
    """The encoder."""
    import torch

    torch.set_num_threads(1)
    return torch.jit.load(os.environ["PEER_MODEL"]).eval()


def command(name: str, port: str) -> list[str]:
    """What runs this peer."""
    if name == "litserve":
        return [sys.executable, "peer_litserve.py", port]
    return [sys.executable, *f"-m bentoml serve peer_bentoml:Embed --host 127.0.0.1 --port {port}".split()]


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    os.execv(sys.executable, command(*sys.argv[1:]))
