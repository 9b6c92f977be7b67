"""Trainings in one stage or two.

Two stages (``method.neighbors`` = k > 0): a first encoder of more dimensions is trained as usual; then the encoder
itself, which begins with the weights of the first but for its last layer, and whose second branch sees one of the k
training images that are nearest in the first embedding, instead of the image. What neighbours share is what they are
images of, not how each was drawn, so the few nats of a low-dimensional channel are filled by that. Stochastic neighbour
embedding and UMAP choose their pairs so; t-SimCNE (arXiv 2210.09879) trains in stages; here the objective stays InfoMax
over the noisy channel, and the law with it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch

from nidim.capacity import Resolved, resolve
from nidim.checkpoint import Checkpoint
from nidim.embedding import embed
from nidim.errors import CheckpointError
from nidim.neighbors import nearest
from nidim.spec import FullSpec
from nidim.spec.stages import first_stage
from nidim.train import Fitted, Images, Progress, fit
from nidim.world import ALONE, World

MACHINE = ("device", "dtype", "channels_last", "threads")
PARTNERS = "partners"
"""Tensor of a checkpoint of the second stage: (n, k) int32."""


def fit_in_stages(
    spec: FullSpec,
    resolved: Resolved,
    images: Images,
    *,
    heldout: Images,
    on_step: Callable[[Progress], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    on_resolved: Callable[[Resolved], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    resume: Checkpoint | None = None,
    checkpoint_every_s: float = 60.0,
    world: World = ALONE,
) -> Fitted:
    """``fit``, with a stage before it where the spec asks for one; steps and epochs of both are counted together.

    A checkpoint knows its stage, and resuming is as exact as in ``fit``. Raises what ``fit`` raises.
    """
    train = functools.partial(
        fit, images=images, should_stop=should_stop, checkpoint_every_s=checkpoint_every_s, world=world
    )
    facts = resolved.facts(spec.dataset)
    stage = first_stage(spec, facts)
    if stage is None:
        return train(
            spec,
            resolved,
            heldout=heldout,
            on_step=on_step,
            on_checkpoint=on_checkpoint,
            on_resolved=on_resolved,
            resume=resume,
        )
    count = _Count(stage.epochs, spec.epochs, resolved.steps_per_epoch)
    partners, begin_with = _partners(resume, spec), None
    if partners is None:
        first = train(
            stage,
            _on_machine_of(resolve(stage, facts)[0], resolved),
            heldout=heldout[:0],  # nothing is asked of them before the end
            on_step=count.first(on_step),
            on_checkpoint=_named(on_checkpoint, spec, stage=1),
            on_resolved=on_resolved and (lambda chosen: on_resolved(_on_machine_of(resolved, chosen))),
            resume=None if resume is None else _renamed(resume, stage.digest),
        )
        if not first.finished:
            return first
        resolved = _on_machine_of(resolved, first.resolved)
        k = min(spec.method.neighbors if spec.method.kind == "infomax" else 0, len(images) - 1)
        found = world.from_leader(lambda: nearest(embed(first.model, images), k).tobytes())
        partners = torch.frombuffer(bytearray(found), dtype=torch.int32).view(len(images), k)
        resume, begin_with = None, first.model
    return train(
        spec,
        resolved,
        heldout=heldout,
        on_step=count.second(on_step),
        on_checkpoint=_named(on_checkpoint, spec, stage=2, partners=partners),
        on_resolved=on_resolved,
        resume=resume,
        partners=partners.numpy(),
        begin_with=begin_with,
    )


def _on_machine_of(resolved: Resolved, chosen: Resolved) -> Resolved:
    """``resolved`` with the device, precision, layout and threads of ``chosen``: measured once for both stages."""
    return resolved.model_copy(update={name: getattr(chosen, name) for name in MACHINE})


def _named(
    keep: Callable[[Checkpoint], None] | None,
    spec: FullSpec,
    *,
    stage: int,
    partners: torch.Tensor | None = None,
) -> Callable[[Checkpoint], None] | None:
    """Checkpoints that carry the digest of the whole spec, their stage and the neighbours."""
    if keep is None:
        return None

    def kept(found: Checkpoint) -> None:
        more = {} if partners is None else {PARTNERS: partners}
        meta = {**found.meta, "spec_digest": spec.digest, "stage": stage}
        keep(Checkpoint({**found.tensors, **more}, meta))

    return kept


def _partners(resume: Checkpoint | None, spec: FullSpec) -> torch.Tensor | None:
    """The neighbours of a second stage that is resumed. Raises CheckpointError for another spec's."""
    if resume is None:
        return None
    if resume.meta["spec_digest"] != spec.digest:
        raise CheckpointError("The checkpoint belongs to another spec; start without it.")
    return resume.tensors.get(PARTNERS)


def _renamed(resume: Checkpoint, digest: str) -> Checkpoint:
    return Checkpoint(resume.tensors, {**resume.meta, "spec_digest": digest})


@dataclasses.dataclass(frozen=True)
class _Count:
    """Steps and epochs over both stages."""

    first_epochs: int
    second_epochs: int
    steps_per_epoch: int

    def first(self, tell: Callable[[Progress], None] | None) -> Callable[[Progress], None] | None:
        return self._shifted(tell, before=0, after=self.second_epochs)

    def second(self, tell: Callable[[Progress], None] | None) -> Callable[[Progress], None] | None:
        return self._shifted(tell, before=self.first_epochs, after=0)

    def _shifted(
        self, tell: Callable[[Progress], None] | None, *, before: int, after: int
    ) -> Callable[[Progress], None] | None:
        if tell is None:
            return None

        def told(at: Progress) -> None:
            rest = after * self.steps_per_epoch * (at.eta_s / max(at.steps - at.step, 1))
            tell(
                dataclasses.replace(
                    at,
                    step=at.step + before * self.steps_per_epoch,
                    steps=(self.first_epochs + self.second_epochs) * self.steps_per_epoch,
                    epoch=at.epoch + before,
                    epochs=self.first_epochs + self.second_epochs,
                    eta_s=at.eta_s + rest,
                )
            )

        return told
