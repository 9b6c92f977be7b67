"""Checkpoints: everything that a training needs to go on, as one safetensors file with JSON in its header.

No pickle: the optimiser's state is flattened into named tensors. Random numbers need no state, because every
draw of a training depends on (seed, step) alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nidim import FORMAT_VERSION
from nidim.errors import CheckpointError


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """``tensors`` by name; ``meta``: JSON values with step, spec_digest, resolved and history."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def capture(
    modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, meta: dict[str, Any]
) -> Checkpoint:
    """A copy of the state of modules and optimiser, on the CPU."""
    tensors = {
        f"{name}.{key}": value.detach().cpu().clone().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"optimizer.{index}.{key}"] = (
                    torch.as_tensor(value).detach().cpu().clone().contiguous()
                )
    return Checkpoint(tensors, {"format_version": FORMAT_VERSION, **meta})


def restore(checkpoint: Checkpoint, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
    """Put the state back. Raises CheckpointError when it does not fit."""
    try:
        for name, module in modules.items():
            prefix = name + "."
            state = {k[len(prefix) :]: v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
            module.load_state_dict(state)
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in checkpoint.tensors.items():
            if key.startswith("optimizer."):
                _, index, field = key.split(".", 2)
                states.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
        _lay_out_like_the_parameters(optimizer)
    except (RuntimeError, ValueError, KeyError) as exc:
        raise CheckpointError(f"The checkpoint does not fit this spec: {str(exc)[:300]}") from exc


def _lay_out_like_the_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Files hold contiguous tensors; moments of a channels_last kernel go back to its layout."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint durably: a temporary file, flushed to the disk, then renamed."""
    temporary = path.with_name(path.name + ".partial")
    save_file(checkpoint.tensors, temporary, metadata={"nidim": json.dumps(checkpoint.meta)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises CheckpointError when the file is damaged or of another format."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["nidim"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as exc:
        raise CheckpointError(f"{path.name} is not a whole checkpoint: {exc}") from exc
    if meta.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path.name} has format {meta.get('format_version')}; start without it.")
    return Checkpoint(tensors, meta)
