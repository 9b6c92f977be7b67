"""Backup and restore: what was there at one moment is there again, on either database, with blobs anywhere."""

from __future__ import annotations

import json
import tarfile
import threading
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine

from service import backup as commands
from service.doctor import doctor_command
from service.store import (
    audit,
    backup,
    datasets,
    encoders,
    events,
    jobs,
    keys,
    open_store,
    retention,
    singletons,
    snapshot,
)
from service.store.audit import By
from service.store.backup import writing
from service.store.backup.manifest import Manifest
from service.store.blobs import blob_path
from service.store.encoders import aliases
from service.store.engine import database_url
from service.store.migrate import SchemaTooNew, head
from service.store.store import RESTORING

FROZEN = Path(__file__).parent / "data" / "schema_0001.jsonl"


def put(store, content):
    digest, size = store.blobs.put_bytes(content)
    return {"digest": digest, "size": size}


def fill(store, new_job, take, finish):
    """Something of everything; what a caller wants to find again."""
    files = {
        name: put(store, f"{name} of version 1".encode()) for name in ("model.safetensors", "config.json")
    }
    done = take(store, new_job(store, spec={"dataset": "digits", "text": "σ ½ \U0001f600"}).id)
    with store.begin() as tx:
        jobs.add_events(tx, done, [("log", {"message": "π"}), ("metric", {"mi_nats": 0.1 + 0.2})])
    finish(store, done, manifest={"digest": "sha256:x", "files": files})
    failed = take(store, new_job(store).id)
    checkpoint = put(store, b"state of the failed job")
    with store.begin() as tx:
        aliases.put(tx, "faces", "prod", 1)
        jobs.add_checkpoint(tx, failed, checkpoint["digest"], 7, checkpoint["size"])
        jobs.fail(tx, failed, "out_of_memory", "Choose a smaller batch.")
        again = jobs.retry(tx, failed.job_id)
        jobs.mark_published(tx, [again.id])
        datasets.create(tx, name="cats", license="CC0", size_bytes=4)
        blobs = {"blob_digest": put(store, b"cats")["digest"], "index_digest": put(store, b"{}")["digest"]}
        datasets.set_state(tx, "cats", "ready", **blobs)
        _, secret = keys.create(tx, pepper=store.pepper, name="ops", scopes=["admin"])
        audit.record(tx, By("open", "request"), "alias.put", "faces:prod", version=1)
        singletons.try_hold(tx, "reaper", "api", 60)
    take(store, new_job(store).id)
    return SimpleNamespace(secret=secret, retry=again.id)


def content(store):
    """Every row of every table that a backup holds, as text; but for the entry that it was restored."""
    with store.session() as tx:
        connection = tx.connection()
        found = {
            table.name: [json.loads(snapshot.to_line(row)) for row in snapshot.rows(connection, table)]
            for table in snapshot.tables(connection)
        }
    del found["singletons"]
    found["audit"] = [row for row in found["audit"] if row["action"] != "store.restore"]
    for row in found["jobs"]:
        if row["state"] == "queued":
            row["published_at"], row["publish_count"] = None, 0
    return found


@contextmanager
def opened(settings):
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


def check_whole(settings, monkeypatch):
    """The doctor finds nothing, and reads every blob."""
    for name in ("data_dir", "database_url", "blob_url"):
        monkeypatch.setenv(f"NIDIM_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("NIDIM_DISK_RESERVE_BYTES", "0")
    result = CliRunner().invoke(doctor_command, ["--deep", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout) == {"problems": 0, "findings": []}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("name", ["folder", "file.tar"])
def test_everything_comes_back_on_either_database(
    store, tmp_path, empty, new_job, take, finish, new_encoder, monkeypatch, kind, name
):
    known = fill(store, new_job, take, finish)
    manifest = backup.write(store, tmp_path / name)
    assert (manifest.blobs, manifest.lacking, manifest.schema_revision) == (5, (), head())
    target = empty(kind)
    assert backup.restore(tmp_path / name, target) == manifest
    (target.data_dir / "pepper").write_bytes(store.pepper)
    check_whole(target, monkeypatch)
    with opened(target) as restored:
        assert content(restored) == content(store)
        with restored.session() as tx:
            newest = audit.list_(tx, limit=1).items[0]
        assert (newest.who, newest.action, newest.detail["rows"]) == ("cli", "store.restore", manifest.rows)
        with restored.begin() as tx:
            assert keys.verify(tx, known.secret, pepper=restored.pepper).name == "ops"
            assert encoders.get_by_ref(tx, "faces:prod").version == 1
            reaped = jobs.reap(tx, max_attempts_without_checkpoint=3, republish_after_s=3600)
            assert known.retry in [job.job_id for job in reaped.publish], "its message is not lost"
            log = events.list_after(tx, jobs.list_(tx, limit=50).items[-1].id)
            assert log[-1].data["state"] == "succeeded"
        assert new_encoder(restored).version == 2


def test_blobs_in_s3(empty, tmp_path, s3_endpoint, use_s3, new_bucket, new_job, take, finish, monkeypatch):
    use_s3()
    bucket = new_bucket(s3_endpoint)
    first = empty("sqlite", f"s3://{bucket}/first")
    with opened(first) as source:
        fill(source, new_job, take, finish)
        manifest = backup.write(source, tmp_path / "s3.tar")
        second = empty("sqlite", f"s3://{bucket}/second")
        backup.restore(tmp_path / "s3.tar", second)
        with opened(second) as restored:
            assert content(restored) == content(source)
            assert {blob.digest for blob in restored.blobs.list_()} == {
                blob.digest for blob in source.blobs.list_()
            }
    assert manifest.blobs == 5
    check_whole(second, monkeypatch)


def test_a_backup_under_load_is_of_one_moment(store, empty, tmp_path, new_job, take, finish, monkeypatch):
    """Jobs, checkpoints, encoders and datasets come and go; blobs are deleted as fast as they can be."""
    fill(store, new_job, take, finish)
    stop, before, broken = threading.Event(), [], []

    def work(who):
        step = 0
        while not stop.is_set():
            step += 1
            label = f"{who} {step}".encode()
            lease = take(store, new_job(store, encoder=f"load-{who}").id)
            state = put(store, b"state " + label)
            with store.begin() as tx:
                jobs.add_checkpoint(tx, lease, state["digest"], step, state["size"])
                datasets.create(tx, name=f"set-{who}-{step}", size_bytes=len(label))
                datasets.set_state(tx, f"set-{who}-{step}", "ready", blob_digest=put(store, label)["digest"])
            state = put(store, b"later " + label)
            with store.begin() as tx:
                former = jobs.add_checkpoint(tx, lease, state["digest"], step, state["size"])
            encoder = finish(
                store, lease, manifest={"digest": "sha256:x", "files": {"m": put(store, b"m" + label)}}
            )
            with store.begin() as tx:
                gone = datasets.delete(tx, f"set-{who}-{step}")
                if step % 2:
                    encoders.delete(tx, encoder.id)
            digests = [former, gone.blob_digest, *(file.digest for file in encoder.files.values())]
            retention.discard(store, digests, grace=timedelta(0))
            before.append(lease.job_id)

    def guarded(who):
        try:
            work(who)
        except Exception as error:
            broken.append(error)

    workers = [threading.Thread(target=guarded, args=(who,)) for who in range(2)]
    for worker in workers:
        worker.start()
    try:
        found = []
        for number in range(3):
            known = list(before)
            manifest = backup.write(store, tmp_path / f"{number}.tar")
            assert manifest.lacking == (), "a blob was deleted before it was copied"
            found.append(known)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert broken == []
    target = empty("sqlite")
    backup.restore(tmp_path / "2.tar", target)
    with opened(target) as restored, restored.session() as tx:
        assert all(jobs.get(tx, job_id).is_terminal for job_id in found[2])
    check_whole(target, monkeypatch)


def test_no_secret_is_in_a_backup(store, tmp_path, new_job, take, finish):
    known = fill(store, new_job, take, finish)
    backup.write(store, tmp_path / "folder")
    backup.write(store, tmp_path / "file.tar")
    everything = [path for path in tmp_path.glob("folder/**/*") if path.is_file()] + [tmp_path / "file.tar"]
    for path in everything:
        data = path.read_bytes()
        assert known.secret.encode() not in data
        assert store.pepper not in data
        assert store.pepper.hex().encode() not in data
        assert path.stat().st_mode & 0o077 == 0 or path.parent != tmp_path
    assert (tmp_path / "folder").stat().st_mode & 0o077 == 0
    assert (tmp_path / "file.tar").stat().st_mode & 0o077 == 0


def test_a_damaged_blob_is_left_out_and_named(sqlite_store, tmp_path, empty, new_job, take, finish):
    store = sqlite_store
    fill(store, new_job, take, finish)
    with store.session() as tx:
        files = encoders.get_by_ref(tx, "faces").files
    (store.blobs._root / blob_path(files["config.json"].digest)).write_bytes(b"flipped")
    store.blobs.delete(files["model.safetensors"].digest)
    target = tmp_path / "folder"
    result = CliRunner().invoke(commands.backup_command, [str(target), "--data-dir", str(tmp_path), "--json"])
    assert result.exit_code == 1
    manifest = Manifest.model_validate_json(result.stdout)
    assert {blob.digest for blob in manifest.lacking} == {file.digest for file in files.values()}
    place = empty()
    arguments = [str(target), "--data-dir", str(place.data_dir)]
    result = CliRunner().invoke(commands.restore_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "2 files were not in it" in result.output
    assert "need the old pepper" in result.output
    found = json.loads(CliRunner().invoke(doctor_command, [*arguments[1:], "--json"]).stdout)["findings"]
    assert {"encoder_file_gone", "pepper_missing"} == {one["code"] for one in found}


@pytest.fixture
def written(sqlite_store, tmp_path, new_job, take, finish):
    """A backup in a folder."""
    fill(sqlite_store, new_job, take, finish)
    backup.write(sqlite_store, tmp_path / "written")
    return tmp_path / "written"


@pytest.mark.parametrize(
    "pattern",
    ["manifest.json", "blobs.jsonl", "database/jobs.jsonl", "database/api_keys.jsonl", "blobs/??/??/*"],
)
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_backup_that_is_not_whole_is_refused(written, empty, pattern, how):
    path = next(written.glob(pattern))
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    target = empty()
    with pytest.raises(backup.BadBackup):
        backup.restore(written, target)
    assert not (target.data_dir / "nidim.db").exists() or count_jobs(target) == 0
    if target.data_dir.exists():
        with pytest.raises(RuntimeError, match="has not ended"):
            open_store(target)


def count_jobs(settings):
    engine = create_engine(database_url(settings.database_url, settings.data_dir))
    try:
        with engine.connect() as connection:
            tables = {table.name: table for table in snapshot.tables(connection)}
            return len(list(snapshot.rows(connection, tables["jobs"]))) if "jobs" in tables else 0
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("where", "rows"), [("_publish_again", False), ("_finish", True)], ids=["among the rows", "behind them"]
)
def test_an_interrupted_restore_is_done_again(written, empty, sqlite_store, monkeypatch, where, rows):
    target = empty()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"service.store.backup.reading.{where}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            backup.restore(written, target)
    assert (count_jobs(target) > 0) == rows
    assert (target.data_dir / RESTORING).exists()
    backup.restore(written, target)
    assert not (target.data_dir / RESTORING).exists()
    with opened(target) as restored:
        assert content(restored) == content(sqlite_store)


def test_rows_of_others_are_no_interrupted_restore(written, empty, sqlite_store, new_job, monkeypatch):
    target = empty()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("service.store.backup.reading._restore_blobs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            backup.restore(written, target)
    (target.data_dir / RESTORING).rename(target.data_dir.with_name("marker"))
    with opened(target) as store:
        new_job(store)
    target.data_dir.with_name("marker").rename(target.data_dir / RESTORING)
    for _ in range(2):
        with pytest.raises(backup.NotEmpty, match="database"):
            backup.restore(written, target)


def test_a_file_system_of_its_own_is_an_empty_place(written, empty):
    target = empty()
    (target.data_dir / "lost+found").mkdir(parents=True)
    backup.restore(written, target)
    assert (target.data_dir / "blobs").exists()


def test_only_an_empty_place_is_restored_into(written, empty, store_settings, store, new_job):
    used = empty()
    used.data_dir.mkdir()
    (used.data_dir / "notes.txt").write_text("mine")
    with pytest.raises(backup.NotEmpty):
        backup.restore(written, used)
    assert [path.name for path in used.data_dir.iterdir()] == ["notes.txt"]
    new_job(store)
    if store_settings.database_url:
        other = SimpleNamespace(**{**vars(store_settings), "data_dir": used.data_dir / "new"})
        with pytest.raises(backup.NotEmpty, match="database"):
            backup.restore(written, other)
    else:
        with pytest.raises(backup.NotEmpty):
            backup.restore(written, store_settings)


def test_a_backup_of_a_newer_version_is_refused(written, empty):
    path = written / "manifest.json"
    path.write_text(path.read_text().replace(f'"{head()}"', '"9999"'))
    with pytest.raises(SchemaTooNew):
        backup.restore(written, empty())


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_of_the_first_schema_is_restored_and_migrated(written, empty, kind):
    """What was written by an old version, as far as it can be had: its rows, in the format of today."""
    import hashlib

    manifest = json.loads((written / "manifest.json").read_text())
    by_table = {}
    for line in FROZEN.read_text().splitlines():
        entry = json.loads(line)
        by_table.setdefault(entry["table"], []).append(json.dumps(entry["row"]) + "\n")
    del by_table["singletons"]
    manifest["tables"] = {}
    for name, lines in by_table.items():
        data = "".join(lines).encode()
        (written / "database" / f"{name}.jsonl").write_bytes(data)
        manifest["tables"][name] = {"rows": len(lines), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["schema_revision"] = "0001"
    (written / "manifest.json").write_text(json.dumps(manifest))
    target = empty(kind)
    backup.restore(written, target)
    with opened(target) as restored, restored.session() as tx:
        assert encoders.get_by_ref(tx, "faces:prod").version == 2
        assert len(jobs.list_(tx, limit=50).items) == len(by_table["jobs"])


def test_one_backup_at_a_time_and_one_name_once(sqlite_store, tmp_path):
    with writing._holding(sqlite_store), pytest.raises(writing.BusyError):
        backup.write(sqlite_store, tmp_path / "second.tar")
    backup.write(sqlite_store, tmp_path / "first.tar")
    with pytest.raises(FileExistsError):
        backup.write(sqlite_store, tmp_path / "first.tar")
    assert [path.name for path in tmp_path.glob("*.tar")] == ["first.tar"]
    assert list(tmp_path.glob(".*.tar*")) == []


def test_a_backup_that_fails_leaves_nothing(sqlite_store, tmp_path, new_job, take, finish, monkeypatch):
    fill(sqlite_store, new_job, take, finish)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(sqlite_store.blobs), "fetch", full)
    with pytest.raises(OSError, match="No space"):
        backup.write(sqlite_store, tmp_path / "file.tar")
    assert [path.name for path in tmp_path.iterdir() if "tar" in path.name] == []
    with sqlite_store.session() as tx:
        assert not singletons.is_held(tx, retention.HOLD)


def test_members_of_a_tar_are_found_by_our_names_only(written, empty, tmp_path):
    """Links and foreign paths in it are never followed or written."""
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w:") as tar:
        for path in sorted(written.rglob("*")):
            if path.is_file() and path.name != "jobs.jsonl":
                tar.add(path, arcname=str(path.relative_to(written)))
        link = tarfile.TarInfo("database/jobs.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, str(written / "database" / "jobs.jsonl")
        tar.addfile(link)
        tar.add(written / "manifest.json", arcname="../../outside.json")
    target = empty()
    with pytest.raises(backup.BadBackup):
        backup.restore(hostile, target)
    assert not (tmp_path.parent / "outside.json").exists()
