"""Trainings over real processes: ``python -m tests.ranks FOLDER`` runs every case over 2 ranks of gloo, a few over 4.

The launcher is torchrun's; it forks the ranks from one process that has imported torch, so that this is paid once. What
they end with lies in FOLDER; ``tests/nidim/test_ranks.py`` compares it with a training in one process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.distributed.launcher import LaunchConfig, elastic_launch
from torch.nn import functional

from nidim import cli, collectives, ranks, resumable
from nidim.capacity import resolve
from nidim.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nidim.errors import NidimError, SpecError
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from nidim.staged import fit_in_stages
from nidim.train import Fitted, Images
from nidim.world import ALONE, World

SIZES = (2, 4)
N_TRAIN, N_TEST, BATCH = 128, 64, 64
FACTS = DatasetFacts(name="digits", n_train=N_TRAIN, n_test=N_TEST, height=8, width=8, channels=1, classes=10)
SPEC: dict[str, Any] = {
    "dataset": "digits",
    "encoder": {"kind": "conv", "dim": 4, "width": 4},
    "noise": {"kind": "gaussian", "sigma": 0.5},
    "optimizer": {"kind": "sgd", "lr": 0.001, "schedule": "constant", "weight_decay": 0},
    "epochs": 1,
    "batch_size": BATCH,
    "precision": "float32",
}
"""SGD, because it is linear in the gradient: Adam would make the rounding of a gradient of zero a whole step."""
BOUNDS = ("infonce", "donsker_varadhan", "nwj", "jsd", "smile", "nishiyama")
METHODS = ("simclr", "vicreg", "barlow_twins", "byol", "simsiam", "lejepa")
TERMS = ("sliced_epps_pulley", "bhep", "sliced_wasserstein", "adversarial", "uniformity")
WITHIN = {"kind": "gaussian", "sigma": 0.5, "layers": 0.2, "learned": True, "start": 2, "branches": "both"}
CASES: dict[str, dict[str, Any]] = {
    **{kind: {"objective": {"kind": kind}} for kind in BOUNDS},
    **{kind: {"method": {"kind": kind}} for kind in METHODS},
    **{kind: {"regularizer": {"kind": kind}} for kind in TERMS},
    "uniform noise": {"noise": {"kind": "uniform", "epsilon": 0.2}},
    "concat critic": {"critic": {"kind": "concat", "hidden": 16}},
    "local, noise within": {"method": {"kind": "infomax", "local": 1}, "noise": WITHIN},
    "crop, colours, blur": {"augmentation": {"kind": "color", "pixel_noise": 0.1}},
    "elastic, strokes": {"augmentation": {"kind": "digits", "elastic": 0.1, "morphology": 0.5}},
    "two stages": {"method": {"kind": "infomax", "neighbors": 3, "first_dim": 8, "first_epochs": 1}},
    "bfloat16": {"method": {"kind": "infomax", "local": 1}, "precision": "bfloat16"},
}
FEW = ("infonce", "donsker_varadhan", "byol", "local, noise within")
"""Of them over four ranks, too."""
STOPPED = "infonce"
"""The case of which two ranks also keep the checkpoint of its first step, and four go on from there."""


def spec(name: str, **values: Any) -> FullSpec:
    """The whole spec of a case."""
    return TrainSpec.model_validate({**SPEC, **CASES[name], **values}).filled(FACTS)


def images() -> Images:
    """Digits (n, 8, 8, 1), the held-out ones last."""
    found = (load_digits().images / 16 * 255).round().astype(np.uint8)[..., None]
    return found[: N_TRAIN + N_TEST]


@contextlib.contextmanager
def smooth() -> Iterator[None]:
    """Networks without kinks: of two trainings that differ by rounding, one may find itself beyond one, and a gradient
    in another place."""
    with (
        _without(functional, "leaky_relu", lambda x, _slope, _inplace: functional.silu(x)),
        _without(functional, "max_pool2d", lambda x, size, *_given, **_named: functional.avg_pool2d(x, size)),
    ):
        yield


def train(name: str, world: World = ALONE, **hooks: Any) -> tuple[Fitted, list[Checkpoint]]:
    """A case over the ranks of ``world``, and its checkpoints."""
    kept: list[Checkpoint] = []
    asked, given = spec(name), images()
    with smooth():
        fitted = fit_in_stages(
            asked,
            resolve(asked, FACTS)[0],
            given[:N_TRAIN],
            heldout=given[N_TRAIN:],
            on_checkpoint=kept.append,
            world=world,
            **hooks,
        )
    return fitted, kept


def start(size: int, work: Callable[..., None], *given: Any) -> None:
    """``work(*given)`` on each of so many ranks, by the launcher of torchrun; ChildFailedError where one fails."""
    config = LaunchConfig(
        1,
        1,
        size,
        run_id="tests",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        monitor_interval=0.05,
        start_method="fork",
    )
    elastic_launch(config, work)(*given)


def every_case(folder: Path) -> None:
    """All cases, over more than two ranks a few; what the leader keeps and the weights of every rank."""
    world = ranks.join()
    for name in CASES if world.size == 2 else FEW:
        fitted, kept = train(name, world)
        keep(fitted, kept, folder / name, world)
    if world.size == 2:
        wrong_ways(world, folder)
        refusals(world)
    go_on(world, folder)
    world.leave()


def refusals(world: World) -> None:
    """What several processes cannot do is said on each of them."""
    with pytest.raises(SpecError, match="63 images cannot be shared equally by 2 processes; take 62"):
        world.check_shares(63)
    world.check_alike("the same")
    with pytest.raises(NidimError, match="Rank 1") if world.rank else contextlib.nullcontext():
        world.check_alike(f"step {world.rank}")


def keep(fitted: Fitted, kept: list[Checkpoint], path: Path, world: World) -> None:
    """The last checkpoint, which only the leader has, and the parameters that this rank ended with."""
    assert len(kept) == (world.leads if "two stages" not in path.name else 2 * world.leads)
    if world.leads:
        save_checkpoint(kept[-1], path.with_name(f"{path.name}-{world.size}"))
    weights = {k: v.detach().clone() for k, v in fitted.model.named_parameters()}
    save_file(weights, path.with_name(f"{path.name}-{world.size}-{world.rank}"))


def wrong_ways(world: World, folder: Path) -> None:
    """The same with one thing left out, each of which the comparison has to notice."""
    for name, change in MISTAKES.items():
        with change():
            fitted, kept = train(STOPPED, world)
        keep(fitted, kept, folder / f"wrong {name}", world)


@contextlib.contextmanager
def _without(owner: Any, name: str, instead: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, instead)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _own_gradient_only(rows: torch.Tensor) -> torch.Tensor:
    """Gathered so that only this rank's rows have a gradient, and only by this rank."""
    found, k = collectives.all_rows(rows.detach()), ranks.dist.get_rank()
    return torch.cat([found[: k * len(rows)], rows, found[(k + 1) * len(rows) :]])


MISTAKES: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "gradients of each rank": lambda: _without(collectives, "average_gradients", list),
    "moments of each rank": lambda: _without(ranks, "_norms", lambda _network: []),
    "gather without gradient": lambda: _without(collectives, "gather", _own_gradient_only),
    "noise of each rank": lambda: _without(
        ranks.Ranks, "mine", lambda self, rows: rows[: len(rows) // self.size]
    ),
}


def go_on(world: World, folder: Path) -> None:
    """Two ranks stop when the second says so; two, and later four, go on from their checkpoint."""
    path = folder / "stopped"
    if world.size == SIZES[0]:
        fitted, kept = train(STOPPED, world, should_stop=iter([False, world.rank == 1]).__next__)
        assert not fitted.finished
        world.leader_first(lambda: world.leads and save_checkpoint(kept[-1], path))
    fitted, kept = train(STOPPED, world, resume=load_checkpoint(path))
    keep(fitted, kept, folder / "gone on", world)


class StopsAtTheThird(resumable.StopOnSignal):
    """Rank 1 gets SIGTERM when it is asked for the third time, and no other does."""

    asks = 0

    def asked(self) -> bool:
        self.asks += 1
        if self.asks == 3 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        return super().asked()


def command(folder: Path, stops: bool) -> None:
    """``nidim train`` as each rank runs it, to its end or until one rank is told to stop; what it says in a file."""
    if stops:
        resumable.StopOnSignal = StopsAtTheThird  # type: ignore[misc]
    words = ["train", str(folder / "spec.json"), "--out", str(folder / "out"), "--no-onnx"]
    said = CliRunner().invoke(cli.main, words)
    path = folder / f"said-{'first' if stops else 'then'}-{os.environ['RANK']}"
    path.write_text(f"{said.exit_code}\n{said.output}")


def main() -> None:
    folder = Path(sys.argv[1])
    for size in SIZES:
        start(size, every_case, folder)
    (folder / "spec.json").write_text(json.dumps({**SPEC, "epochs": 2, "evaluation": "quick"}))
    start(2, command, folder, True)
    start(2, command, folder, False)


if __name__ == "__main__":
    main()
