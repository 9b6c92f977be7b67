"""``nidim generator`` trains a generator, ``nidim generate`` makes images with one; no server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nidim.given import dataset_options, require_trained_on, tell_skipped
from nidim.remote import show
from nidim.remote.generators import generate_options, require_suffix, rows_of, show_images
from nidim.remote.switch import LocalOrServer
from nidim.resumable import CHECKPOINT, StopOnSignal, Stopped, keep_checkpoint, resume_from, show_stored
from nidim.spec_file import changes_option, read_generator_spec

if TYPE_CHECKING:
    from nidim.data import Dataset
    from nidim.stored import Preprocessing


@click.command()
@click.argument("spec_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--encoder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Directory of the encoder whose law the generator is fed from.",
)
@changes_option("Change a field of the spec, e.g. --set epochs=20.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Directory of the new generator.",
)
@dataset_options
@show.json_option
def generator(
    spec_file: Path,
    encoder: Path,
    changes: tuple[str, ...],
    out: Path,
    data: Path | None,
    datasets_dir: Path | None,
    allow_downloads: bool,
    as_json: bool,
) -> None:
    """Train a generator from SPEC_FILE (.toml or .json): embeddings of --encoder become images.

    \b
    The shortest spec:
      kind = "generator"
      source = "my-encoder"
    The images are those that the encoder was trained with, unless the spec names a dataset or --data gives others.
    Ctrl-C keeps a checkpoint in --out; the same command goes on from it.
    """
    from nidim import bundle
    from nidim.generate import pipeline
    from nidim.generate.bundle import FILES
    from nidim.generate.report import sentence
    from nidim.given import require_free
    from nidim.pipeline import Hooks
    from nidim.progress import TrainingDisplay

    spec = read_generator_spec(spec_file, changes)
    source = bundle.load(encoder)
    dataset = _dataset(
        spec.dataset or source.spec.dataset,
        source.preprocessing,
        data=data,
        datasets_dir=datasets_dir,
        allow_downloads=allow_downloads,
    )
    if data is not None or spec.dataset in (None, source.spec.dataset):
        require_trained_on(source.config.provenance, dataset, data)
    full = spec.filled(pipeline.facts_of(source), dataset.facts)
    require_free(out, full.digest, FILES)
    checkpoint, stop = out / CHECKPOINT, StopOnSignal()
    with TrainingDisplay() as display:
        outcome = pipeline.run(
            spec,
            source,
            dataset,
            out_dir=out,
            resume=resume_from(checkpoint, full.digest),
            hooks=Hooks(
                on_phase=display.phase, on_checkpoint=keep_checkpoint(checkpoint), should_stop=stop.asked
            ),
            on_step=display.step,
        )
    if outcome.manifest is None or outcome.report is None:
        raise Stopped(checkpoint)
    checkpoint.unlink(missing_ok=True)
    if as_json:
        told = {"spec_digest": full.digest, "source": full.source}
        show_stored(out, outcome.manifest, outcome.report, source.prior, **told)
        return
    click.echo(sentence(outcome.report))
    click.echo(f"Wrote {out} (a hundred draws: {out / 'samples.png'}).")


def _dataset(
    name: str, wanted: Preprocessing, *, data: Path | None, datasets_dir: Path | None, allow_downloads: bool
) -> Dataset:
    """Images as the encoder takes them; those of a built-in have its own channels."""
    from nidim.data import BUILTINS, load_builtin, open_path

    if data is not None:
        dataset = open_path(data, name=name, image_size=wanted.image_size, channels=wanted.channels)
        tell_skipped(dataset)
        return dataset
    if name not in BUILTINS:
        raise click.ClickException(
            f"{name} is not built in ({', '.join(BUILTINS)}); give its images with --data."
        )
    return load_builtin(
        name, root=datasets_dir, allow_downloads=allow_downloads, image_size=wanted.image_size
    )


@click.command(cls=LocalOrServer, remote="nidim.remote.generators:generate")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@generate_options
@show.json_option
def generate(
    directory: Path,
    n: int,
    seed: int,
    offset: int,
    temperature: float,
    embeddings: Path | None,
    same_noise: bool,
    columns: int | None,
    output: Path,
    as_json: bool,
) -> None:
    """Make images with the generator in DIRECTORY, from draws of its prior: no data, no encoder.

    The images of a seed are one infinite stream: -n and --offset are a page of it.

    \b
      nidim generate runs/painter -n 64 --seed 7 -o draws.png
      nidim generate painter -n 64 --seed 7 -o draws.png --server http://127.0.0.1:8000
    """
    from nidim.generate import bundle, pictures

    require_suffix(output)
    loaded = bundle.load(directory)
    if embeddings is not None:
        images = loaded.from_embeddings(
            rows_of(embeddings, loaded.config.resolved.dim), seed=seed, same_noise=same_noise
        )
    else:
        if refused := loaded.prior.temperature_refused(temperature):
            raise click.BadParameter(refused, param_hint="--temperature")
        images = loaded.generate(n, seed=seed, offset=offset, temperature=temperature)
    output.write_bytes(pictures.as_file(images, output.suffix, columns))
    show_images(list(images.shape), str(directory), output=output, as_json=as_json)
