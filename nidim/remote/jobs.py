"""``nidim jobs``: trainings at a server."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click

from nidim.client import Client, Job
from nidim.remote import show
from nidim.remote.options import asks_server
from nidim.spec_file import changes_option, read_generator_spec, read_spec

STATES = click.Choice(["queued", "running", "succeeded", "failed", "cancelled"])
COLUMNS = ("id", "state", "name", "epoch", "Î", "C", "created", "result or failure")
RIGHT = ("epoch", "Î", "C")


@click.group()
def jobs() -> None:
    """Trainings at a server: submit, watch, cancel, retry.

    \b
      nidim jobs submit spec.toml --encoder digits --watch
      nidim jobs list --state failed
      nidim jobs show job_…                       why it failed, and its warnings
    """


@jobs.command("list")
@click.option("--state", type=STATES, help="of this state only")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@asks_server
def list_jobs(client: Client, as_json: bool, state: Any, limit: int) -> None:
    """The newest jobs."""
    found = list(itertools.islice(client.jobs(state=state), limit))
    if as_json:
        show.echo_json([job.info.as_json() for job in found])
    else:
        show.table(COLUMNS, map(_row, found), right=RIGHT)


@jobs.command("show")
@click.argument("job")
@asks_server
def show_job(client: Client, as_json: bool, job: str) -> None:
    """Everything about JOB: its spec, what became of it, its warnings and why it failed."""
    info = client.job(job).info.as_json()
    if as_json:
        show.echo_json(info)
    else:
        show.fields(info)


@jobs.command()
@click.argument("spec_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--encoder", metavar="NAME", help="under which an encoder is registered")
@click.option("--generator", metavar="NAME", help="under which a generator is registered")
@changes_option("Change a field, e.g. --set noise.sigma=0.2.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), default="normal", show_default=True)
@click.option("--watch", is_flag=True, help="Show its progress and wait until it has ended.")
@asks_server
def submit(
    client: Client,
    as_json: bool,
    spec_file: Path,
    encoder: str | None,
    generator: str | None,
    changes: tuple[str, ...],
    priority: Any,
    watch: bool,
) -> None:
    """Train an encoder or a generator from SPEC_FILE (.toml or .json); the rest is chosen to suit the data.

    \b
      nidim jobs submit spec.toml --encoder digits --watch
      nidim jobs submit painter.toml --generator painter --set epochs=20
    """
    if (encoder is None) == (generator is None):
        raise click.UsageError("Give --encoder NAME, or --generator NAME for a spec of a generator.")
    spec = read_spec(spec_file, changes) if generator is None else read_generator_spec(spec_file, changes)
    job = client.train(spec, encoder=encoder, generator=generator, priority=priority)
    if not as_json:
        click.echo(f"Submitted {job.id}.")
        for advice in job.info.warnings:
            click.secho(f"{advice.code}: {advice.detail}", fg="yellow", err=True)
    _followed(job, as_json) if watch else _shown(job, as_json)


@jobs.command()
@click.argument("job")
@asks_server
def watch(client: Client, as_json: bool, job: str) -> None:
    """Show the progress of JOB until it has ended; exit status 1 unless it succeeded."""
    _followed(client.job(job), as_json)


@jobs.command()
@click.argument("job")
@click.option("--after", default=0, type=click.IntRange(0), help="events with a higher id only")
@asks_server
def events(client: Client, as_json: bool, job: str, after: int) -> None:
    """Every event of JOB as it happens, a line each, until the job has ended."""
    for event in client.job(job).events(after=after):
        if as_json:
            show.echo_json(event.as_json())
        else:
            click.echo(f"{event.id:6} {event.at:%H:%M:%S} {event.type:10} {show.as_json_text(event.data)}")


@jobs.command()
@click.argument("job")
@asks_server
def cancel(client: Client, as_json: bool, job: str) -> None:
    """Cancel JOB; a running one keeps a checkpoint."""
    found = client.job(job)
    found.cancel()
    _shown(found, as_json)


@jobs.command()
@click.argument("job")
@click.option("--watch", is_flag=True, help="Show its progress and wait until it has ended.")
@asks_server
def retry(client: Client, as_json: bool, job: str, watch: bool) -> None:
    """A new job that goes on from the last checkpoint of JOB, which failed or was cancelled."""
    again = client.job(job).retry()
    _followed(again, as_json) if watch else _shown(again, as_json)


def _followed(job: Job, as_json: bool) -> None:
    try:
        job.wait(progress=not as_json)
    except KeyboardInterrupt:
        raise click.ClickException(
            f"The job goes on: `nidim jobs watch {job.id}`, or `nidim jobs cancel {job.id}`."
        ) from None
    _shown(job, as_json)


def _shown(job: Job, as_json: bool) -> None:
    if as_json:
        show.echo_json(job.info.as_json())
    else:
        show.table(COLUMNS, [_row(job)], right=RIGHT)


def _row(job: Job) -> tuple[Any, ...]:
    info = job.info
    end = (
        f"{info.result.name}@{info.result.version}" if info.result else info.failure and info.failure.message
    )
    epoch = f"{info.progress.epoch}/{info.progress.epochs or '–'}" if info.progress else None
    figures = (info.metrics.get("mi_nats"), info.metrics.get("capacity_nats"))
    return (
        info.id,
        info.state,
        info.encoder or info.generator,
        epoch,
        *figures,
        info.created_at,
        end or None,
    )
