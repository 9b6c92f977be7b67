"""torch's optimisers without its compiler.

torch marks the methods of every optimiser for its compiler, which the first call of one of them imports: two seconds
and 67 MB for nothing in a process that compiles nothing. Here the methods are as torch has written them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import optim


def _as_written(method: Callable[..., Any]) -> Callable[..., Any]:
    """What the mark is around, where there is one."""
    return getattr(method, "__wrapped__", method)


class _Plain(optim.Optimizer):
    """The methods that all optimisers share."""

    state_dict = _as_written(optim.Optimizer.state_dict)
    load_state_dict = _as_written(optim.Optimizer.load_state_dict)
    zero_grad = _as_written(optim.Optimizer.zero_grad)
    add_param_group = _as_written(optim.Optimizer.add_param_group)


class Adam(_Plain, optim.Adam):
    """As ``torch.optim.Adam``."""

    step = torch.no_grad()(_as_written(optim.Adam.step))


class AdamW(_Plain, optim.AdamW):
    """As ``torch.optim.AdamW``."""

    step = torch.no_grad()(_as_written(optim.AdamW.step))


class SGD(_Plain, optim.SGD):
    """As ``torch.optim.SGD``."""

    step = torch.no_grad()(_as_written(optim.SGD.step))
