"""The training process: ``python -m worker.child --scratch DIR --job FILE --events-fd N --lifeline-fd M``.

Reads its job from a file, trains, evaluates and writes the bundle into the scratch directory. It knows no database, no
queue and no key. Events leave as JSON lines on a descriptor of their own, because libraries print to stdout:

    resolved · progress · metric · log · warning · checkpoint {path, step} · then one of done, failed, stopped
    record {level, logger, message, pid} · phase {name}       for the runner's log and trace
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.classify import classify
from worker.emit import Emitter, Records
from worker.guard import Guard, leave_with_parent, take_name
from worker.memory import go_first
from worker.watch import Watch

if TYPE_CHECKING:  # these import torch; SIGTERM must be answered before that takes its seconds
    from nidim.capacity import Resolved
    from nidim.checkpoint import Checkpoint
    from nidim.data import Dataset
    from nidim.generate.train import Progress as GeneratorProgress
    from nidim.spec import FullSpec
    from nidim.spec.generator import ResolvedGenerator
    from nidim.train import Progress

log = logging.getLogger("worker.child")  # where this runs, __name__ is __main__

OURS = ("nidim", "worker")
FAILED = 1
READING_EVERY_S = 5.0
NICE = 5
"""Training yields to the server on the same machine."""


def main(argv: list[str] | None = None) -> int:
    """Train as the job file says; the exit status."""
    given = _arguments(argv)
    leave_with_parent()
    take_name()
    go_first()
    emit = Emitter(given.events_fd)
    guard = Guard(given.lifeline_fd, farewell=lambda: emit("stopped", patience_s=1.0))
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO)
    logging.getLogger().addHandler(Records(emit))
    os.nice(NICE)
    try:
        job = json.loads(given.job.read_text())
        for name in OURS:
            logging.getLogger(name).setLevel(job["settings"].get("log_level", "info").upper())
        return Training(job, given.scratch, emit, guard).run()
    except Exception as error:
        log.exception("the training failed")
        verdict = classify(error)
        emit("failed", retry=verdict.retry, code=verdict.code, message=verdict.message)
        return FAILED


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker.child")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--events-fd", type=int, required=True)
    parser.add_argument("--lifeline-fd", type=int, required=True)
    return parser.parse_args(argv)


@dataclasses.dataclass
class Training:
    """One job of this process: what it is and whom it tells."""

    job: dict[str, Any]
    scratch: Path
    emit: Emitter
    guard: Guard
    watch: Watch = dataclasses.field(default_factory=Watch)
    saved: int = 0
    phase_shown: str = ""
    entered: str = ""
    read_at: float = dataclasses.field(default_factory=lambda: time.monotonic() + READING_EVERY_S)

    def run(self) -> int:
        """Load, train, hand over; the exit status."""
        if self.job.get("kind") == "generator":
            return self._run_generator()
        from nidim import pipeline
        from nidim.spec import TrainSpec

        spec = TrainSpec.model_validate(self.job["spec"])
        resolved, resume = self._resolved(), self._resume()
        dataset = self._dataset(resolved.image_size if resolved else spec.image_size)
        outcome = pipeline.run(
            spec,
            dataset,
            out_dir=self.scratch / "bundle",
            resolved=resolved,
            resume=resume,
            hooks=self._hooks(),
            checkpoint_every_s=self.job["settings"]["checkpoint_every_s"],
            onnx=self.job["settings"]["export_onnx"],
        )
        if outcome.manifest is None or outcome.report is None:
            self.emit("stopped")
            return 0
        self._done(spec.filled(dataset.facts), outcome)
        return 0

    def _done(self, spec: FullSpec, outcome: Any) -> None:
        self.emit(
            "done",
            directory=str(self.scratch / "bundle"),
            manifest=outcome.manifest.model_dump(mode="json"),
            report=outcome.report.model_dump(mode="json"),
            spec=spec.stored().model_dump(mode="json"),
            resolved=outcome.fitted.resolved.model_dump(mode="json"),
            dim=outcome.fitted.resolved.dim,
            prior=outcome.prior.describe(),
        )

    def _run_generator(self) -> int:
        """The same for a generator, with the encoder whose files lie in the scratch directory."""
        from nidim import bundle
        from nidim.generate import pipeline
        from nidim.spec.generator import GeneratorSpec, ResolvedGenerator

        spec = GeneratorSpec.model_validate(self.job["spec"])
        resolved = ResolvedGenerator.model_validate(self.job["resolved"])
        _use_threads(resolved.threads)
        encoder = bundle.load(Path(self.job["source"]))
        outcome = pipeline.run(
            spec,
            encoder,
            self._dataset(resolved.image_size),
            out_dir=self.scratch / "bundle",
            resolved=resolved,
            resume=self._resume(),
            hooks=self._hooks(),
            on_step=self._generator_step,
            on_resolved=self._started,
            checkpoint_every_s=self.job["settings"]["checkpoint_every_s"],
        )
        if outcome.manifest is None or outcome.report is None:
            self.emit("stopped")
            return 0
        self.emit(
            "done",
            directory=str(self.scratch / "bundle"),
            manifest=outcome.manifest.model_dump(mode="json"),
            report=outcome.report.model_dump(mode="json"),
            spec=outcome.spec.model_dump(mode="json"),
            resolved=outcome.fitted.resolved.model_dump(mode="json"),
            dim=outcome.fitted.resolved.dim,
            prior=encoder.prior.describe(),
        )
        return 0

    def _resolved(self) -> Resolved | None:
        """What "auto" became; the threads of the first attempt, so that a resumed training repeats its sums."""
        from nidim.capacity import Resolved

        if not self.job["resolved"]:
            return None
        resolved = Resolved.model_validate(self.job["resolved"])
        _use_threads(resolved.threads)
        return resolved

    def _resume(self) -> Checkpoint | None:
        from nidim.checkpoint import load_checkpoint
        from nidim.errors import CheckpointError

        if self.job["resume"] is None:
            return None
        try:
            return load_checkpoint(Path(self.job["resume"]))
        except CheckpointError:
            log.exception("the checkpoint is not used")
            self.emit("warning", code="checkpoint_unreadable", detail="The last checkpoint cannot be read.")
            return None

    def _dataset(self, image_size: int | None) -> Dataset:
        from nidim.data import Index, load_archive, load_builtin

        source = self.job["dataset"]
        self._enter("dataset")
        self.emit("log", message=f"reading the dataset {source['name']}")
        if source["kind"] == "builtin":
            root = Path(source["root"]) if source["root"] else None
            return load_builtin(
                source["name"], root=root, allow_downloads=source["allow_downloads"], image_size=image_size
            )
        return load_archive(
            Path(source["path"]),
            Index.model_validate_json(Path(source["index"]).read_bytes()),
            name=source["name"],
            image_size=image_size,
            cache_dir=Path(source["cache_dir"]),
            license=source["license"],
            progress=self._reading,
        )

    def _reading(self, done: int, of: int | None) -> None:
        """A new archive is decoded once; that may take minutes."""
        if time.monotonic() >= self.read_at:
            self.read_at = time.monotonic() + READING_EVERY_S
            self.emit("log", message=f"reading images: {done}" + (f" of {of}" if of else ""))

    def _hooks(self) -> Any:
        from nidim.pipeline import Hooks

        return Hooks(
            on_step=self._step,
            on_checkpoint=self._checkpoint,
            on_resolved=self._started,
            on_phase=self._phase,
            should_stop=self.guard.asked_to_stop,
        )

    def _started(self, resolved: Resolved | ResolvedGenerator) -> None:
        """The hardware is chosen, the steps begin."""
        self.emit("resolved", **resolved.model_dump(mode="json"))
        self.guard.training(True)

    def _step(self, progress: Progress) -> None:
        self._tell(progress, "mi_nats", "loss", "capacity_nats", "epps_pulley")
        for code, detail in self.watch.see(progress):
            self.emit("warning", code=code, detail=detail)

    def _generator_step(self, progress: GeneratorProgress) -> None:
        self._tell(progress, "loss")

    def _tell(self, progress: Progress | GeneratorProgress, *measured: str) -> None:
        where = ("step", "steps", "epoch", "epochs", "images_per_s", "eta_s")
        self.emit("progress", **{name: getattr(progress, name) for name in where})
        self.emit("metric", **{name: getattr(progress, name) for name in ("step", *measured)})

    def _checkpoint(self, checkpoint: Checkpoint) -> None:
        """Hand one over. Where the disk is full there is none: no reason to end the training, the next may fit."""
        from nidim.checkpoint import save_checkpoint

        self.saved += 1
        path = self.scratch / f"checkpoint-{self.saved}.safetensors"
        try:
            save_checkpoint(checkpoint, path)
        except Exception as error:  # safetensors has errors of its own for a full disk
            log.warning("a checkpoint cannot be written: %s", error)
            for left in self.scratch.glob(f"{path.name}*"):
                left.unlink()
            self.emit("warning", code="checkpoint_not_stored", detail="A checkpoint could not be written.")
            return
        self.emit("checkpoint", path=str(path), step=checkpoint.meta["step"])

    def _enter(self, name: str) -> None:
        """A new stretch of work, for the log and the trace."""
        if name != self.entered:
            self.entered = name
            self.emit("phase", name=name)
            log.info("%s", name)

    def _phase(self, name: str, fraction: float | None) -> None:
        if name != "training":
            self.guard.training(False)
        self._enter(name)
        shown = name if fraction is None else f"{name} {fraction:.0%}"
        if shown != self.phase_shown:
            self.phase_shown = shown
            self.emit("log", message=shown)


def _use_threads(count: int | None) -> None:
    import torch

    if count:
        torch.set_num_threads(count)


if __name__ == "__main__":
    warnings.simplefilter("default")
    raise SystemExit(main())
