"""Export with ``torch.export``: one .pt2 file that runs in PyTorch without nidim, scaling and normalisation inside.

The file holds raw weights and the graph as JSON, no pickle and no path of this machine. ``torch.export.load`` would
unpickle what a changed file brings, and parses its shapes by evaluating text: it is for files of one's own. It is
called here alone, for bytes that were made a line above; the rules of the house forbid any other call.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.export import ExportedProgram

from nidim.encoders import EncoderModel
from nidim.errors import BundleError
from nidim.onnx_export import FromPixels, any_number
from nidim.onnx_run import difference

PARITY = 1e-5


def export_program(model: EncoderModel, path: Path, *, sample: UInt8[Tensor, "n h w c"]) -> float:
    """Write ``path``; returns the largest difference from the model over the images ``sample``, n at least 2.

    ``images`` uint8 (n, h, w, c) -> embeddings float32 (n, d) on the CPU, for any n from 1. The difference is in units
    of the largest coordinate of a row, or absolute where that is below 1. Raises BundleError when it is over 1e-5, or
    the model cannot be exported; nothing is written then.
    """
    try:
        stored = _stored(_program(model, sample))
        off = _parity(model, stored, sample)
    except Exception as error:  # of the exporter, which has several trees of errors
        raise BundleError(f"The model cannot be exported by torch.export: {str(error)[:300]}") from error
    if not off <= PARITY:  # nor NaN
        raise BundleError(f"The exported program differs from the model by {off:.2g}, more than {PARITY:g}.")
    path.write_bytes(stored)
    return off


def _program(model: EncoderModel, sample: Tensor) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.export.export(FromPixels(model).eval(), (sample,), dynamic_shapes=any_number())
    program.example_inputs = None  # they alone would be stored as pickle
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def _stored(program: ExportedProgram) -> bytes:
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


def _parity(model: EncoderModel, stored: bytes, images: Tensor) -> float:
    program = torch.export.load(io.BytesIO(stored))
    with torch.no_grad():
        return difference(program.module()(images).numpy(), model.embed_uint8(images).numpy())
