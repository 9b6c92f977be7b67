"""From a wish to a queued job: the spec made complete, its physics judged, one transaction, then the bell."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.responses import Response

from nidim import footprint
from nidim.capacity import Advice, Resolved, resolve, shrunk
from nidim.errors import SpecError
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from nidim.spec.generator import GeneratorSpec, SourceFacts, resolve_generator
from service import catalog, quotas, views
from service.errors import DatasetUnavailable, StateConflict
from service.pointers import blames
from service.refusals import Blame, InvalidBody, Overloaded
from service.replay import Once
from service.schemas import JobIn
from service.settings import GIB
from service.state import Services
from service.store import audit, datasets, encoders, jobs
from service.store.audit import By
from service.store.jobs import Job
from service.store.jobs.brief import brief
from service.tracing import origin

ADVICE = {
    "encoder": "use a smaller encoder",
    "model": "use a smaller width or depth",
    "batch_size": "use a smaller batch_size, image_size or encoder",
    "critic": "use a smaller batch_size, or the critic separable",
    "regularizer": "use fewer slices or a smaller batch_size",
}


def submit(app: Services, by: By, body: JobIn, once: Once) -> Response:
    """202 and the job. Raises InvalidBody, DatasetUnavailable, Overloaded, QuotaExceeded, the errors of idempotency."""
    with app.store.begin(short=True) as tx:
        if first := once.begin(tx):
            return first
        _refuse_flood(app, tx, by)
        wanted = _wanted(app, tx, body.spec, hold=True)
        job = jobs.create(
            tx,
            kind=body.spec.kind,
            **wanted,
            encoder=body.name,
            priority=body.priority,
            created_by=by.who,
            origin=origin(app.tracer),
            held=True,
        )
        audit.record(tx, by, "job.submit", job.id, **{job.makes: job.encoder})
        response = once.finish(tx, accepted(job))
    app.bell.ring(job)
    return response


def check(app: Services, spec: TrainSpec | GeneratorSpec) -> Response:
    """What a job of this spec would be; nothing is kept. Raises InvalidBody, DatasetUnavailable."""
    with app.store.session() as tx:
        wanted = _wanted(app, tx, spec, hold=False)
    memory = None
    if spec.kind == "train":
        full, resolved = FullSpec.model_validate(wanted["spec"]), Resolved.model_validate(wanted["resolved"])
        memory = footprint.training(full, resolved).total
    return views.answer(
        {
            "spec": brief(wanted["spec"]),
            "resolved": wanted["resolved"],
            "warnings": wanted["warnings"],
            "memory_bytes": memory,
        }
    )


def cancel(app: Services, by: By, job_id: str) -> Response:
    """202 and the job, cancelled or about to be. Raises NotFound, StateConflict."""
    with app.store.begin() as tx:
        before = jobs.get(tx, job_id)
        job = jobs.request_cancel(tx, job_id)
        if before is not None and not before.cancel_requested:
            audit.record(tx, by, "job.cancel", job.id)
    return views.answer(views.job(job), 202)


def retry(app: Services, by: By, job_id: str, once: Once) -> Response:
    """202 and a new job. Raises NotFound, StateConflict, Overloaded, QuotaExceeded, the errors of idempotency."""
    with app.store.begin() as tx:
        if first := once.begin(tx):
            return first
        _refuse_flood(app, tx, by)
        before = jobs.get(tx, job_id)
        job = jobs.retry(tx, job_id, created_by=by.who, origin=origin(app.tracer))
        if before is not None:
            _require_its_dataset(app, tx, before)
        if job.source is not None and encoders.hold(tx, job.source) is None:
            raise StateConflict("The encoder of this job was deleted; train the generator with another one.")
        audit.record(tx, by, "job.retry", job.id, retry_of=job_id)
        response = once.finish(tx, accepted(job))
    app.bell.ring(job)
    return response


def _wanted(app: Services, tx: Session, spec: TrainSpec | GeneratorSpec, *, hold: bool) -> dict[str, Any]:
    """What the row of a job holds; ``hold``: what it needs cannot be deleted before this transaction ends."""
    if spec.kind == "generator":
        return _generator(app, tx, spec, hold=hold)
    return _encoder(app, tx, spec, hold=hold)


def _encoder(app: Services, tx: Session, spec: TrainSpec, *, hold: bool) -> dict[str, Any]:
    """What the row of a job that trains an encoder holds."""
    facts = catalog.facts(app.settings, tx, spec.dataset, hold=hold)
    full = completed(spec, facts)
    resolved, warnings = _resolved(full, facts)
    refuse_too_large(full, resolved, app.settings.max_training_bytes)
    return {
        "spec": full.model_dump(mode="json"),
        "resolved": resolved.model_dump(mode="json"),
        "warnings": [warning.model_dump(mode="json") for warning in [*shrunk(spec, full, facts), *warnings]],
    }


def _generator(app: Services, tx: Session, spec: GeneratorSpec, *, hold: bool) -> dict[str, Any]:
    """What the row of a job that trains a generator holds; its source is the version that is meant now."""
    encoder = encoders.hold(tx, spec.source) if hold else encoders.get_by_ref(tx, spec.source)
    if encoder is None:
        raise InvalidBody(errors=[Blame("/spec/source", f"there is no encoder {spec.source}")])
    source = SourceFacts(
        dataset=encoder.spec["dataset"],
        dim=encoder.dim,
        image_size=encoder.resolved["image_size"],
        channels=encoder.resolved["channels"],
        sigma=encoder.resolved.get("sigma"),
    )
    facts = catalog.facts(app.settings, tx, spec.dataset or source.dataset, hold=hold)
    pinned = spec.model_copy(update={"source": f"{encoder.name}@{encoder.version}"})
    try:
        full = pinned.filled(source, facts)
        resolved = resolve_generator(full, source, facts)
    except SpecError as error:
        raise InvalidBody(errors=[Blame(f"/spec{error.pointer}", str(error))]) from None
    _refuse_footprint(footprint.generator(full, resolved), app.settings.max_training_bytes)
    return {
        "spec": full.model_dump(mode="json"),
        "resolved": resolved.model_dump(mode="json"),
        "warnings": [],
        "source": encoder.id,
    }


def completed(spec: TrainSpec, facts: DatasetFacts) -> FullSpec:
    """``spec`` with its defaults. Raises InvalidBody where a default contradicts what was given."""
    try:
        return spec.filled(facts)
    except ValidationError as error:
        given: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)
        raise InvalidBody(errors=blames(error, given, type(spec), prefix=["spec"])) from None


def _resolved(spec: FullSpec, facts: DatasetFacts) -> tuple[Resolved, list[Advice]]:
    try:
        return resolve(spec, facts)
    except SpecError as error:
        raise InvalidBody(errors=[Blame(f"/spec{error.pointer}", str(error))]) from None


def refuse_too_large(spec: FullSpec, resolved: Resolved, allowed: int) -> None:
    """Raises InvalidBody if the training is estimated to take more than ``allowed`` bytes; 0: any."""
    _refuse_footprint(footprint.training(spec, resolved), allowed)


def _refuse_footprint(needed: footprint.Footprint | footprint.GeneratorFootprint, allowed: int) -> None:
    if allowed and needed.total > allowed:
        field = needed.largest
        raise InvalidBody(
            errors=[
                Blame(
                    f"/spec/{field}",
                    f"the training would take about {needed.total / GIB:,.0f} GiB of memory, most of it for this "
                    f"field, and this server allows {allowed / GIB:,.0f}; {ADVICE[field]}",
                )
            ]
        )


def accepted(job: Job) -> Response:
    """The answer for a job that was created."""
    return views.answer(views.job(job), 202, {"Location": f"/v1/jobs/{job.id}"})


def _require_its_dataset(app: Services, tx: Session, job: Job) -> None:
    """Raises DatasetUnavailable where it is gone, or another has its name, with which a checkpoint would go on."""
    name = job.spec["dataset"]
    try:
        catalog.facts(app.settings, tx, name)
    except InvalidBody:
        raise DatasetUnavailable(
            f"The dataset {name} was deleted, and a retry goes on with its images; upload it and submit a new job."
        ) from None
    now = datasets.get(tx, name)
    if now is not None and now.created_at > job.created_at:
        raise DatasetUnavailable(
            f"The dataset {name} was uploaded anew since the job was submitted, and a retry goes on with the images "
            "that it had; submit a new job."
        )


def _refuse_flood(app: Services, tx: Session, by: By) -> None:
    quotas.check_jobs(app.settings, tx, by)
    quotas.check_training(app.settings, tx, by)
    if not app.waiting.takes_one(tx, app.settings.max_queued_jobs):
        raise Overloaded("Too many jobs are waiting; try again when some have ended.", retry_after_s=60)
