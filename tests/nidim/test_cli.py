"""The command line on digits: train, stop and go on, evaluate, embed, sample."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from nidim import bundle, pipeline, resumable
from nidim.checkpoint import load_checkpoint
from nidim.cli import main
from nidim.data import load_builtin
from nidim.evaluate import Report, sentence
from nidim.remote.generators import rows_of
from nidim.spec_file import read_spec
from tests.nidim.samples import arc

SPEC = """
dataset = "digits"
epochs = 6
encoder = {kind = "conv", dim = 2, width = 8}
noise = {kind = "gaussian", sigma = 0.4}
precision = "float32"
"""


def nidim(*words: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*words: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code != 0
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    return result.output


def document(*words: object) -> Any:
    """The one JSON document on standard output, and nothing else there."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def problem(*words: object, exit_code: int = 1) -> Any:
    """The JSON on standard error, of a command that has nothing for standard output."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert (result.exit_code, result.stdout) == (exit_code, "")
    return json.loads(result.stderr)


def images_in(folder: Path, n: int) -> list[Path]:
    """Files of held-out digits."""
    paths = [folder / f"{i}.png" for i in range(n)]
    for path, image in zip(paths, load_builtin("digits", root=None).test.images, strict=False):
        Image.fromarray(image[..., 0]).save(path)
    return paths


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "spec.toml").write_text(SPEC)
    out = folder / "encoder"
    shown = nidim("train", folder / "spec.toml", "--out", out, "--onnx")
    assert "Wrote" in shown
    assert "HZ p" in shown
    assert "the law of the noisy embedding is within" in shown
    assert "not of the clean one" in shown
    return out


def test_training_leaves_a_whole_bundle_and_no_checkpoint(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "report.json",
        "report.html",
        "README.md",
        "model.onnx",
        "manifest.json",
    }
    assert len({path.stat().st_mode for path in trained.iterdir()}) == 1, "one is not for everybody"
    report = json.loads((trained / "report.json").read_text())
    for key in (
        "mi_nats",
        "capacity_nats",
        "kl_bound_nats",
        "hz_p",
        "hz_p_null",
        "sw2_ratio",
        "linear",
        "knn",
        "mlp",
    ):
        assert isinstance(report[key], float), key
    assert report["history"]


def test_the_page_stands_alone(trained: Path) -> None:
    page = (trained / "report.html").read_text()
    assert page.count('alt="View 1 of it"') == 6
    assert "<svg" in page
    references = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert all(r.startswith(("data:", "#")) for r in references), references
    assert not re.search(r"@import|url\((?!['\"]?(?:data:|#))", page)


def test_page_and_card_say_what_is_certified_and_what_is_not(trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text())
    values = {key: value for key, value in report.items() if key in Report.model_fields}
    said = sentence(Report.model_validate(values))
    assert "the law of the noisy embedding is within" in said
    assert said in (trained / "README.md").read_text()
    assert said in html.unescape((trained / "report.html").read_text())


def test_the_snippets_of_the_model_card_run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (trained / "README.md").read_text(), re.DOTALL)
    assert ["nidim" in block for block in blocks] == [True, False, False]
    images = load_builtin("digits", root=None).test.images[:50]
    monkeypatch.chdir(trained)
    found = []
    for block in blocks:
        names = {"images": images.copy()}
        exec(block, names)
        found.append(names["embeddings"])
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, atol=1e-4)


def test_embed_keeps_the_order_and_equals_the_library(trained: Path, tmp_path: Path) -> None:
    images, paths = load_builtin("digits", root=None).test.images[:5], images_in(tmp_path, 5)
    nidim("embed", trained, *paths, "-o", tmp_path / "z.npy")
    z = np.load(tmp_path / "z.npy", allow_pickle=False)
    np.testing.assert_array_equal(z, bundle.load(trained).embed(images))
    nidim("embed", trained, *paths, "-o", tmp_path / "noisy.npy", "--noisy", "--seed", 3)
    assert not np.array_equal(z, np.load(tmp_path / "noisy.npy", allow_pickle=False))


def test_a_bad_image_is_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    said = refused("embed", trained, tmp_path / "broken.png", "-o", tmp_path / "z.npy")
    assert "broken.png" in said
    assert "--skip-bad" in said


@pytest.mark.parametrize("noisy", [[], ["--noisy", "--seed", 3]])
def test_a_bad_image_may_cost_its_row_alone(trained: Path, tmp_path: Path, noisy: list[str]) -> None:
    paths = images_in(tmp_path, 3)
    nidim("embed", trained, *paths, "-o", tmp_path / "whole.npy", *noisy)
    paths[1].write_bytes(b"\x89PNG\r\n\x1a\n")
    said = nidim("embed", trained, *paths, "-o", tmp_path / "z.npy", "--skip-bad", *noisy)
    assert "1.png" in said
    whole, z = (np.load(tmp_path / f"{name}.npy", allow_pickle=False) for name in ("whole", "z"))
    assert np.isnan(z[1]).all()
    np.testing.assert_array_equal(z[[0, 2]], whole[[0, 2]])


def test_sample_pages_agree(trained: Path, tmp_path: Path) -> None:
    nidim("sample", trained, "-n", 10, "--seed", 7, "-o", tmp_path / "all.npy")
    nidim("sample", trained, "-n", 4, "--seed", 7, "--offset", 6, "-o", tmp_path / "page.npy")
    whole, page = (np.load(tmp_path / f"{n}.npy", allow_pickle=False) for n in ("all", "page"))
    np.testing.assert_array_equal(whole[6:], page)


def test_evaluate_repeats_the_report(trained: Path, tmp_path: Path) -> None:
    shown = nidim("evaluate", trained, "-o", tmp_path / "again.json")
    assert "the law of the noisy embedding is within" in shown
    again = json.loads((tmp_path / "again.json").read_text())
    stored = json.loads((trained / "report.json").read_text())
    for key in ("hz_p", "kl_bound_nats", "sw2_ratio", "linear", "mlp", "mi_nats"):
        assert again[key] == pytest.approx(stored[key], abs=1e-6), key
    assert again["representation"] == pytest.approx(stored["representation"], abs=1e-4)
    assert stored["representation"]["views"] == pipeline.VIEWS
    assert 1 <= stored["representation"]["rankme"] <= 2


def test_images_that_only_share_the_name_of_a_builtin_are_not_taken_for_those_of_the_training(
    tmp_path: Path,
) -> None:
    digits = load_builtin("digits", root=None).train
    arrays = {"images": 255 - digits.images[:80, ..., 0], "labels": digits.labels[:80]}
    for name, count in (("inverted", 80), ("others", 60)):
        np.savez(tmp_path / f"{name}.npz", **{key: values[:count] for key, values in arrays.items()})
    (tmp_path / "spec.toml").write_text(SPEC)
    inverted, out = tmp_path / "inverted.npz", tmp_path / "encoder"
    told = nidim("train", tmp_path / "spec.toml", *QUICK, "--data", inverted, "--out", out)
    assert "digits is the name of a built-in set, but the images are those of" in told
    assert "other images than the built-in digits" in refused("evaluate", out)
    assert "is not the folder or file" not in nidim("evaluate", out, "--data", inverted)
    told = nidim("evaluate", out, "--data", tmp_path / "others.npz")
    assert "others.npz is not the folder or file that the encoder was trained on" in told
    (tmp_path / "generator.toml").write_text('kind = "generator"\nsource = "mine"\n')
    words = ("generator", tmp_path / "generator.toml", "--encoder", out, "--out", tmp_path / "generator")
    for named in ((), ("--set", "dataset=digits")):
        assert "give the folder or file of its training with --data" in refused(*words, *named)
    assert not (tmp_path / "generator").exists()


def test_images_of_other_channels_are_evaluated_as_the_encoder_takes_them(
    trained: Path, tmp_path: Path
) -> None:
    images = load_builtin("digits", root=None).train.images[:400, ..., 0]
    np.savez(tmp_path / "gray.npz", images=images)
    np.savez(tmp_path / "colour.npz", images=np.repeat(images[..., None], 3, axis=3))
    for name in ("gray", "colour"):
        nidim("evaluate", trained, "--data", tmp_path / f"{name}.npz", "-o", tmp_path / f"{name}.json")
    gray, colour = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("gray", "colour"))
    assert gray["n_heldout"] == 40
    assert gray["sw2_ratio"] is not None
    assert colour["sw2_ratio"] == pytest.approx(gray["sw2_ratio"], abs=1e-6)


def test_a_class_folder_trains(tmp_path: Path) -> None:
    digits = load_builtin("digits", root=None).train
    for i in range(60):
        folder = tmp_path / "mine" / str(digits.labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[i, ..., 0]).save(folder / f"{i}.png")
    Image.fromarray(digits.images[0, ..., 0]).save(tmp_path / "mine" / "loose.png")
    (tmp_path / "mine" / "notes.txt").write_text("no picture")
    (tmp_path / "spec.json").write_text(json.dumps({"dataset": "mine", "epochs": 1}))
    words = ("train", tmp_path / "spec.json", "--data", tmp_path / "mine", "--out", tmp_path / "out", "--no-onnx",
             "--set", "encoder={\"kind\": \"conv\", \"dim\": 2, \"width\": 4}")  # fmt: skip
    told = nidim(*words)
    assert "2 files are not used; the first: notes.txt: not a PNG" in told
    assert "; loose.png: " in told
    told = nidim("evaluate", tmp_path / "out", "--data", tmp_path / "mine")
    assert "; loose.png: " in told
    (tmp_path / "generator.toml").write_text('kind = "generator"\nsource = "mine"\nepochs = 1\n')
    generator = ("--encoder", tmp_path / "out", "--out", tmp_path / "generator", "--data", tmp_path / "mine")
    told = refused("generator", tmp_path / "generator.toml", *generator)
    assert "; loose.png: " in told
    assert "6 held-out images; a generator is measured with at least 8" in told
    assert bundle.load(tmp_path / "out").spec.dataset == "mine"
    assert not (tmp_path / "out" / bundle.ONNX).exists()
    (tmp_path / "nameless.json").write_text('{"epochs": 1}')
    nameless = (words[0], tmp_path / "nameless.json", *words[2:5], tmp_path / "other", *words[6:])
    nidim(*nameless)
    assert bundle.load(tmp_path / "other").spec.dataset == "mine"
    told = document(*words, "--json")
    assert (told["skipped"]["count"], told["skipped"]["first"][0]["member"]) == (2, "notes.txt")
    assert [advice["code"] for advice in told["warnings"]] == ["certificate_out_of_reach"]
    loaded = bundle.load(tmp_path / "out")
    stored = (loaded.digest, loaded.spec.digest, loaded.prior.describe())
    assert (told["digest"], told["spec_digest"], told["prior"]) == stored
    assert (told["out"], told["dim"]) == (str(tmp_path / "out"), 2)
    assert told["report"]["mi_nats"] == loaded.report["mi_nats"]
    assert not [key for key, value in told["report"].items() if isinstance(value, list | dict)]


@pytest.mark.parametrize("size", [None, 64])
def test_photographs_are_not_shrunk_in_silence(size: int | None, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 80, 70, 3), dtype=np.uint8)
    np.save(tmp_path / "photographs.npy", pictures)
    spec = {"dataset": "photographs", "image_size": size, "epochs": 1, "evaluation": "quick",
            "encoder": {"kind": "conv", "dim": 2, "width": 4}}  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    told = document("train", tmp_path / "spec.json", "--data", tmp_path / "photographs.npy",
                    "--out", tmp_path / "out", "--no-onnx", "--json")  # fmt: skip
    shrunk = [advice["detail"] for advice in told["warnings"] if advice["code"] == "images_shrunk"]
    assert ["70 pixels; the encoder sees 64" in detail for detail in shrunk] == [True] * (size is None)
    assert bundle.load(tmp_path / "out").preprocessing.image_size == 64


class InterruptsAtTheThird(resumable.StopOnSignal):
    """The training gets SIGINT when it asks for the third time whether to stop."""

    asks = 0

    def asked(self) -> bool:
        self.asks += 1
        if self.asks == 3:
            signal.raise_signal(signal.SIGINT)
        return super().asked()


def test_an_interrupt_keeps_a_checkpoint_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First in a process of its own, whose signal comes from outside, then in this one."""
    (tmp_path / "spec.toml").write_text(SPEC)
    words = ["train", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "nidim", *words, "--set", "epochs=2000"]
    first = interrupted(command)
    assert "goes on from" in first
    assert load_checkpoint(tmp_path / "out" / "checkpoint.safetensors").meta["step"] >= 0
    with monkeypatch.context() as patched:
        patched.setattr(resumable, "StopOnSignal", InterruptsAtTheThird)
        again = CliRunner().invoke(main, [*words, "--set", "epochs=2000", "--json"])
    assert (again.exit_code, again.stdout) == (1, "")
    assert "Going on from step" in again.stderr
    assert json.loads(again.stderr.splitlines()[-1])["error"] == "Stopped"
    assert "another spec" in refused(*words)


def interrupted(command: list[str]) -> str:
    """What a training tells that gets SIGINT once it listens; its standard output is empty."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while process.poll() is None and not _is_training(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    shown, told = process.communicate(timeout=120)
    assert (process.returncode, shown) == (1, ""), told
    return told


def _is_training(pid: int) -> bool:
    """Whether the handler is in place: SIGINT is among the signals that the process catches."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", status)[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_a_part_needs_no_kind_where_one_alone_has_its_fields(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text('dataset = "digits"\nmethod = {neighbors = 5}')
    spec = read_spec(file, ("noise.sigma=0.2", "prior.df=5"))
    kinds = [part.kind for part in (spec.method, spec.noise, spec.prior) if part is not None]
    assert kinds == ["infomax", "gaussian", "student_t"]
    output = refused("train", file, "--set", "encoder.dim=4", "--out", tmp_path / "out")
    assert "encoder.kind = conv: one of conv, resnet18, resnet34, resnet50, " in output
    assert "noise.kind = gaussian" in refused("train", file, "--set", "noise.x=4", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_part_without_fields_may_be_given_by_its_kind_alone(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text('dataset = "digits"\nmethod = "simclr"')
    spec = read_spec(file, ("regularizer=none",))
    assert spec == read_spec(file, ('regularizer={"kind": "none"}', 'method={"kind": "simclr"}'))
    for change in ("regularizer=nothing", "regularizer=3"):
        output = refused("train", file, "--set", change, "--out", tmp_path / "out")
        assert "regularizer needs a kind, as in regularizer.kind = " in output


def test_nothing_is_overwritten_by_another_training(trained: Path, tmp_path: Path) -> None:
    spec = trained.parent / "spec.toml"
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    assert "holds another encoder" in refused("train", spec, "--set", "seed=1", "--out", trained)
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before
    (tmp_path / "README.md").write_text("mine")
    assert "holds README.md" in refused("train", spec, "--out", tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert "is a file" in refused("train", spec, "--out", tmp_path / "README.md")


@pytest.mark.parametrize("command", ["embed", "sample", "score", "evaluate", "export"])
def test_a_place_that_is_not_there_is_noticed_before_the_work(
    trained: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "load", lambda _: pytest.fail("the work was begun"))
    (tmp_path / "0.png").write_bytes(b"")
    images = {"embed": [tmp_path / "0.png"], "score": [tmp_path / "0.png"]}.get(command, [])
    output = refused(command, trained, *images, "-o", tmp_path / "nowhere" / "x.onnx")
    assert "there is no directory" in output
    monkeypatch.setattr(
        "nidim.given.os.access", lambda path, mode: path != tmp_path
    )  # root may write anywhere
    assert f"{tmp_path} cannot be written" in " ".join(
        refused(command, trained, *images, "-o", tmp_path / "x.onnx").replace("\n", "").split()
    )


def test_a_directory_that_cannot_be_made_is_noticed_before_the_training(trained: Path) -> None:
    answer = refused("train", trained.parent / "spec.toml", "--out", "/proc/nowhere")
    assert "/proc/nowhere cannot be written (No such file or directory); choose another --out." in answer


def test_an_array_is_not_called_otherwise(trained: Path, tmp_path: Path) -> None:
    assert "call it rows.npy" in refused("sample", trained, "-n", "2", "-o", tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1]", 'must hold an object of fields, such as {"dataset": "digits"}'),
        ("a.yaml", "dataset: digits", "A spec is a .toml or a .json file."),
        (
            "a.json",
            '{"dataset": "digits", "epoch": 3}',
            "epoch: there is no such field; did you mean epochs?",
        ),
        (
            "a.json",
            '{"dataset": "digits", "colour": 3}',
            "colour: there is no such field; there are format_version,",
        ),
        (
            "a.json",
            '{"dataset": "digits", "encoder": {"kind": "conv", "dims": 3}}',
            "encoder.dims: there is no such field; did you mean dim?",
        ),
        (
            "a.json",
            '{"dataset": "digits", "encoder": {"kind": "vgg"}}',
            "encoder.kind: 'vgg' is none of 'conv', 'resnet18', 'resnet34', 'resnet50', ",
        ),
        (
            "a.json",
            '{"dataset": "digits", "noise": {"kind": "gaussian", "sigma": "much"}}',
            "noise.sigma: Input should be a valid number, unable to parse string as a number or Input should be 'auto'",
        ),
    ],
)
def test_a_spec_that_is_none_is_told_in_the_words_of_its_writer(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    assert message in " ".join(refused("train", tmp_path / name, "--out", tmp_path / "out").split())


def test_embeddings_are_scored_by_themselves(trained: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 2), np.float32), allow_pickle=False)
    (tmp_path / "0.png").write_bytes(b"")
    for files in (["rows.npy", "0.png"], ["0.png", "rows.npy"]):
        assert "stands alone" in refused("score", trained, *(tmp_path / file for file in files))


@pytest.mark.parametrize("value", ["", "1"])
def test_warnings_have_no_colour_where_none_is_wanted(value: str, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"broken")
    words = ["embed", trained, tmp_path / "bad.png", "--skip-bad", "--json"]
    result = CliRunner(env={"NO_COLOR": value}).invoke(main, list(map(str, words)), color=True)
    assert ("\x1b[" in result.stderr) == (value == "")
    assert "bad.png" in result.stderr


@pytest.mark.parametrize("content", ["npz", "damaged zip", "empty", "text"])
def test_what_is_called_npy_and_is_none_is_refused(content: str, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.npy"
    if content == "npz":
        with file.open("wb") as stream:
            np.savez(stream, rows=np.zeros((2, 2), np.float32))
    else:
        file.write_bytes({"damaged zip": b"PK\x03\x04 and no more", "empty": b"", "text": b"1 2"}[content])
    assert "is no .npy file" in refused("score", trained, file)
    with pytest.raises(click.ClickException, match=r"is no \.npy file"):
        rows_of(file, 2)


def test_rows_of_a_generator_are_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([["a", "b"]]))
    with pytest.raises(
        click.ClickException, match=r"must hold finite numbers \(n, 2\); it holds <U1 \(1, 2\)"
    ):
        rows_of(tmp_path / "rows.npy", 2)


def test_drawing_and_scoring_rows_need_no_torch(trained: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 2), np.float32), allow_pickle=False)
    for words in (
        ["sample", trained, "-n", "3", "-o", tmp_path / "d.npy"],
        ["score", trained, tmp_path / "rows.npy"],
    ):
        given = [str(word) for word in words]
        code = (
            "import sys; from nidim.cli import main; "
            f"main({given!r}, standalone_mode=False); assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset = ", "cannot be read"),
        ('dataset = "digits"\nepochs = 0', "epochs"),
        ('dataset = "digits"\nnoise = {kind = "uniform"}\nprior = {kind = "gaussian"}', "uniform noise"),
        ('dataset = "nowhere"', "nowhere"),
        ('dataset = "mnist"', "mnist"),
    ],
)
def test_a_bad_spec_says_what_to_mend(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(text)
    assert message in refused("train", tmp_path / "spec.toml", "--out", tmp_path / "out")


def test_changes_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    spec = read_spec(tmp_path / "spec.toml", ("noise.sigma=0.2", "epochs=3", "encoder.width=16"))
    assert (spec.noise.sigma, spec.epochs, spec.encoder.width) == (0.2, 3, 16)
    assert "FIELD=VALUE" in refused(
        "train", tmp_path / "spec.toml", "--out", tmp_path / "o", "--set", "epochs"
    )


@pytest.mark.parametrize(
    "command", ["", "train", "embed", "sample", "evaluate", "score", "export", "up", "demo", "settings"]
)
def test_help_teaches(command: str) -> None:
    assert len(nidim(*command.split(), "--help")) > 150


QUICK = ("--set", "epochs=2", "--set", "evaluation=quick", "--no-onnx")


@pytest.mark.usefixtures("few_flow_steps")
def test_a_law_given_by_a_sample(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    np.save(tmp_path / "points.npy", arc(200).astype(np.float32))
    out = tmp_path / "encoder"
    nidim("train", tmp_path / "spec.toml", *QUICK, "--prior-sample", tmp_path / "points.npy", "--out", out)
    encoder = bundle.load(out)
    assert encoder.prior.kind == "flow"
    assert encoder.prior.describe() == encoder.config.prior
    np.testing.assert_array_equal(encoder.prior.points, arc(200).astype(np.float32))
    report = json.loads((out / "report.json").read_text())
    assert report["clean"]["law"] == "the law of 200 given points, by a flow"
    assert report["target_fit"]["n_heldout"] == 30
    assert "points of the given sample" in (out / "report.html").read_text()
    nidim("sample", out, "-n", 50, "--seed", 7, "-o", tmp_path / "draws.npy")
    draws = np.load(tmp_path / "draws.npy", allow_pickle=False)
    np.testing.assert_array_equal(draws, encoder.prior.sample(50, seed=7))
    again = document("evaluate", out, "-o", tmp_path / "again.json", "--json")
    assert again == json.loads((tmp_path / "again.json").read_text())
    assert again["target_fit"] == report["target_fit"]
    assert again["clean"]["own_scale"] == report["clean"]["own_scale"]
    data = (out / bundle.PRIOR).read_bytes()
    (out / bundle.PRIOR).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "is not that of the flow" in refused("sample", out, "-o", tmp_path / "draws.npy")
    (out / bundle.PRIOR).unlink()
    assert "needs the file" in refused("sample", out, "-o", tmp_path / "draws.npy")


def test_a_law_on_the_sphere(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    out = tmp_path / "encoder"
    nidim("train", tmp_path / "spec.toml", *QUICK, "--set", "prior.kind=sphere", "--out", out)
    report = json.loads((out / "report.json").read_text())
    assert report["clean"]["law"] == report["certificate"]["law"] == "uniform on the sphere S¹"
    assert "has no radius" in report["absent"]["clean.radius"]
    z = bundle.load(out).embed(load_builtin("digits", root=None).test.images)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)
    answer = refused("sample", out, "--temperature", 0.5, "-o", tmp_path / "draws.npy")
    assert "it must be 1" in answer


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(100), "one array of numbers"),
        (np.zeros((100, 2), dtype="U3"), "one array of numbers"),
        (np.zeros((60_000, 2)), "over the limit"),
        (np.zeros((100, 2)), "coordinate 0 is the same"),
        (np.full((100, 2), np.nan), "prior.points.0.0: Input should be a finite number"),
        (np.zeros((100, 3)), "has 3 coordinates"),
    ],
    ids=["shape", "text", "size", "flat", "nan", "dimension"],
)
def test_samples_that_are_none(values: np.ndarray, message: str, tmp_path: Path) -> None:
    if message.startswith("has"):
        values = np.random.default_rng(0).normal(size=values.shape)
    (tmp_path / "spec.toml").write_text(SPEC)
    np.save(tmp_path / "points.npy", values)
    words = (
        "train",
        tmp_path / "spec.toml",
        "--prior-sample",
        tmp_path / "points.npy",
        "--out",
        tmp_path / "x",
    )
    answer = refused(*words)
    assert message.replace("has 3", "have 3") in " ".join(answer.split())
    (tmp_path / "points.npy").write_bytes(b"no array")
    assert "cannot be used" in refused(*words)


def test_a_setting_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIDIM_LEASE_S", "abc")
    assert "lease_s: Input should be a valid number" in refused("settings")
    assert "lease_s: Input should be a valid number" in problem("settings", "--json")["detail"]


def test_an_interrupt_before_anything_is_a_line_of_json_to_a_program(
    monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "load", interrupted)
    assert problem("embed", trained, trained / "report.html", "--json")["error"] == "Interrupted"
    told = CliRunner().invoke(main, ["embed", str(trained), str(trained / "report.html"), "-o", "x.npy"])
    assert (told.exit_code, told.stderr.strip()) == (1, "Aborted!")


def test_settings_for_programs_have_numbers_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIDIM_LEASE_S", "61")
    monkeypatch.setenv("NIDIM_KEY_PEPPER", "hunter2hunter2hunter2hunter2hunter2")
    monkeypatch.setenv("NIDIM_DATABASE_URL", "postgresql://me:hunter2@db/nidim")
    found = document("settings", "--json")
    values = {setting["name"]: setting["value"] for setting in found}
    assert values["NIDIM_LEASE_S"] == 61
    assert (values["NIDIM_ALLOW_DOWNLOADS"], values["NIDIM_DATASETS_DIR"]) == (False, None)
    assert values["NIDIM_DATABASE_URL"] == "postgresql://********@db/nidim"
    assert "hunter2" not in json.dumps(found)
    assert all(setting["meaning"] for setting in found)
    shown = nidim("settings")
    assert all(f"{name}=" in shown for name in values)


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*words, name))
        else:
            yield (*words, name), found


def test_every_command_speaks_json_but_the_one_that_runs_until_it_is_stopped() -> None:
    found = dict(commands(main))
    assert len(found) > 30
    without = {
        words for words, command in found.items() if not any("--json" in p.opts for p in command.params)
    }
    assert without == {("up",)}
    asking = [words for words, command in found.items() if any("--server" in p.opts for p in command.params)]
    assert {("embed",), ("sample",), ("score",), ("generate",), ("jobs", "list")} <= set(asking)
    for words in asking:
        assert "--json" in nidim(*words, "--server", "http://127.0.0.1:9", "--help")


def test_rows_for_programs_are_those_of_the_file(trained: Path, tmp_path: Path) -> None:
    images = images_in(tmp_path, 3)
    images[1].write_bytes(b"no image")
    words = ("embed", trained, *images, "--skip-bad", "--json")
    told = document(*words, "-o", tmp_path / "z.npy")
    skipped = [str(images[1])]
    place = {"encoder": str(trained), "output": str(tmp_path / "z.npy")}
    files = [str(path) for path in images]
    assert told == {**place, "shape": [3, 2], "files": files, "skipped": skipped}
    shown = document(*words)
    rows = np.load(tmp_path / "z.npy", allow_pickle=False)
    assert (shown["encoder"], shown["dim"], shown["skipped"]) == (str(trained), 2, skipped)
    assert shown["embeddings"] == [rows[0].tolist(), [None, None], rows[2].tolist()]
    assert document("embed", trained, images[0], "--json")["skipped"] == []
    drawn = ("sample", trained, "-n", 4, "--seed", 7, "--json")
    assert document(*drawn, "-o", tmp_path / "z.npy") == {**place, "shape": [4, 2]}
    rows = np.load(tmp_path / "z.npy", allow_pickle=False)
    assert document(*drawn) == {"encoder": str(trained), "dim": 2, "samples": rows.tolist()}
    for words in (("embed", trained, images[0]), ("sample", trained)):
        assert "where the rows go (or --json)" in refused(*words)


def test_a_folder_stands_for_the_images_in_it_and_below(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    (folder / "b").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    last, first, top = (
        path.rename(folder / name)
        for path, name in zip(images_in(tmp_path, 3), ("b/2.PNG", "b/1.png", "z.png"), strict=True)
    )
    for name in ("notes.txt", ".hidden/1.png", ".z.png"):
        (folder / name).write_bytes(b"no image")
    alone = images_in(tmp_path, 1)
    expected = [str(path) for path in (first, last, top, *alone)]
    told = document("embed", trained, folder, *alone, "--json")
    assert (told["files"], told["skipped"]) == (expected, [])
    assert told["embeddings"] == document("embed", trained, *expected, "--json")["embeddings"]
    scores = document("score", trained, folder, *alone, "--json")
    assert scores == document("score", trained, *expected, "--json")
    assert scores["files"] == expected
    (tmp_path / "none").mkdir()
    assert f"{tmp_path / 'none'} holds no .png, .jpg" in refused(
        "embed", trained, tmp_path / "none", "--json"
    )


def test_errors_for_programs_are_json_on_standard_error(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    told = problem("embed", trained, tmp_path / "broken.png", "--json")
    assert told["error"] == "BadImage"
    assert "broken.png: " in told["detail"]
    assert problem("export", tmp_path, "-o", tmp_path / "m.onnx", "--json")["error"] == "BundleError"
    (tmp_path / "spec.toml").write_text('dataset = "nowhere"')
    told = problem("train", tmp_path / "spec.toml", "--out", tmp_path / "out", "--json")
    assert told["error"] == "NidimError"
    assert "nowhere is not built in" in told["detail"]
    told = problem("sample", trained, "-n", "few", "--json", exit_code=2)
    assert told["error"] == "BadParameter"
    assert "'few' is not a valid integer" in told["detail"]
    assert "no such command" in problem("smaple", "--json", exit_code=2)["detail"].lower()
    missing = problem("doctor", "--data-dir", tmp_path / "spec.toml", "--json", exit_code=2)
    assert "is a file" in missing["detail"]
    assert "Usage: " in refused("sample", trained, "-n", "few", "--", "--json")
