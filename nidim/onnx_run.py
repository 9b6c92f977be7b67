"""An exported encoder in ONNX Runtime: the embeddings of the model without torch, which takes seconds to import.

A row depends on its image alone, bit for bit: not on the batch that it came in, nor on the number of threads. So images
go through a few at a time (``CHUNK``), which also keeps memory flat: a large batch takes no less time an image.

The file says what the model gave for a few fixed images when it was exported. Whoever opens it elsewhere can compare,
and needs no model for that.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nidim.streams import uniform53

PARITY = 1e-4
"""Largest difference from the model, in units of the largest coordinate of a row, or absolute where that is below 1."""
ANSWERS = "nidim.answers"
"""Key of the file's metadata: what the model gave for ``known_images``, as a JSON list of rows."""
CHUNK = 16
KNOWN = 2


def known_images(image_size: int, channels: int) -> NDArray[np.uint8]:
    """Two images of noise, (2, h, w, c), the same on every machine."""
    draws = uniform53(0, rows=(0, KNOWN), d=image_size**2 * channels)
    return (draws * 256).astype(np.uint8).reshape(KNOWN, image_size, image_size, channels)


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference between embeddings (n, d) in the units of ``PARITY``; NaN where one of them is."""
    scale = np.maximum(np.abs(expected).max(1, keepdims=True), 1.0)
    return float((np.abs(found - expected) / scale).max())


class OnnxEncoder:
    """The file ``path`` ready to run. Raises what ONNX Runtime raises where it cannot read it."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_cpu_mem_arena = False  # it would keep the memory of the largest batch
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # beside an event loop
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Clean embeddings (n, d), n ≥ 1, of prepared uint8 images (n, h, w, c)."""
        parts = [self._run(images[low : low + CHUNK]) for low in range(0, len(images), CHUNK)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (rows,) = self._session.run(["embeddings"], {"images": images})
        return np.asarray(rows)

    def disagreement(self) -> float | None:
        """``difference`` from the model on the known images, here and now; None where the file does not say."""
        answers = self._session.get_modelmeta().custom_metadata_map.get(ANSWERS)
        if answers is None:
            return None
        _, side, _, channels = self._session.get_inputs()[0].shape
        return difference(
            self.embed(known_images(side, channels)), np.array(json.loads(answers), dtype=np.float32)
        )
