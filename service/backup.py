"""``nidim backup`` and ``nidim restore``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service import offline

if TYPE_CHECKING:
    from service.store.backup import Manifest

json_option = click.option("--json", "as_json", is_flag=True, help="The manifest as JSON instead of text.")


@click.command("backup")
@click.argument("target", type=click.Path(path_type=Path))
@offline.data_dir_option
@json_option
def backup_command(target: Path, data_dir: Path | None, as_json: bool) -> None:
    """Write everything that the server holds to TARGET: a new folder, or one file if it ends in .tar.

    \b
    The server may run meanwhile; the backup is of one moment.
      nidim backup /backups/monday.tar
      NIDIM_DATABASE_URL=postgresql://… NIDIM_BLOB_URL=s3://… nidim backup monday
    It holds no key's secret, and not the pepper under which keys are stored: keep the file `pepper` of data_dir, or
    NIDIM_KEY_PEPPER, in a safe place of its own. Exit status 1: stored files were damaged and are left out.
    """
    from service.store import backup

    with offline.attached(data_dir) as (store, _), _shown("copying", as_json) as progress:
        manifest = backup.write(store, target.absolute(), progress=progress)
    if as_json:
        click.echo(manifest.model_dump_json(indent=1))
    else:
        click.echo(f"Wrote {target}: {_content(manifest)}.")
        for blob in manifest.lacking:
            click.echo(f"Left out: {blob.digest} {blob.why}. `nidim doctor` says what needs it.", err=True)
    raise SystemExit(1 if manifest.lacking else 0)


@click.command("restore")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@offline.data_dir_option
@json_option
def restore_command(source: Path, data_dir: Path | None, as_json: bool) -> None:
    """Bring the backup SOURCE back, into an empty data directory and database only.

    \b
      nidim restore /backups/monday.tar --data-dir /srv/nidim
      nidim up --data-dir /srv/nidim
    Every file is checked against its digest. The backup may come from SQLite and go to PostgreSQL, and the other way
    round. Put the old `pepper` into the data directory, before or after, for the old API keys to work.
    """
    from service.store import backup

    settings = offline.settings_of(data_dir)
    with offline.advising(), _shown("restoring", as_json) as progress:
        try:
            manifest = backup.restore(source, settings, progress=progress)
        except (backup.BadBackup, backup.NotEmpty) as error:
            raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(manifest.model_dump_json(indent=1))
        return
    click.echo(f"Restored {source} of {manifest.created_at:%Y-%m-%d %H:%M} UTC: {_content(manifest)}.")
    if manifest.lacking:
        click.echo(
            f"{len(manifest.lacking)} files were not in it; `nidim doctor` says what needs them.", err=True
        )
    if (
        manifest.tables["api_keys"].rows
        and not (settings.data_dir / "pepper").exists()
        and not settings.key_pepper
    ):
        click.echo(
            "The API keys need the old pepper: put it into the data directory, or create new keys.", err=True
        )


def _content(manifest: Manifest) -> str:
    return f"{manifest.rows} rows, {manifest.blobs} files of {manifest.blob_bytes / 1e6:.1f} MB"


@contextmanager
def _shown(what: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the standard error of a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
