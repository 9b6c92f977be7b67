"""Export to ONNX, scaling and normalisation inside, resizing not; checked against the model."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from nidim.encoders import EncoderModel
from nidim.errors import BundleError

PARITY = 1e-4
OPSET = 18


class _FromPixels(nn.Module):
    """uint8 (n, h, w, c) -> embeddings, as one graph."""

    def __init__(self, model: EncoderModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n d"]:
        return self.model.embed_uint8(images)


def export_onnx(model: EncoderModel, path: Path, *, image_size: int, channels: int) -> float:
    """Write ``path``; returns the largest difference from the model over a few random images.

    Raises BundleError when that is over 1e-4.
    """
    images = torch.randint(
        0,
        256,
        (3, image_size, image_size, channels),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    _export(_FromPixels(model).eval(), images, path)
    difference = parity(model, path, images)
    if difference > PARITY:
        raise BundleError(f"The ONNX file differs from the model by {difference:.2g}, more than {PARITY:g}.")
    return difference


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
                dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)


def parity(model: EncoderModel, path: Path, images: Tensor) -> float:
    """Largest absolute difference between the ONNX file and the model on uint8 ``images`` (n, h, w, c)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["embeddings"], {"images": images.numpy()})
    with torch.no_grad():
        expected = model.embed_uint8(images).numpy()
    return float(np.abs(found - expected).max())
