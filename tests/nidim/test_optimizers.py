"""torch's optimisers step for step, and without its compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nidim import optimizers

KINDS = {
    "Adam": {"lr": 0.01},
    "AdamW": {"lr": 0.01, "weight_decay": 0.1, "fused": True},
    "SGD": {"lr": 0.01, "momentum": 0.9, "nesterov": True, "fused": True},
}


def stepped(kind: type[torch.optim.Optimizer], values: dict) -> tuple[list[torch.Tensor], dict]:
    """A layer and the optimiser's state after some steps, kept and read again on the way."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3)
    given = torch.randn(16, 5)

    def made() -> torch.optim.Optimizer:
        found = kind([layer.weight], **values)
        found.add_param_group({"params": [layer.bias], "weight_decay": 0.0})
        return found

    optimizer = made()
    for number in range(6):
        optimizer.zero_grad(set_to_none=True)
        layer(given).square().mean().backward()
        optimizer.step()
        if number == 2:
            state = optimizer.state_dict()
            optimizer = made()
            optimizer.load_state_dict(state)
    assert layer.weight.requires_grad
    assert torch.is_grad_enabled()
    return list(layer.parameters()), optimizer.state_dict()


@pytest.mark.parametrize("name", KINDS)
def test_they_are_torchs(name: str) -> None:
    values = KINDS[name]
    weights, state = stepped(getattr(optimizers, name), values)
    expected, their_state = stepped(getattr(torch.optim, name), values)
    assert all(torch.equal(one, other) for one, other in zip(weights, expected, strict=True))
    assert state["param_groups"] == their_state["param_groups"]
    for number, kept in their_state["state"].items():
        for key, value in kept.items():
            assert torch.equal(torch.as_tensor(state["state"][number][key]), torch.as_tensor(value)), key


def test_their_steps_import_no_compiler() -> None:
    code = (
        "import sys; from tests.nidim import test_optimizers as t\n"
        "for name, values in t.KINDS.items(): t.stepped(getattr(t.optimizers, name), values)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "t.stepped(t.torch.optim.AdamW, {})\n"
        "assert 'torch._dynamo' in sys.modules, 'torch does without it now, and so may we'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
