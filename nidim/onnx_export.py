"""Export to ONNX, scaling and normalisation inside, resizing not; checked against the model.

Both compute in float32 in different orders, so they differ by some rounding errors of the largest value in a row.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from nidim.encoders import EncoderModel
from nidim.errors import BundleError

PARITY = 1e-4
OPSET = 18
ANY_NUMBER = {"images": {0: torch.export.Dim("n", min=1)}}
"""How many images there are is left open."""


class FromPixels(nn.Module):
    """uint8 (n, h, w, c) -> embeddings, as one graph."""

    def __init__(self, model: EncoderModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n d"]:
        return self.model.embed_uint8(images)


def export_onnx(model: EncoderModel, path: Path, *, sample: UInt8[Tensor, "n h w c"]) -> float:
    """Write ``path``; returns the largest difference from the model over the images ``sample``, see ``difference``.

    Raises BundleError when that is over 1e-4, or the model cannot be exported; no file is left then.
    """
    try:
        _export(FromPixels(model).eval(), sample, path)
        off = parity(model, path, sample)
    except (
        Exception
    ) as error:  # of the exporter, the checker or the runtime, each with a tree of errors of its own
        path.unlink(missing_ok=True)
        raise BundleError(f"The model cannot be exported to ONNX: {str(error)[:300]}") from error
    if off > PARITY:
        path.unlink(missing_ok=True)
        raise BundleError(f"The ONNX file differs from the model by {off:.2g}, more than {PARITY:g}.")
    return off


def some_pixels(image_size: int, channels: int) -> UInt8[Tensor, "n h w c"]:
    """Three random images, where there are no real ones to compare on."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, image_size, image_size, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _export(module: nn.Module, images: Tensor, path: Path) -> None:
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            torch.onnx.export(
                module,
                (images,),
                str(path),
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes=ANY_NUMBER,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)


def parity(model: EncoderModel, path: Path, images: Tensor) -> float:
    """The ``difference`` between the ONNX file and the model on uint8 ``images`` (n, h, w, c)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["embeddings"], {"images": images.numpy()})
    with torch.no_grad():
        return difference(found, model.embed_uint8(images).numpy())


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest one between rows (n, d).

    In units of the largest coordinate of a row, or absolute where that is below 1.
    """
    scale = np.maximum(np.abs(expected).max(1, keepdims=True), 1.0)
    return float((np.abs(found - expected) / scale).max())
