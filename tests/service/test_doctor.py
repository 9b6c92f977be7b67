"""``nidim doctor``: finds what is wrong both ways, explains it, mends what is safe, leaves the rest."""

from __future__ import annotations

import json
import os
import threading
from datetime import timedelta

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from service.doctor import doctor_command
from service.store import audit, damage, datasets, encoders, jobs, keys
from service.store.blobs import blob_path
from service.store.migrate import migrate, revision

OLD = (1, 1)


@pytest.fixture
def ask(store, store_settings, monkeypatch):
    """``ask("--deep")`` -> (exit status, {code: finding}); the command, with the settings of the store."""
    monkeypatch.setenv("NIDIM_DATA_DIR", str(store_settings.data_dir))
    monkeypatch.setenv("NIDIM_DATABASE_URL", store_settings.database_url)
    monkeypatch.setenv("NIDIM_DISK_RESERVE_BYTES", "0")

    def run(*options):
        result = CliRunner().invoke(doctor_command, [*options, "--json"], catch_exceptions=False)
        answer = json.loads(result.stdout)
        found = {finding["code"]: finding for finding in answer["findings"]}
        assert len(found) == len(answer["findings"]), answer
        assert result.exit_code == (1 if answer["problems"] else 0)
        return result.exit_code, found

    return run


def place(store, digest):
    return store.blobs._root / blob_path(digest)


def put(store, content):
    return store.blobs.put_bytes(content)[0]


@pytest.fixture
def full(store, new_encoder, new_job, take):
    """An encoder, a dataset and a job with a checkpoint, all whole."""
    files = {name: {"digest": put(store, name.encode()), "size": len(name)} for name in ("model", "config")}
    encoder = new_encoder(store, manifest={"digest": "sha256:x", "files": files})
    lease = take(store, new_job(store).id)
    with store.begin() as tx:
        datasets.create(tx, name="cats", size_bytes=4)
        datasets.set_state(
            tx, "cats", "ready", blob_digest=put(store, b"cats"), index_digest=put(store, b"index")
        )
        jobs.add_checkpoint(tx, lease, put(store, b"state"), 1, 5)
    return encoder


def test_a_healthy_store_has_no_findings(full, ask):
    assert ask() == ask("--deep") == ask("--repair") == (0, {})


def test_a_person_is_told_so(full, ask):
    result = CliRunner().invoke(doctor_command, [])
    assert (result.exit_code, result.output) == (0, "0 findings, 0 repaired, 0 problems left.\n")


def test_a_missing_file_of_an_encoder(store, full, ask):
    path = place(store, full.files["model"].digest)
    content = path.read_bytes()
    path.unlink()
    status, found = ask()
    assert (status, list(found)) == (1, ["encoder_file_gone"])
    assert found["encoder_file_gone"]["subject"] == "faces@1"
    assert blob_path(full.files["model"].digest) in found["encoder_file_gone"]["says"]
    assert ask("--repair")[0] == 1, "nobody can make the file anew"
    with store.session() as tx:
        assert encoders.get_by_ref(tx, "faces").damage.file == "model"
    path.write_bytes(content)
    status, found = ask()
    assert (status, list(found), found["damage_outdated"]["level"]) == (0, ["damage_outdated"], "note")
    assert ask("--repair")[1]["damage_outdated"]["repaired"]
    assert ask() == (0, {})


def test_a_flipped_byte_is_seen_when_looking_deep(store, full, ask):
    path = place(store, full.files["model"].digest)
    path.write_bytes(b"mOdel")
    assert ask() == (0, {})
    assert list(ask("--deep")[1]) == ["encoder_file_damaged"]
    path.write_bytes(b"mode")
    assert list(ask()[1]) == ["encoder_file_damaged"], "another size is seen without reading"


def repairs(store):
    """(subject, code) of every repair in the audit log, the first first."""
    with store.session() as tx:
        noted = audit.list_(tx, who="cli").items
    return [
        (entry.target, entry.detail["code"]) for entry in reversed(noted) if entry.action == "doctor.repair"
    ]


def test_a_missing_checkpoint_is_forgotten(store, full, ask):
    with store.session() as tx:
        (job,) = jobs.list_(tx, limit=50, state="running").items
    place(store, job.checkpoint_digest).unlink()
    assert list(ask()[1]) == ["checkpoint_gone"]
    assert ask("--repair")[1]["checkpoint_gone"]["repaired"]
    with store.session() as tx:
        assert jobs.get(tx, job.id).checkpoint_digest is None
    assert ask("--repair") == (0, {})
    assert repairs(store) == [(job.id, "checkpoint_gone")]


def test_a_missing_upload_needs_somebody(store, full, ask):
    with store.session() as tx:
        place(store, datasets.get(tx, "cats").blob_digest).unlink()
    for options in ((), ("--repair",)):
        status, found = ask(*options)
        assert (status, list(found), found["dataset_gone"]["repaired"]) == (1, ["dataset_gone"], False)


@pytest.mark.slow
def test_a_missing_index_is_made_anew(sqlite_store, tmp_path, monkeypatch):
    from nidim.data import ingest

    store = sqlite_store
    file = tmp_path / "images.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8), allow_pickle=False)
    index = ingest(file)
    index.write(tmp_path / "index.json")
    blob, size = store.blobs.put_file(file)
    kept, _ = store.blobs.put_file(tmp_path / "index.json")
    with store.begin() as tx:
        datasets.create(tx, name="cats", size_bytes=size)
        datasets.set_state(tx, "cats", "ready", digest=index.digest, blob_digest=blob, index_digest=kept)
    place(store, kept).unlink()
    arguments = ["--data-dir", str(tmp_path), "--json"]
    assert "dataset_index_gone" in CliRunner().invoke(doctor_command, arguments).output
    result = CliRunner().invoke(doctor_command, [*arguments, "--repair"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with store.session() as tx:
        made = datasets.get(tx, "cats").index_digest
    assert type(index).model_validate_json(store.blobs.read(made)).digest == index.digest


def test_what_nothing_needs_is_a_note_and_goes(store, full, ask, store_settings):
    orphan, young = put(store, b"orphan"), put(store, b"young")
    os.utime(place(store, orphan), OLD)
    root = store_settings.data_dir
    for path in (root / "blobs" / "incoming" / "half", root / "scratch" / "upload-1"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, OLD)
    (root / "cache" / "datasets").mkdir(parents=True)
    (root / "cache" / "datasets" / ".evicted-1").write_bytes(b"x")
    result = CliRunner().invoke(doctor_command, ["--json"])
    found = json.loads(result.stdout)["findings"]
    subjects = {"blobs_orphaned": ["blobs"], "leftovers": ["blobs", "scratch", "cache"]}
    assert result.exit_code == 0
    assert [one["subject"] for one in found] == [name for names in subjects.values() for name in names]
    result = CliRunner().invoke(doctor_command, ["--repair", "--json"])
    assert all(one["repaired"] for one in json.loads(result.stdout)["findings"])
    assert ask() == (0, {})
    assert (store.blobs.exists(orphan), store.blobs.exists(young)) == (False, True)


def test_jobs_and_uploads_that_nobody_looks_after(store, full, ask):
    with store.begin() as tx:
        datasets.create(tx, name="dogs")
        tx.execute(text("UPDATE datasets SET touched_at = 1 WHERE name = 'dogs'"))
        tx.execute(text("UPDATE jobs SET lease_until = 1 WHERE state = 'running'"))
    status, found = ask()
    assert (status, set(found)) == (1, {"lease_overdue", "ingestion_dead"})
    status, found = ask("--repair")
    assert status == 0
    assert all(finding["repaired"] for finding in found.values())
    assert ask() == (0, {})
    with store.session() as tx:
        assert jobs.list_(tx, limit=50, state="queued").items
        assert datasets.get(tx, "dogs").state == "failed"
    assert {code for _, code in repairs(store)} == set(found)


def test_a_repair_leaves_living_leases_as_they_are(store, ask, new_job, take, monkeypatch):
    """However long they are: cut short, one would run out between two heartbeats of its worker."""
    monkeypatch.setenv("NIDIM_LEASE_S", "600")
    monkeypatch.setenv("NIDIM_HEARTBEAT_S", "200")
    lost, living = (take(store, new_job(store).id) for _ in "12")
    with store.begin() as tx:
        tx.execute(text("UPDATE jobs SET lease_until = 1 WHERE id = :id"), {"id": lost.job_id})
        assert jobs.heartbeat(tx, living, 600).alive
        before = jobs.get(tx, living.job_id).lease_until
    assert ask("--repair")[1]["lease_overdue"]["repaired"]
    with store.session() as tx:
        assert jobs.get(tx, lost.job_id).state == "queued"
        assert jobs.get(tx, living.job_id).lease_until == before


def test_a_counter_behind_its_versions(store, full, ask, new_encoder):
    with store.begin() as tx:
        tx.execute(text("UPDATE encoder_names SET last_version = 0"))
    assert list(ask()[1]) == ["version_counter_behind"]
    assert ask("--repair")[0] == 0
    assert new_encoder(store).version == 2


def test_keys_without_their_pepper(store, full, ask, store_settings):
    with store.begin() as tx:
        keys.create(tx, pepper=store.pepper, name="ops", scopes=["read"])
    (store_settings.data_dir / "pepper").unlink()
    assert list(ask()[1]) == ["pepper_missing"]
    assert not (store_settings.data_dir / "pepper").exists(), "the doctor makes no new one"


def test_room_that_is_short(store, full, ask, monkeypatch):
    monkeypatch.setenv("NIDIM_DISK_QUOTA_BYTES", "20")
    monkeypatch.setenv("NIDIM_DISK_RESERVE_BYTES", str(2**60))
    status, found = ask()
    assert (status, set(found)) == (1, {"quota_nearly_used", "disk_full"})


def test_an_old_schema_is_not_touched_unless_asked(tmp_path):
    from service.store.engine import database_url, make_engine

    engine = make_engine(database_url("", tmp_path))
    migrate(engine, "0001")

    def ask(*options):
        arguments = ["--data-dir", str(tmp_path), "--json", *options]
        result = CliRunner().invoke(doctor_command, arguments, catch_exceptions=False)
        return result.exit_code, [one["code"] for one in json.loads(result.stdout)["findings"]]

    assert ask() == (1, ["schema_old"])
    assert revision(engine) == "0001"
    assert ask("--repair") == (0, ["schema_old"])
    assert ask() == (0, [])
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert ask("--repair") == (1, ["schema_too_new"])
    engine.dispose()


@pytest.mark.parametrize("first_page", [0, 1, 8])
def test_a_damaged_file_of_the_database_is_a_finding(tmp_path, first_page):
    """From its head, from the table of the schema on, or in the middle: not only where SQLite's own check can begin."""
    from service.settings import Settings
    from service.store import open_store

    open_store(Settings(data_dir=tmp_path)).close()
    file = tmp_path / "nidim.db"
    content = file.read_bytes()
    assert len(content) > 12 * 4096
    file.write_bytes(content[: first_page * 4096] + b"\xff" * (len(content) - first_page * 4096))
    result = CliRunner().invoke(
        doctor_command, ["--data-dir", str(tmp_path), "--json"], catch_exceptions=False
    )
    assert result.exit_code == 1
    found = json.loads(result.stdout)["findings"]
    assert {one["code"] for one in found} == {"database_damaged"}
    assert "restore a backup" in found[-1]["says"]


def test_a_directory_without_a_store_is_left_as_it_is(tmp_path):
    result = CliRunner().invoke(doctor_command, ["--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "no nidim database" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_busy_store_gives_no_false_alarm(store, full, ask, new_job, take):
    """Checkpoints that replace each other, encoders and datasets that come and go: nothing of it is a finding."""
    from service.store import retention

    stop = threading.Event()

    def work():
        lease, step = take(store, new_job(store).id), 0
        while not stop.is_set():
            step += 1
            digest = put(store, f"state {step}".encode())
            with store.begin() as tx:
                before = jobs.add_checkpoint(tx, lease, digest, step)
                datasets.create(tx, name=f"set-{step}", blob_digest=put(store, b"set %d" % step))
                datasets.set_state(tx, f"set-{step}", "ready")
            retention.discard(store, [before], grace=timedelta(0))
            with store.begin() as tx:
                gone = datasets.delete(tx, f"set-{step}")
            retention.discard(store, [gone.blob_digest], grace=timedelta(0))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):
            assert ask("--deep", "--repair") == (0, {})
    finally:
        stop.set()
        worker.join()


def test_damage_is_only_noted_of_encoders_that_are_there(store, full):
    with store.begin() as tx:
        damage.note(tx, "enc_" + "0" * 26, file="x", detail="x is gone")
        assert damage.labels(tx) == []
