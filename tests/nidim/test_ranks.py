"""Trainings over several processes are those of one: gradients, moments, what is kept, how they stop and go on."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nidim import bundle, ranks
from nidim.checkpoint import Checkpoint, load_checkpoint
from nidim.encoders import resnet
from nidim.errors import NidimError
from nidim.world import ALONE
from tests import ranks as real
from tests.blocks import session, shell

ROUNDING = {"bfloat16": 5e-2}
"""‖Δg‖/‖g‖ over all gradients of a training that may be its rounding; 1e-3 in float32, where 2e-5 was the most seen."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the trainings over 2 and 4 processes have left what they ended with."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, "-m", "tests.ranks", str(folder)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    return folder


@functools.cache
def alone(name: str) -> Checkpoint:
    """The same case in one process."""
    return real.train(name)[1][-1]


def flat(kept: Checkpoint, wanted: Callable[[str], bool]) -> torch.Tensor:
    """All numbers of a checkpoint whose names are wanted."""
    values = [v for k, v in sorted(kept.tensors.items()) if wanted(k) and v.is_floating_point()]
    return torch.cat([v.double().flatten() for v in values])


def apart(found: Checkpoint, expected: Checkpoint, wanted: Callable[[str], bool]) -> float:
    a, b = flat(found, wanted), flat(expected, wanted)
    return float((a - b).norm() / b.norm())


def is_gradient(name: str) -> bool:
    """The momentum of SGD without weight decay: gradients and nothing else."""
    return name.endswith("momentum_buffer")


OVER = [*((name, 2) for name in real.CASES), *((name, 4) for name in real.FEW)]


@pytest.mark.parametrize(("name", "size"), OVER)
def test_gradients_and_state_are_those_of_one_process(name: str, size: int, ended: Path) -> None:
    found, expected = load_checkpoint(ended / f"{name}-{size}"), alone(name)
    assert found.tensors.keys() == expected.tensors.keys()
    assert found.meta["step"] == expected.meta["step"] == 2
    assert apart(found, expected, is_gradient) < ROUNDING.get(name, 1e-3)
    assert apart(found, expected, lambda k: not is_gradient(k)) < 1e-5, "weights, moments, averages"
    for key, value in found.tensors.items():
        assert value.is_floating_point() or torch.equal(value, expected.tensors[key]), key
    for one, other in zip(found.meta["history"], expected.meta["history"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4, abs=1e-2 if name in ROUNDING else 1e-5)


@pytest.mark.parametrize(("name", "size"), OVER)
def test_all_ranks_end_with_the_same_weights_to_the_bit(name: str, size: int, ended: Path) -> None:
    first, *others = (load_file(ended / f"{name}-{size}-{rank}") for rank in range(size))
    for weights in others:
        for key, value in first.items():
            assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize("mistake", real.MISTAKES)
def test_the_comparison_would_notice(mistake: str, ended: Path) -> None:
    found = load_checkpoint(ended / f"wrong {mistake}-2")
    assert apart(found, alone(real.STOPPED), is_gradient) > 5e-2


def test_one_rank_stops_all_and_more_ranks_go_on(ended: Path) -> None:
    stopped = load_checkpoint(ended / "stopped")
    assert (stopped.meta["step"], stopped.meta["ranks"]) == (1, 2)
    found, expected = load_checkpoint(ended / "gone on-4"), alone(real.STOPPED)
    assert apart(found, expected, is_gradient) < 1e-3
    assert apart(found, expected, lambda k: not is_gradient(k)) < 1e-5


def test_as_many_ranks_go_on_to_the_bit(ended: Path) -> None:
    found, expected = (load_checkpoint(ended / f"{name}-2").tensors for name in ("gone on", real.STOPPED))
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key


def test_the_command_stops_at_a_signal_to_any_rank_and_goes_on_to_one_bundle(ended: Path) -> None:
    def said(when: str, rank: int) -> tuple[int, str]:
        code, text = (ended / f"said-{when}-{rank}").read_text().split("\n", 1)
        return int(code), text

    code, text = said("first", 0)
    assert code == 1
    assert "Stopped; the same command goes on from" in text
    assert said("first", 1) == (0, "")
    code, text = said("then", 0)
    assert code == 0, text
    assert "Going on from step 2." in text
    assert said("then", 1) == (0, "")
    encoder = bundle.load(ended / "out")
    assert bundle.read_config(ended / "out").provenance["ranks"] == 2
    assert np.isfinite(encoder.embed(real.images()[:4])).all()
    assert not (ended / "out" / "checkpoint.safetensors").exists()


def test_the_command_of_the_page_trains_over_the_processes_it_names(tmp_path: Path) -> None:
    """On two processes of the CPU, a small training; a port of its own, and no ONNX."""
    small = 'encoder = {kind = "conv", dim = 2, width = 4}\nepochs = 1\nevaluation = "quick"\n'
    (tmp_path / "spec.toml").write_text(f'dataset = "digits"\n{small}')
    command = session("docs/several-gpus.md", "torchrun-session").replace("-node 4", "-node 2").rstrip()
    done = shell(f"{command} --no-onnx", tmp_path, PET_STANDALONE="1", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert bundle.read_config(tmp_path / "runs" / "digits").provenance["ranks"] == 2


def test_one_process_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks.join() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ranks.join() is ALONE


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(NidimError, match="--nproc-per-node 2"):
        ranks.join()


def test_every_batch_norm_of_a_deep_network_is_found() -> None:
    network = resnet("resnet18", channels=1, dim=2, stem="cifar")
    norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert [norm for *_, norm in ranks._norms(network)] == norms
    assert len(norms) == 20
