"""Export to ONNX, scaling and normalisation inside, resizing not; checked against the model.

Both compute in float32 in different orders, so they differ by some rounding errors of the largest value in a row.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from nidim.encoders import EncoderModel
from nidim.errors import BundleError
from nidim.onnx_run import ANSWERS, PARITY, OnnxEncoder, difference, known_images

OPSET = 18


class FromPixels(nn.Module):
    """uint8 (n, h, w, c) -> embeddings, as one graph."""

    def __init__(self, model: EncoderModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n d"]:
        return self.model.embed_uint8(images)


def any_number() -> dict[str, Any]:
    """How many images there are is left open. A function: to say so imports SymPy, which nothing else here needs."""
    return {"images": {0: torch.export.Dim("n", min=1)}}


def export_onnx(model: EncoderModel, path: Path, *, sample: UInt8[Tensor, "n h w c"]) -> float:
    """Write ``path``; returns the largest difference from the model over the images ``sample``, see ``difference``.

    The file also says what the model gives for ``onnx_run.known_images``.
    Raises BundleError when that is over 1e-4, or the model cannot be exported; no file is left then.
    """
    try:
        program = _export(FromPixels(model).eval(), sample)
        program.model.metadata_props[ANSWERS] = _answers(model, sample)
        program.save(str(path), external_data=False)
        off = parity(model, path, sample)
    except (
        Exception
    ) as error:  # of the exporter, the checker or the runtime, each with a tree of errors of its own
        path.unlink(missing_ok=True)
        raise BundleError(f"The model cannot be exported to ONNX: {str(error)[:300]}") from error
    if not off <= PARITY:  # nor NaN
        path.unlink(missing_ok=True)
        raise BundleError(f"The ONNX file differs from the model by {off:.2g}, more than {PARITY:g}.")
    return off


def some_pixels(image_size: int, channels: int) -> UInt8[Tensor, "n h w c"]:
    """Three random images, where there are no real ones to compare on."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, image_size, image_size, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _export(module: nn.Module, images: Tensor) -> Any:
    """The exporter's program."""
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            return torch.onnx.export(
                module,
                (images,),
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes=any_number(),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)


def _answers(model: EncoderModel, sample: UInt8[Tensor, "n h w c"]) -> str:
    """The rows of the known images of the size of ``sample``, as JSON."""
    _, side, _, channels = sample.shape
    return json.dumps(_rows(model, torch.from_numpy(known_images(side, channels))).tolist())


def _rows(model: EncoderModel, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.embed_uint8(images)


def parity(model: EncoderModel, path: Path, images: Tensor) -> float:
    """The ``difference`` between the ONNX file and the model on uint8 ``images`` (n, h, w, c)."""
    return difference(OnnxEncoder(path).embed(images.numpy()), _rows(model, images).numpy())
