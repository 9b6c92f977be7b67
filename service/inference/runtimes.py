"""The library that computes an encoder: ONNX Runtime or torch. Which one, and why: docs/decisions/0018.

On the CPU, ``auto`` takes ONNX Runtime for every encoder whose exported file gives the model's own answers here, to
1e-4; torch for the others, and on every other device. The answers are in the file, so torch is not even imported to
compare. The choice follows from the file and the machine alone: an encoder that is loaded again, or by another process,
gives the same bits. A choice by the clock would not, and would need both libraries in memory.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nidim.stored import ONNX, Manifest, Preprocessing, read_config, require_kind, verified

if TYPE_CHECKING:
    from nidim.onnx_run import OnnxEncoder

EngineChoice = Literal["auto", "torch", "onnxruntime"]
ENGINES = ("onnxruntime", "torch")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """``embed`` maps uint8 (n, image_size, image_size, channels) to float32 (n, d); ``pin`` prepares its thread."""

    embed: Callable[[NDArray[Any]], NDArray[np.float32]]
    preprocessing: Preprocessing
    engine: str
    pin: Callable[[], None] | None = None


def opened(directory: Path, manifest: Manifest, *, device: str, threads: int, engine: EngineChoice) -> Opened:
    """The encoder in ``directory``, verified, with ``threads`` for its mathematics. Raises BundleError."""
    if engine != "torch" and device == "cpu" and ONNX in manifest.files:
        require_kind(directory, "encoder")
        verified(directory, manifest)
        config = read_config(directory)
        if exported := _exported(directory / ONNX, threads=threads, unproved=engine == "onnxruntime"):
            return Opened(exported.embed, config.preprocessing, "onnxruntime")
    return _in_torch(directory, manifest, device=device, threads=threads)


def _exported(path: Path, *, threads: int, unproved: bool) -> OnnxEncoder | None:
    """The file in ONNX Runtime if it agrees with the model; ``unproved``: one without answers may do, too."""
    try:
        from nidim.onnx_run import PARITY, OnnxEncoder

        found = OnnxEncoder(path, threads=threads)
        gap = found.disagreement()
    except (
        Exception
    ) as error:  # of the runtime, which has a tree of errors of its own, or it is not installed
        logger.warning("ONNX Runtime cannot run the exported encoder, torch will: %s", str(error)[:300])
        return None
    if gap is None:
        return found if unproved else None
    if not gap <= PARITY:  # nor NaN
        logger.warning("ONNX Runtime differs from the encoder by %.2g here, torch will run it", gap)
        return None
    return found


def _in_torch(directory: Path, manifest: Manifest, *, device: str, threads: int) -> Opened:
    from nidim.bundle import load

    bundle = load(directory, expect=manifest)
    bundle.model.to(device)
    return Opened(bundle.embed, bundle.preprocessing, "torch", functools.partial(pin, threads))


def pin(threads: int) -> None:
    """Few threads for torch: beside an event loop, unpinned ones cost a factor of five."""
    import torch

    torch.set_num_threads(threads)
