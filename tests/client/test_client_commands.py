"""The commands that ask a server, as a person and as a program use them; the recipe for Hugging Face datasets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from benchmarks.tiny_generator import register_generator, write_generator
from nidim import bundle
from nidim.cli import main
from nidim.client import Client
from nidim.conformal import calibrated
from nidim.data import load_builtin
from nidim.drift import LEAST_IMAGES
from service.inference import engine
from service.store import jobs
from tests.blocks import session

pytestmark = pytest.mark.usefixtures("encoder")


@pytest.fixture
def nidim(server: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``nidim(*words)`` -> what the command did; the server comes from the environment."""
    monkeypatch.setenv("NIDIM_URL", server.url)

    def run(*words: object, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == exit_code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture
def files(tmp_path: Path, pictures: Any, image_file: Callable[..., bytes]) -> list[Path]:
    """Five image files."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, picture in zip(paths, pictures, strict=False):
        path.write_bytes(image_file(picture))
    return paths


def test_a_job_from_a_file_to_its_end(nidim: Any, server: Any, lease: Any, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('dataset = "digits"\nencoder = {kind = "conv", dim = 2}\n')
    job = json.loads(
        nidim(
            "jobs", "submit", spec, "--encoder", "cli", "--set", "epochs=4", "--priority", "low", "--json"
        ).stdout
    )
    assert (job["spec"]["epochs"], job["priority"], job["state"]) == (4, "low", "queued")
    assert job["id"] in nidim("jobs", "list").stdout
    assert job["id"] in [
        other["id"] for other in json.loads(nidim("jobs", "list", "--state", "queued", "--json").stdout)
    ]
    taken = lease(server, job["id"])
    with server.store.begin() as tx:
        jobs.add_events(tx, taken, [("progress", {"step": 1, "steps": 2, "epoch": 1, "epochs": 4})])
        jobs.fail(tx, taken, "training_diverged", "The loss is not finite.")
    watched = nidim("jobs", "watch", job["id"], exit_code=1)
    assert "The loss is not finite." in watched.stderr
    assert f"submit it anew: `nidim jobs retry {job['id']}` repeats it as it is" in watched.stderr
    problem = json.loads(nidim("jobs", "watch", job["id"], "--json", exit_code=1).stderr)
    assert (problem["code"], problem["job"]) == ("training_diverged", job["id"])
    lines = [json.loads(line) for line in nidim("jobs", "events", job["id"], "--json").stdout.splitlines()]
    assert lines[-1]["data"]["state"] == "failed"
    again = json.loads(nidim("jobs", "retry", job["id"], "--json").stdout)
    assert again["retry_of"] == job["id"]
    assert "cancelled" in nidim("jobs", "cancel", again["id"]).stdout
    assert "failed" in nidim("jobs", "show", job["id"]).stdout
    shown = nidim("jobs", "show", job["id"]).stdout
    assert re.search(r"failure\n +code +training_diverged\n +message +The loss is not finite.", shown)


def test_rows_are_those_of_the_client(
    nidim: Any, client: Client, server: Any, files: list[Path], tmp_path: Path
) -> None:
    encoder = client.encoder("gauss")
    out = tmp_path / "z.npy"
    assert "(5, 2)" in nidim("embed", "gauss", *files, "-o", out, "--server", server.url).stdout
    np.testing.assert_array_equal(np.load(out, allow_pickle=False), encoder.embed(files))
    shown = json.loads(nidim("embed", f"--server={server.url}", "gauss", files[0], "--json").stdout)
    np.testing.assert_allclose(shown["embeddings"], encoder.embed(files[0]), atol=1e-5)
    nidim("sample", "gauss@1", "-n", 10, "--seed", 7, "-o", out, "--server", server.url)
    np.testing.assert_array_equal(np.load(out, allow_pickle=False), encoder.prior.sample(10, seed=7))
    scores = json.loads(nidim("score", "gauss", out, "--json", "--server", server.url).stdout)
    np.testing.assert_allclose(
        scores["p_value"], encoder.prior.score(np.load(out, allow_pickle=False)).p_value
    )
    assert str(files[2]) in nidim("score", "gauss", *files, "--server", server.url).stdout
    files[3].write_bytes(b"no image")
    refused = nidim("embed", "gauss", *files, "-o", out, "--server", server.url, exit_code=1)
    assert str(files[3]) in refused.stderr
    assert "--skip-bad" in refused.stderr
    problem = nidim("embed", "gauss", *files, "-o", out, "--json", "--server", server.url, exit_code=1)
    assert json.loads(problem.stderr)["error"] == "BadImage"
    told = nidim("embed", "gauss", *files, "-o", out, "--skip-bad", "--json", "--server", server.url)
    assert json.loads(told.stdout)["skipped"] == [str(files[3])]
    assert np.isnan(np.load(out, allow_pickle=False)[3]).all()
    assert "--output" in nidim("sample", "gauss", "--server", server.url, exit_code=2).stderr
    for words in (
        ("embed", "gauss", files[0], "-o", out),
        ("sample", "gauss", "-o", out),
        ("score", "gauss", out),
    ):
        assert f"asked for with --server {server.url}" in nidim(*words, exit_code=2).stderr


def test_images_of_a_generator_at_a_server(nidim: Any, server: Any, encoder: Any, tmp_path: Path) -> None:
    files = tmp_path / "files"
    register_generator(server.store, "cli-painter", files, write_generator(files, encoder))
    out = tmp_path / "x.npy"
    words = ("generate", "cli-painter", "-n", 3, "--seed", 7, "-o", out, "--server", server.url)
    assert f"Wrote {out}: 3 images of 8x8x1." in nidim(*words).stdout
    told = json.loads(nidim(*words, "--json").stdout)
    assert told == {"generator": "cli-painter@1", "output": str(out), "shape": [3, 8, 8, 1]}
    assert np.load(out, allow_pickle=False).shape == (3, 8, 8, 1)


def test_downloaded_files_work_without_the_server(
    nidim: Any, files: list[Path], server: Any, tmp_path: Path
) -> None:
    nidim("encoders", "download", "gauss", "-o", tmp_path / "gauss")
    for words in (("embed", tmp_path / "gauss", *files), ("sample", tmp_path / "gauss", "-n", 5)):
        nidim(*words, "-o", tmp_path / "here.npy")
        nidim(words[0], "gauss", *words[2:], "-o", tmp_path / "there.npy", "--server", server.url)
        here, there = (np.load(tmp_path / f"{name}.npy", allow_pickle=False) for name in ("here", "there"))
        np.testing.assert_allclose(here, there, atol=1e-5)
    folder = Path(files[0]).parent
    for words in (("gauss", "--server", server.url), (tmp_path / "gauss",)):
        told = json.loads(nidim("embed", *words, folder, "--json").stdout)
        assert told["files"] == sorted(str(path) for path in folder.glob("*.png"))
    for given in (files, [tmp_path / "here.npy"]):
        local = json.loads(nidim("score", tmp_path / "gauss", *given, "--json").stdout)
        remote = json.loads(nidim("score", "gauss", *given, "--json", "--server", server.url).stdout)
        np.testing.assert_allclose(local["log_prob"], remote["log_prob"], atol=1e-4)


@pytest.fixture
def ranked(nidim: Any, server: Any, add_encoder: Any, tmp_path: Path) -> Path:
    """The files of ``ranked``, an encoder that is calibrated on the training digits."""
    add_encoder(server, "ranked", seen=load_builtin("digits", root=None).train.images)
    nidim("encoders", "download", "ranked", "-o", tmp_path / "ranked")
    return tmp_path / "ranked"


def test_conformal_p_values_are_the_same_here_and_there(
    nidim: Any, ranked: Path, image_file: Callable[..., bytes], tmp_path: Path
) -> None:
    held = load_builtin("digits", root=None).test.images[:30, ..., 0]
    held[-1] = 255 - held[-1]
    files = [tmp_path / f"held-{i}.png" for i in range(len(held))]
    for path, image in zip(files, held, strict=True):
        path.write_bytes(image_file(image))
    nidim("embed", ranked, *files, "-o", tmp_path / "z.npy")
    shown = [
        json.loads(nidim("score", *words, tmp_path / "z.npy", "--json").stdout)
        for words in ([ranked], ["--server", os.environ["NIDIM_URL"], "ranked"])
    ]
    assert shown[0]["p_conformal"] == shown[1]["p_conformal"]
    loaded = bundle.load(ranked)
    expected = engine.score(
        loaded.prior, np.load(tmp_path / "z.npy", allow_pickle=False), calibrated(loaded.report)
    )
    assert shown[0]["p_conformal"] == expected["p_conformal"].tolist()
    assert len(set(shown[0]["p_conformal"])) > 10
    assert shown[0]["p_conformal"] != pytest.approx(shown[0]["p_value"], abs=1e-3)
    nidim("score", ranked, *files, "-o", tmp_path / "scores.npy")
    scores = np.load(tmp_path / "scores.npy", allow_pickle=False)
    np.testing.assert_array_equal(scores[:, 2], expected["p_conformal"])
    assert "conformal p" in nidim("score", ranked, files[0]).stdout


def test_without_a_usable_calibration_the_rest_is_scored(nidim: Any, ranked: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((2, 2), np.float32))
    report = json.loads((ranked / bundle.REPORT).read_text())
    report["calibration"]["conformal"]["n"] = 0
    (ranked / bundle.REPORT).write_text(json.dumps(report))
    told = nidim("score", ranked, tmp_path / "z.npy", "--json")
    assert "is not used: Input should be greater than or equal to 1" in told.stderr
    del report["calibration"]
    (ranked / bundle.REPORT).write_text(json.dumps(report))
    told = nidim("score", ranked, tmp_path / "z.npy", "--json")
    assert f"at least {LEAST_IMAGES} held-out images" in told.stderr
    scores = json.loads(told.stdout)
    assert scores["p_conformal"] is None
    assert scores["p_value"] == [1, 1]
    assert "–" in nidim("score", ranked, tmp_path / "z.npy").stdout
    nidim("score", ranked, tmp_path / "z.npy", "-o", tmp_path / "scores.npy")
    assert np.isnan(np.load(tmp_path / "scores.npy", allow_pickle=False)[:, 2]).all()
    np.save(tmp_path / "z.npy", np.array([[np.nan, 0]], np.float32))
    assert "finite" in nidim("score", ranked, tmp_path / "z.npy", exit_code=1).stderr


def test_a_bad_image_may_cost_its_scores_alone(
    nidim: Any, ranked: Path, files: list[Path], tmp_path: Path
) -> None:
    whole = json.loads(nidim("score", ranked, *files, "--json").stdout)
    assert whole.pop("files") == [str(path) for path in files]
    files[1].write_bytes(b"no image")
    expected = {key: [values[0], None, *values[2:]] for key, values in whole.items()}
    nidim("embed", ranked, *files, "--skip-bad", "-o", tmp_path / "z.npy")
    for at in ([ranked], ["--server", os.environ["NIDIM_URL"], "ranked"]):
        refused = nidim("score", *at, *files, exit_code=1).stderr
        assert f"{files[1]}: " in refused
        assert "--skip-bad" in refused
        for given in ([*files, "--skip-bad"], [tmp_path / "z.npy"]):
            found = json.loads(nidim("score", *at, *given, "--json").stdout)
            assert ("files" in found) == ("--skip-bad" in given)
            for key, values in expected.items():
                assert found[key][1] is None
                assert found[key] == [value and pytest.approx(value, abs=1e-4) for value in values]
            row = nidim("score", *at, *given).stdout.splitlines()[2]
            assert row.split()[1:] == ["–"] * 3
            nidim("score", *at, *given, "-o", tmp_path / "scores.npy")
            scores = np.load(tmp_path / "scores.npy", allow_pickle=False)
            assert np.isnan(scores).all(axis=1).tolist() == [False, True, False, False, False]


def test_encoders_and_datasets(nidim: Any, server: Any, add_encoder: Any, npz: Path) -> None:
    add_encoder(server, "shelf")
    head, row = nidim("encoders", "list", "--name", "shelf").stdout.splitlines()
    assert "shelf@1" in row
    assert "KL ≤" in head, "the certificate is the figure to read first"
    shown = nidim("encoders", "show", "shelf").stdout
    assert re.search(r"^  mi_nats +1\.5$", shown, re.MULTILINE)
    assert re.search(r"^  dataset +digits$", shown, re.MULTILINE)
    report = nidim("encoders", "show", "shelf", "--report").stdout
    assert json.loads(report)["mi_nats"] == 1.5
    assert '\n  "mi_nats": 1.5' in report
    assert "shelf:best is shelf@1" in nidim("encoders", "alias", "shelf", "best").stdout
    assert "encoder_aliased" in nidim("encoders", "delete", "shelf", "--yes", exit_code=1).stderr
    nidim("encoders", "unalias", "shelf", "best")
    assert json.loads(nidim("encoders", "delete", "shelf@1", "--yes", "--json").stdout)["deleted"].startswith(
        "enc_"
    )
    assert "encoders list" in nidim("encoders", "show", "shelf", exit_code=1).stderr
    assert "cli-images" in nidim("datasets", "upload", "cli-images", npz, "--license", "CC0").stdout
    listed = {item["name"]: item for item in json.loads(nidim("datasets", "list", "--json").stdout)}
    assert listed["cli-images"]["license"] == "CC0"
    assert "digits" in nidim("datasets", "list").stdout
    assert "ready" in nidim("datasets", "show", "cli-images").stdout
    assert "give --yes, too" in nidim("datasets", "delete", "cli-images", "--json", exit_code=2).stderr
    assert "Deleted" in nidim("datasets", "delete", "cli-images", "--yes").stdout
    built_in = nidim("datasets", "delete", "digits", "--yes", exit_code=1).stderr
    assert "is built in and stays" in built_in
    assert "key" not in built_in


def test_errors_say_what_to_do(nidim: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "spec.json"
    wrong.write_text('{"dataset": "unheard-of"}')
    assert "/spec/dataset" in nidim("jobs", "submit", wrong, "--encoder", "x", exit_code=1).stderr
    problem = json.loads(nidim("jobs", "submit", wrong, "--encoder", "x", "--json", exit_code=1).stderr)
    assert (problem["status"], problem["errors"][0]["pointer"]) == (422, "/spec/dataset")
    wrong.write_text("[1]")
    problem = json.loads(nidim("jobs", "submit", wrong, "--encoder", "x", "--json", exit_code=1).stderr)
    assert "must hold an object of fields" in problem["detail"]
    nobody = nidim("jobs", "list", "--server", "http://127.0.0.1:9", exit_code=1).stderr
    assert "Start one with `nidim up`" in nobody
    assert "from http://127.0.0.1:9 " in nobody
    assert "address" in nidim("jobs", "list", "--server", "nowhere", exit_code=1).stderr


def test_the_shell_completes_commands() -> None:
    env = {**os.environ, "_NIDIM_COMPLETE": "bash_complete", "COMP_WORDS": "nidim jobs su", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-m", "nidim"], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["plain,submit"]


@pytest.fixture
def recipe(server: Any, client: Client, image_file: Callable[..., bytes], tmp_path: Path) -> str:
    """The program of the page for the shared server; its pictures and files lie in ``tmp_path``."""
    digits = load_builtin("digits", root=None).test.images[:2, ..., 0]
    for name, image in zip(("one.png", "two.png"), digits, strict=True):
        (tmp_path / name).write_bytes(image_file(image))
    client.encoder("gauss").download(tmp_path / "shapes-files")
    script = session("docs/client.md", "datasets-session")
    return script.replace("http://127.0.0.1:8000", server.url).replace('"shapes"', '"gauss"')


class Rows:
    """As much of ``datasets.Dataset`` as the recipe asks for."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = columns

    def cast_column(self, name: str, _feature: object) -> Rows:
        return Rows({**self.columns, name: [PIL.Image.open(path) for path in self.columns[name]]})

    def map(self, function: Callable[[dict[str, Any]], dict[str, Any]], **how: object) -> Rows:
        assert how == {"batched": True, "batch_size": 1024}
        return Rows({**self.columns, **function(self.columns)})

    def save_to_disk(self, name: str) -> None:
        Path(name).mkdir()


def test_the_recipe_for_datasets_embeds_batches_of_pictures(
    server: Any, recipe: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the library, which is not installed everywhere."""
    library = SimpleNamespace(Dataset=SimpleNamespace(from_dict=Rows), Image=object)
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr("nidim.client.Client", {server.url: client}.__getitem__)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(recipe, names)
    found = names["dataset"].columns
    expected = client.encoder("gauss").embed(found["image"])
    for column in ("embedding", "local"):
        np.testing.assert_allclose(found[column], expected, atol=1e-5)
    assert not np.allclose(*expected)


def test_a_dataset_gets_a_column_of_embeddings(recipe: str, client: Client, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="datasets is not installed: pip install '.[recipes]'")
    (tmp_path / "recipe.py").write_text(f'{recipe}\ndataset.save_to_disk("both")\n')
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "recipe.py"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = stored(tmp_path / "both")
    assert len(stored(tmp_path / "embedded")) == len(found) == 2
    expected = client.encoder("gauss").embed([tmp_path / "one.png", tmp_path / "two.png"])
    for column in ("embedding", "local"):
        np.testing.assert_allclose(found[column].to_pylist(), expected, atol=1e-5)
    assert not np.allclose(*expected)


def stored(directory: Path) -> pa.Table:
    """The rows that ``save_to_disk`` wrote."""
    return pa.concat_tables(pa.ipc.open_stream(path).read_all() for path in sorted(directory.glob("*.arrow")))
