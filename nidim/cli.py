"""The command line: train, evaluate, embed and sample without any server.

Importing this costs no torch; each command imports what it needs. Other packages add commands through the
entry-point group ``nidim.commands``.
"""

from __future__ import annotations

import json
import math
import os
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nidim import __version__
from nidim.errors import NidimError
from nidim.given import (
    SKIP_HINT,
    NewFile,
    dataset_options,
    images_argument,
    load_dataset,
    read_images,
    require_free,
    require_trained_on,
    tell_other_name,
    tell_skipped,
)
from nidim.remote import show, vectors
from nidim.remote.switch import GROUP, OWN, LocalOrServer, options_of
from nidim.resumable import CHECKPOINT, Stopped, resume_from, show_stored, showing_hooks
from nidim.spec_file import changes_option, read_spec

if TYPE_CHECKING:
    from nidim.evaluate import Report

AS_JSON = "nidim.as_json"
"""Among what the contexts of a call share: whether it is a program's."""


class _Commands(click.Group):
    """A group that finds further commands in entry points, and shows errors of the library as advice."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        points = (*OWN, *entry_points(group=GROUP))
        return sorted({*super().list_commands(ctx), *(point.name for point in points)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        points = [] if own else [point for point in OWN if point.name == cmd_name]
        points = points or ([] if own else list(entry_points(group=GROUP, name=cmd_name)))
        return _loaded(points[0]) if points else own

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remembers whether errors are for a program, too."""
        ctx.meta[AS_JSON] = "--json" in options_of(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke_advising(ctx)
        except click.ClickException as exc:
            if not ctx.meta[AS_JSON] or isinstance(exc, show.Problem):
                raise
            raise show.problem(exc) from exc
        except (KeyboardInterrupt, click.Abort) as exc:
            if not ctx.meta[AS_JSON]:
                raise
            raise show.Problem({"error": "Interrupted", "detail": "Interrupted before its end."}) from exc

    def _invoke_advising(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NidimError as exc:
            raise click.ClickException(str(exc)) from exc
        except ModuleNotFoundError as exc:
            raise _lacking(exc) from exc
        except OSError as exc:
            if exc.filename is None:  # a closed pipe is click's to handle
                raise
            raise click.ClickException(f"{exc.filename}: {exc.strerror}.") from exc


def _loaded(point: EntryPoint) -> click.Command:
    """The command of an entry point; where what it stands on is not installed, one that says so."""
    try:
        command: click.Command = point.load()
    except ModuleNotFoundError as exc:
        lacking = _lacking(exc)

        def tell() -> None:
            raise lacking

        anything = {"ignore_unknown_options": True, "allow_extra_args": True}
        return click.Command(
            point.name, callback=tell, short_help=f"(needs {exc.name})", context_settings=anything
        )
    return command


def _lacking(exc: ModuleNotFoundError) -> click.ClickException:
    """Advice for an installation without the extras; a module of our own that is missing is a mistake of ours."""
    if exc.name is None or exc.name.partition(".")[0] in ("nidim", "service", "worker"):
        raise exc
    return click.ClickException(
        f"This needs {exc.name}, which is not installed; in a checkout of nidim: pip install '.[all]'."
    )


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="nidim")
@click.pass_context
def main(context: click.Context) -> None:
    """Image encoders whose embeddings follow a distribution that you choose.

    \b
    Without any server:
      nidim train spec.toml --out runs/digits     train an encoder, with its report
      nidim embed runs/digits *.png -o z.npy      embeddings of images
      nidim sample runs/digits -n 1000 -o s.npy   draws from the law that they follow
    As a service:
      nidim up                                    API, workers and queue, in the foreground
      nidim jobs submit spec.toml --encoder digits --watch
      nidim embed digits *.png -o z.npy --server http://127.0.0.1:8000
    """
    if os.environ.get("NO_COLOR"):  # rich heeds it by itself, click does not
        context.color = False


@main.command()
@click.argument("spec_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@changes_option("Change a field of the spec, e.g. --set noise.sigma=0.2.")
@click.option(
    "--prior-sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An .npy file (n, d): the embeddings are to follow the law of these points, by a flow.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Directory of the new encoder.",
)
@click.option(
    "--onnx/--no-onnx",
    default=True,
    show_default=True,
    envvar="NIDIM_EXPORT_ONNX",
    show_envvar=True,
    help="Write model.onnx, too (some seconds).",
)
@dataset_options
@show.json_option
def train(
    spec_file: Path,
    changes: tuple[str, ...],
    prior_sample: Path | None,
    out: Path,
    onnx: bool,
    data: Path | None,
    datasets_dir: Path | None,
    allow_downloads: bool,
    as_json: bool,
) -> None:
    """Train an encoder from SPEC_FILE (.toml or .json) and write it, with its report, to --out.

    \b
    The shortest spec is one line of TOML:
      dataset = "digits"
    Ctrl-C keeps a checkpoint in --out; the same command goes on from it.

    \b
    Over several GPUs, or over the cores of a CPU:
      torchrun --nproc-per-node 4 -m nidim train SPEC_FILE --out runs/digits
    """
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # spinning threads cost more than they gain on a busy machine
    from nidim import pipeline
    from nidim.capacity import resolve
    from nidim.ranks import join
    from nidim.stored import FILES

    given = read_spec(spec_file, changes, prior_sample=prior_sample, data=data)
    world = join()
    spec, dataset, advised = world.leader_first(
        lambda: load_dataset(given, data=data, datasets_dir=datasets_dir, allow_downloads=allow_downloads)
    )
    if world.leads:
        advised += resolve(spec, dataset.facts)[1]
        for advice in advised:
            click.secho(f"{advice.code}: {advice.detail}", fg="yellow", err=True)
        tell_other_name(given, data)
        tell_skipped(dataset)
    require_free(out, spec.digest, FILES)
    checkpoint = out / CHECKPOINT
    resume = resume_from(checkpoint, spec.digest, ranks=world.size, tell=world.leads)
    with showing_hooks(checkpoint, shown=world.leads) as hooks:
        outcome = pipeline.run(
            spec,
            dataset,
            out_dir=out,
            resume=resume,
            hooks=hooks,
            provenance={"ranks": world.size} if world.size > 1 else None,
            onnx=onnx,
            world=world,
        )
    if not world.leads:
        return
    if outcome.manifest is None or outcome.report is None or outcome.prior is None:
        raise Stopped(checkpoint)
    checkpoint.unlink(missing_ok=True)
    if as_json:
        told = {
            "spec_digest": spec.digest,
            "warnings": [advice.model_dump(mode="json") for advice in advised],
            "skipped": None if dataset.skipped is None else dataset.skipped.model_dump(mode="json"),
        }
        show_stored(out, outcome.manifest, outcome.report, outcome.prior, **told)
        return
    show_report(outcome.report)
    click.echo(f"Wrote {out} (open {out / 'report.html'} in a browser).")


@main.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=NewFile(), help="Write the whole report as JSON.")
@dataset_options
@show.json_option
def evaluate(
    directory: Path,
    output: Path | None,
    data: Path | None,
    datasets_dir: Path | None,
    allow_downloads: bool,
    as_json: bool,
) -> None:
    """Evaluate the encoder in DIRECTORY anew: does it follow its law, and what is it good for?

    An encoder of your own images needs them again: --data with the folder or file that it was trained on.
    The information under augmentation belongs to the training and is taken from the stored report.
    """
    from nidim import bundle, pipeline
    from nidim.train import Fitted

    encoder = bundle.load(directory)
    _, dataset, _ = load_dataset(
        encoder.spec,
        data=data,
        datasets_dir=datasets_dir,
        allow_downloads=allow_downloads,
        channels=encoder.resolved.channels,
    )
    tell_skipped(dataset)
    require_trained_on(encoder.config.provenance, dataset, data)
    fitted = Fitted(
        encoder.model, encoder.resolved, encoder.report["history"], encoder.report["mi_nats"], finished=True
    )
    embedded = pipeline.embed_dataset(encoder.spec, fitted, dataset)
    report = pipeline.evaluate_fitted(encoder.spec, encoder.prior, fitted, embedded)
    values = report.model_dump(mode="json")
    if output:
        output.write_text(json.dumps(values, indent=1))
    if as_json:
        show.echo_json(values)
        return
    show_report(report)
    if output:
        click.echo(f"Wrote {output}.")


@main.command(cls=LocalOrServer, remote="nidim.remote.rows:embed")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@images_argument("images")
@vectors.output_option
@click.option("--noisy", is_flag=True, help="f(x) + Z instead of f(x).")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="of the noise")
@click.option("--skip-bad", is_flag=True, help="The row of a bad image is NaN (null), instead of an error.")
@show.json_option
def embed(
    directory: Path,
    images: tuple[Path, ...],
    output: Path | None,
    noisy: bool,
    seed: int,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Embed IMAGES (PNG, JPEG, WebP, BMP, GIF, TIFF) with the encoder in DIRECTORY; row i is image i.

    A folder stands for the images in it and below, sorted by path: --json gives them as "files".

    \b
      nidim embed runs/digits pictures/ -o z.npy
      nidim embed digits:production *.png -o z.npy --server http://127.0.0.1:8000
    """
    vectors.require_place(output, as_json)
    from nidim import bundle

    encoder = bundle.load(directory)
    bad: list[int] = []
    prepared = read_images(encoder.preprocessing, images, bad=bad if skip_bad else None, hint=SKIP_HINT)
    rows = encoder.embed_noisy(prepared, seed=seed) if noisy else encoder.embed(prepared)
    rows[bad] = math.nan
    shown = vectors.Files(images, bad)
    vectors.show_rows(rows, "embeddings", str(directory), output=output, as_json=as_json, files=shown)


@main.command(cls=LocalOrServer, remote="nidim.remote.rows:sample")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@vectors.draw_options(most=10_000_000)
@vectors.output_option
@show.json_option
def sample(
    directory: Path, n: int, seed: int, offset: int, temperature: float, output: Path | None, as_json: bool
) -> None:
    """Draw from the law that the embeddings of the encoder in DIRECTORY follow.

    The draws of a seed are one infinite stream: -n and --offset are a page of it, the same on every machine.

    \b
      nidim sample runs/digits -n 1000 --seed 7 -o draws.npy
      nidim sample digits -n 1000 --seed 7 -o draws.npy --server http://127.0.0.1:8000
    """
    vectors.require_place(output, as_json)
    from nidim import stored

    stored.require_kind(directory, "encoder")
    prior = stored.read_prior(directory, stored.read_config(directory))
    if refused := prior.temperature_refused(temperature):
        raise click.BadParameter(refused, param_hint="--temperature")
    rows = prior.sample(n, seed=seed, offset=offset, temperature=temperature)
    vectors.show_rows(rows, "samples", str(directory), output=output, as_json=as_json)


def show_report(report: Report) -> None:
    """The figures of a report as a short table, and what they certify in words."""
    from nidim.evaluate import sentence
    from nidim.progress import report_table

    report_table([("this encoder", report.model_dump(mode="json"))])
    click.echo(sentence(report))
