"""Import torchvision where its compiled operators may not load.

The wheel of torchvision on PyPI is compiled against one build of torch. Beside another one (a CPU-only torch)
its library ``_C`` cannot be loaded. torchvision tolerates that, but then registers fake kernels for two operators
that nobody has declared (``torchvision::nms``, ``torchvision::qnms``), and ``import torchvision`` fails.
Declaring the two schemas first makes everything that we use work: transforms.v2, models, datasets.
``torchvision.io`` stays unavailable, so images are decoded with Pillow.

The schemas are declared only where the library does not load: declared twice, they would end the process.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """``import torchvision``, with the missing schemas declared before; call it as often as you like."""
    if "torchvision" not in sys.modules:
        _declare_missing_operators()
    import torchvision

    return torchvision


@cache
def _declare_missing_operators() -> object | None:
    """The library of the declarations; the cache keeps it alive, for with it the operators would go."""
    import torch

    if _compiled_operators_load():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        library.define(name + SCHEMA)
    return library


def _compiled_operators_load() -> bool:
    """Load torchvision's own library as its import will do again: loading twice registers once."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "torchvision is not installed; in a checkout of nidim: pip install '.[train]'", name="torchvision"
        )
    for library in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return True
    return False
