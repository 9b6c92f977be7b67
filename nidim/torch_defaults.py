"""What torch takes as given, while the library works: its own, not what a caller has set for other models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def own_defaults() -> Iterator[None]:
    """Within it new tensors are float32 on the CPU and gradients are taken; after it all is as the caller had it.

    The type is that of the process: whoever has set another one must not use torch in a second thread meanwhile.
    """
    given = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # a mode that every call of torch would pass through
            stack.enter_context(torch.device("cpu"))
        if given != torch.float32:
            stack.callback(torch.set_default_dtype, given)
            torch.set_default_dtype(torch.float32)
        yield
