"""Choices that depend on the machine: device, precision, memory layout, threads.

They are measured at the start, stored in :class:`~nidim.capacity.Resolved`, and reused on resume.
"""

from __future__ import annotations

import time
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from nidim.capacity import Resolved
from nidim.spec import FullSpec
from nidim.spec.generator import FullGeneratorSpec, ResolvedGenerator

Dtype = Literal["float32", "bfloat16"]
Choices = TypeVar("Choices", Resolved, ResolvedGenerator)
TRIALS = 3
WORTH_MEASURING_S = 20.0
GAIN = 1.1  # bfloat16 has to be faster by this factor to be chosen
FEW = 16  # a first look takes the batch over this
HOPELESS = 2.0  # a CPU that takes longer by this factor with bfloat16 on a few images is not asked about all


def pick_device() -> str:
    """The accelerator that is there, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose(
    spec: FullSpec | FullGeneratorSpec, resolved: Choices, network: nn.Module, sample: Tensor
) -> Choices:
    """``resolved`` with device, dtype, layout and threads; a choice that is already there is kept.

    Only a device that is not there any more gives way: a training may go on after its GPU has left.

    ``network``: what runs in the chosen precision; ``sample``: a float batch (n, c, h, w) on the CPU to measure with.
    """
    if resolved.device is not None and resolved.dtype is not None:
        there = resolved.device == "cpu" or resolved.device == pick_device()
        return resolved if there else resolved.model_copy(update={"device": pick_device()})
    device = pick_device()
    steps = spec.epochs * resolved.steps_per_epoch
    dtype: Dtype = "float32" if spec.precision == "auto" else spec.precision
    if spec.precision == "auto":
        dtype = fastest(network.to(device), sample.to(device), steps=steps)
    return resolved.model_copy(
        update={
            "device": device,
            "dtype": dtype,
            "channels_last": lays_channels_last(device, dtype),
            "threads": torch.get_num_threads(),
        }
    )


def fastest(network: nn.Module, sample: Tensor, *, steps: int) -> Dtype:
    """bfloat16 if a forward and backward pass measures faster by a tenth, else float32; each in its layout.

    The two are measured in turn and the fastest pass of each counts, so that a moment in which the machine was busy
    does not decide. A training whose ``steps`` take seconds anyway stays in float32: measuring would cost more. So
    would a whole batch on a CPU without instructions for bfloat16, which takes several times as long with it.
    """
    worth = _measure(network, sample, "float32") * steps > WORTH_MEASURING_S
    gains = False
    if worth and not _is_hopeless(network, sample):
        plain, half = _in_turn(network, sample)
        gains = plain > GAIN * half
    network.zero_grad(set_to_none=True)
    return "bfloat16" if gains else "float32"


def _is_hopeless(network: nn.Module, sample: Tensor) -> bool:
    """Whether a few images tell. On a GPU they tell how long a kernel takes to start, so it is not asked."""
    if sample.device.type != "cpu":
        return False
    plain, half = _in_turn(network, sample[: max(2, len(sample) // FEW)])
    return half > HOPELESS * plain


def _in_turn(network: nn.Module, sample: Tensor) -> tuple[float, float]:
    """Seconds of the fastest pass in float32 and of that in bfloat16."""
    pairs = [
        (_measure(network, sample, "float32"), _measure(network, sample, "bfloat16")) for _ in range(TRIALS)
    ]
    plain, half = zip(*pairs, strict=True)
    return min(plain), min(half)


def lays_channels_last(device: str, dtype: Dtype) -> bool:
    """Whether images and kernels lie channels_last: for bfloat16, and on the CPU for float32, too.

    There poolings and norms of the conv net take half the time so, and a ResNet-18 is no slower.
    """
    return dtype == "bfloat16" or device == "cpu"


def _measure(network: nn.Module, sample: Tensor, dtype: Dtype) -> float:
    """Seconds of one pass, after one that is not counted; the buffers of the model are left as they were."""
    kept = {name: value.clone() for name, value in network.named_buffers()}
    channels_last = lays_channels_last(sample.device.type, dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    to_layout(network, layout)
    images = sample.contiguous(memory_format=layout)
    for _ in range(2):
        start = time.perf_counter()
        with autocast(images.device.type, dtype):
            loss = network(images).float().square().mean()
        loss.backward()
        if images.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    for name, value in network.named_buffers():
        value.copy_(kept[name])
    return seconds


def autocast(device_type: str, dtype: Dtype | None) -> torch.autocast:
    """Mixed precision for the forward pass; switched off for float32."""
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def to_layout(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """The model with its kernels laid out in memory as ``layout`` says."""
    return model.to(memory_format=layout)  # type: ignore[call-overload]
