"""What the commands that train have in common: a stop on a signal, the checkpoint to go on from, what they tell."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nidim import __version__
from nidim.remote import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nidim.checkpoint import Checkpoint
    from nidim.evaluate import Report
    from nidim.generate.report import GeneratorReport
    from nidim.pipeline import Hooks
    from nidim.priors import Prior
    from nidim.stored import Manifest

CHECKPOINT = "checkpoint.safetensors"


class Stopped(click.ClickException):
    """A signal has stopped a training; its checkpoint is kept."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(f"Stopped; the same command goes on from {checkpoint}.")


@contextlib.contextmanager
def showing_hooks(checkpoint: Path, *, shown: bool) -> Iterator[Hooks]:
    """Hooks that stop on a signal; those of the process that shows the training also keep its checkpoints."""
    from nidim.pipeline import Hooks
    from nidim.progress import TrainingDisplay

    stop = StopOnSignal()
    if not shown:
        yield Hooks(should_stop=stop.asked)
        return
    with TrainingDisplay() as display:
        yield Hooks(
            on_step=display.step,
            on_phase=display.phase,
            on_checkpoint=keep_checkpoint(checkpoint),
            should_stop=stop.asked,
        )


def keep_checkpoint(path: Path) -> Callable[[Checkpoint], None]:
    """A hook that writes each checkpoint to ``path``, in place of the one before."""
    from nidim.checkpoint import save_checkpoint

    def keep(found: Checkpoint) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(found, path)

    return keep


class StopOnSignal:
    """SIGINT and SIGTERM ask the training to stop after its step; a second SIGINT ends it at once."""

    def __init__(self) -> None:
        self.stop = False
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, self._note)

    def _note(self, number: int, _frame: Any) -> None:
        if self.stop and number == signal.SIGINT:
            sys.exit(130)
        self.stop = True

    def asked(self) -> bool:
        return self.stop


def resume_from(path: Path, spec_digest: str, *, ranks: int = 1, tell: bool = True) -> Checkpoint | None:
    """The checkpoint of an earlier run of the same spec, if there is one. Raises CheckpointError for another's.

    ``ranks``: over how many processes the training goes on; threads are as before where these are as many.
    """
    from nidim.checkpoint import load_checkpoint
    from nidim.errors import CheckpointError

    if not path.is_file():
        return None
    found = load_checkpoint(path)
    if found.meta["spec_digest"] != spec_digest:
        raise CheckpointError(f"{path} belongs to another spec; remove it, or choose another --out.")
    if tell:
        click.echo(f"Going on from step {found.meta['step']}.", err=True)
    if found.meta.get("ranks", 1) == ranks:
        _use_threads(found.meta["resolved"]["threads"])
    return found


def _use_threads(count: int | None) -> None:
    """As many as the first part of the training had: other sums in another order are other weights."""
    import torch

    if count:
        torch.set_num_threads(count)


def show_stored(
    out: Path, manifest: Manifest, report: Report | GeneratorReport, prior: Prior, **more: Any
) -> None:
    """A new encoder or generator as JSON, under the names that a server gives the same facts."""
    show.echo_json(
        {
            "out": str(out),
            "digest": manifest.digest,
            "size_bytes": manifest.size_bytes,
            "nidim": __version__,
            "dim": prior.dim,
            "prior": prior.describe(),
            "report": show.headline(report.model_dump(mode="json")),
            **more,
        }
    )
