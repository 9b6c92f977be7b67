"""``nidim demo``: the main job through the real service, from an empty folder to a report.

A client of the service and nothing more: it starts ``nidim up`` as a command, speaks REST, and stops it again.
Two jobs, with noise and without; then held-out images are embedded, the prior is sampled, and both go into one
report. A third job trains a generator that is fed from the prior, and draws a grid of images that nobody has taken.
Any step that fails ends the demo with a non-zero exit status.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from nidim.progress import TrainingDisplay, report_table, wide_console
from nidim.remote import show

READY = "nidim is ready: "
START_S, STOP_S = 120, 60
NPY = "application/x-npy"
DRAWS = 3000
SIGMA = 0.3
EPOCHS = {"digits": 300, "mnist": 2}
GENERATOR_EPOCHS = {"digits": 60, "mnist": 2}
GENERATED, ENLARGED_TO = 64, 560
"""Images in the grid, and pixels a side that it is enlarged to."""
EVALUATION = {"digits": "full", "mnist": "quick"}
"""10,000 test images are judged closely enough by the quick battery, in a fraction of the time."""


class DemoFailed(click.ClickException):
    """A step of the demo failed."""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True)
@click.option(
    "--datasets-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where torchvision's sets are; with MNIST in it, the demo trains on MNIST instead of digits.",
)
@click.option("--epochs", type=click.IntRange(1, 10_000), help="Fewer for a quicker look.")
@show.json_option
def demo(out: Path, datasets_dir: Path | None, epochs: int | None, as_json: bool) -> None:
    """Train an encoder through the real service, check its law, write a report; a few minutes on two cores."""
    console = wide_console(stderr=as_json)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)  # as an exception, so that the stack is stopped
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nidim-demo-") as scratch:
        with running_stack(Path(scratch), datasets_dir, log=out / "server.log") as url:
            console.print(f"The service runs at {url} (API reference: {url}/docs).")
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                found = run_jobs(client, console, epochs)
                page = assemble(client, found, datasets_dir)
                picture = generated(client, found, epochs)
        console.print("The service has stopped cleanly.")
    report, images = out / "report.html", out / "generated.png"
    report.write_text(page)
    images.write_bytes(picture)
    report_table([("with noise", found["noise"]), ("without noise", found["none"])], console)
    console.print(found["sentence"])
    console.print(found["gap"])
    console.print(f"Wrote {report} and {images}: open them in a browser.")
    if as_json:
        encoders = {"with_noise": found["noise"], "without_noise": found["none"]}
        paths = {"report": str(report), "images": str(images)}
        show.echo_json({"dataset": found["dataset"], **encoders, "generator": found["generator"], **paths})


def _leave(number: int, _frame: Any) -> None:
    sys.exit(128 + number)


@contextlib.contextmanager
def running_stack(data_dir: Path, datasets_dir: Path | None, *, log: Path) -> Iterator[str]:
    """``nidim up`` on a free port; gives its URL, and stops it with SIGINT. Raises DemoFailed."""
    command = [
        sys.executable,
        "-m",
        "nidim",
        "up",
        "--port",
        "0",
        "--data-dir",
        str(data_dir),
        "--workers",
        "1",
        "--parent",
        str(os.getpid()),
    ]
    if datasets_dir:
        command += ["--datasets-dir", str(datasets_dir.resolve())]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield _url_of(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                status = process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                status = -signal.SIGKILL
    if status != 0:
        raise DemoFailed(f"nidim up ended with status {status}; see {log}.")


def _url_of(process: subprocess.Popen[str], log: Path) -> str:
    """What ``nidim up`` prints once it is ready."""
    assert process.stdout is not None
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
    finally:
        timer.cancel()
    raise DemoFailed(f"nidim up ended, or was not ready within {START_S} s; see {log}.")


def run_jobs(client: httpx.Client, console: Console, epochs: int | None) -> dict[str, Any]:
    """Submit both jobs, follow them, and return the rows of the table and what the report needs."""
    sets = {item["name"]: item for item in _get(client, "/v1/datasets?limit=100")["items"]}
    name = "mnist" if sets.get("mnist", {}).get("available") else "digits"
    console.print(
        f"Training on {name}: {sets[name]['items']:,} images, {len(sets[name]['classes'])} classes.",
        highlight=False,
    )
    rows: dict[str, Any] = {"dataset": name}
    for key, noise in (
        ("noise", {"kind": "gaussian", "sigma": SIGMA}),
        ("none", {"kind": "none", "certificate_sigma": SIGMA}),
    ):
        spec = {
            "dataset": name,
            "encoder": {"kind": "conv", "dim": 2},
            "method": {"kind": "infomax"},  # one stage for both, so that the noise is the only difference
            "noise": noise,
            "epochs": epochs or EPOCHS[name],
            "evaluation": EVALUATION[name],
        }
        body = {"spec": spec, "encoder": f"demo-{key}"}
        job = _answer(client.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"demo-{key}"}))
        follow(client, job["id"], title="with noise" if key == "noise" else "without noise")
        encoder = _get(client, f"/v1/encoders/demo-{key}")
        rows[key] = {
            **encoder["report"],
            "dim": encoder["dim"],
            "sigma": encoder["resolved"].get("sigma"),
            "certificate_sigma": encoder["spec"]["noise"].get("certificate_sigma"),
        }
        rows[f"{key}_full"] = _get(client, f"/v1/encoders/demo-{key}/report")
    return rows


def follow(client: httpx.Client, job_id: str, *, title: str) -> None:
    """Show a job live from its event stream until it ends. Raises DemoFailed unless it succeeded."""
    information: dict[str, Any] = {}
    with TrainingDisplay() as display:
        for event in events(client, job_id):
            data = event["data"]
            if event["type"] == "metric":
                information = data
            elif event["type"] == "log":
                display.phase(str(data.get("message", ""))[:40], None)
            elif event["type"] == "progress" and data.get("steps"):
                display.show(
                    epoch=data["epoch"],
                    epochs=data["epochs"],
                    step=data["step"],
                    steps=data["steps"],
                    images_per_s=data["images_per_s"],
                    mi_nats=information.get("mi_nats"),
                    capacity_nats=information.get("capacity_nats"),
                    title=title,
                )
    job = _get(client, f"/v1/jobs/{job_id}")
    if job["state"] != "succeeded":
        raise DemoFailed(
            f"Job {job_id} ended {job['state']}: {(job['failure'] or {}).get('message', 'no reason is known')}"
        )


def events(client: httpx.Client, job_id: str) -> Iterator[dict[str, Any]]:
    """The events of a job until its terminal state, over server-sent events."""
    with client.stream(
        "GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}, timeout=600
    ) as answer:
        if answer.status_code != 200:
            raise DemoFailed(f"The event stream answered {answer.status_code}.")
        for line in answer.iter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))


def assemble(client: httpx.Client, found: dict[str, Any], datasets_dir: Path | None) -> str:
    """Embed held-out images and draw from the prior over REST; the report of both encoders as one page."""
    from nidim.data import load_builtin
    from nidim.evaluate import Report, page, sentence
    from nidim.pipeline import nearest_to_draws, some_views
    from nidim.priors import prior_from_dict
    from nidim.spec import FullSpec

    dataset = load_builtin(found["dataset"], root=datasets_dir)
    images = np.ascontiguousarray(dataset.test.images[:DRAWS])
    labels = dataset.test.labels[:DRAWS] if dataset.test.labels is not None else None
    embeddings = _npy(
        client.post(
            "/v1/encoders/demo-noise/embed",
            content=npy_bytes(images),
            headers={"Content-Type": NPY, "Accept": NPY},
        )
    )
    encoder = _get(client, "/v1/encoders/demo-noise")
    config = _get(client, "/v1/encoders/demo-noise/files/config.json")
    prior = prior_from_dict(encoder["prior"])
    draws = _npy(
        client.post(
            "/v1/encoders/demo-noise/prior/sample", json={"n": DRAWS, "seed": 7}, headers={"Accept": NPY}
        )
    )
    if not np.array_equal(draws, prior.sample(DRAWS, seed=7)):
        raise DemoFailed("The served prior draws differ from those of the library.")
    full = found["noise_full"]
    report, baseline = (Report.model_validate(_report(found[f"{k}_full"])) for k in ("noise", "none"))
    found["sentence"] = sentence(report)
    return page.render(
        report,
        title=f"{found['dataset']}: the law of the embeddings",
        history=full["history"],
        embeddings=embeddings,
        labels=labels,
        prior=prior,
        noisy=prior_from_dict(config["noisy_prior"]),
        nearest=nearest_to_draws(prior, embeddings, images, seed=7),
        views=some_views(images, FullSpec.model_validate(config["spec"]).augmentation, seed=7),
        baseline=baseline,
        classes=dataset.classes or None,
    )


def generated(client: httpx.Client, found: dict[str, Any], epochs: int | None) -> bytes:
    """Train a generator fed from the prior of the encoder with noise; a grid of its draws as a PNG file."""
    from nidim.generate.report import GeneratorReport, sentence

    name = found["dataset"]
    spec = {
        "kind": "generator",
        "source": "demo-noise",
        "epochs": epochs or GENERATOR_EPOCHS[name],
        "evaluation": "quick",
    }
    body = {"spec": spec, "generator": "demo-generator"}
    job = _answer(client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "demo-generator"}))
    follow(client, job["id"], title="generator")
    full = _get(client, "/v1/generators/demo-generator/report")
    found["generator"] = show.headline(full)
    found["gap"] = sentence(
        GeneratorReport.model_validate({key: full[key] for key in GeneratorReport.model_fields})
    )
    answer = _checked(
        client.post(
            "/v1/generators/demo-generator/generate",
            json={"n": GENERATED, "seed": 7},
            headers={"Accept": "image/png"},
        )
    )
    return _enlarged(answer.content)


def _enlarged(png: bytes) -> bytes:
    """A small picture with every pixel as a square of pixels."""
    picture = Image.open(io.BytesIO(png))
    times = max(1, ENLARGED_TO // picture.width)
    file = io.BytesIO()
    picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST).save(
        file, "PNG"
    )
    return file.getvalue()


def _report(full: dict[str, Any]) -> dict[str, Any]:
    from nidim.evaluate import Report

    return {key: value for key, value in full.items() if key in Report.model_fields}


def npy_bytes(images: NDArray[Any]) -> bytes:
    """An array as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    return buffer.getvalue()


def _npy(answer: httpx.Response) -> NDArray[Any]:
    _checked(answer)
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def _get(client: httpx.Client, path: str) -> dict[str, Any]:
    return _answer(client.get(path, headers={"Accept": "application/json"}))


def _answer(answer: httpx.Response) -> dict[str, Any]:
    return _checked(answer).json()


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise DemoFailed(f"{answer.request.method} {answer.request.url.path}: {answer.text[:500]}")
    return answer
