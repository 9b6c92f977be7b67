"""Schemathesis with all its checks against a real server: with a key, and open on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hostile import report, stack
from benchmarks.hostile.cases import EMBED
from benchmarks.hostile.pictures import of

CONFIG = Path(__file__).with_name("schemathesis.toml")
ROOT = CONFIG.parents[2]
VERSIONS = 100
"""Of the encoder: deleting them is tested too, and shall not run out of them."""
PACKAGES = ("schemathesis", "hypothesis", "fastapi", "starlette", "uvicorn", "pydantic")


@dataclass(frozen=True)
class Run:
    """What is tested how. ``keyed``: with an admin key; ``options`` choose operations and checks."""

    name: str
    keyed: bool
    options: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What came of a run: exit status, output for people, and Schemathesis' own figures."""

    status: int
    text: str
    figures: dict[str, Any]


NO_KEY = ("--generation-with-security-parameters", "false")
RUNS = (
    # The key that the run uses must survive it: revoking keys has a run of its own.
    Run("with a key", True, ("--exclude-operation-id", "revoke_key")),
    Run("revoking keys", True, ("--include-path-regex", "^/v1/keys")),
    # Without keys nobody needs one, and the first key would lock the others out.
    Run(
        "open on loopback",
        False,
        ("--exclude-operation-id", "create_key", "--exclude-checks", "ignored_auth", *NO_KEY),
    ),
)


def run_all(directory: Path, *, seed: int, examples: int, out: Path) -> int:
    """Every run on a server of its own; the number of runs that found something. Writes ``schemathesis.json``."""
    found = []
    for number, run in enumerate(RUNS):
        with serving(directory / str(number), run) as server:
            one = run_one(server, run, seed=seed, examples=examples)
        print(one.text, flush=True)
        found.append({"run": run.name, "status": one.status, **_figures(one.figures)})
    figures = {
        "command": f"python -m benchmarks.hostile --schemathesis --examples {examples} --seed {seed}",
        "seed": seed,
        "examples": examples,
        "runs": found,
        **report.surroundings(PACKAGES),
    }
    (out / "schemathesis.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "schemathesis.md").write_text(text(figures))
    return sum(entry["status"] != 0 for entry in found)


@contextmanager
def serving(directory: Path, run: Run, *, versions: int = VERSIONS) -> Iterator[stack.Stack]:
    """The server of one run; it has embedded before, because the first time takes seconds."""
    with stack.serving(directory, keyed=run.keyed, versions=versions, decode_processes=1) as server:
        with server.client() as client:
            headers = {"Content-Type": "image/png"}
            client.post(EMBED, content=of("PNG")[1], headers=headers).raise_for_status()
        yield server


def run_one(
    server: stack.Stack, run: Run, *, seed: int | None, examples: int, more: Sequence[str] = ()
) -> Found:
    """One run; without a seed the examples are the same each time. ``more`` options of Schemathesis."""
    chosen = ("--generation-deterministic",)
    if seed is not None:
        chosen = ("--seed", str(seed), "--generation-database", "none")
    headers = [word for name, value in server.headers.items() for word in ("-H", f"{name}: {value}")]
    figures = server.log.with_name("schemathesis.json")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
        *(f"{server.url}/openapi.json", "--checks", "all", "--no-color", "--continue-on-failure"),
        *("--max-examples", str(examples), *chosen),
        *("--report", "json", "--report-json-path", str(figures)),
        *("--request-timeout", "60", *headers, *run.options, *more),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # the strategies are a module of the repository
    done = subprocess.run(command, cwd=server.log.parent, capture_output=True, text=True, env=env)
    known = json.loads(figures.read_text()) if figures.exists() else {}
    return Found(done.returncode, done.stdout + done.stderr, known)


def text(figures: dict[str, Any]) -> str:
    """The figures for people."""
    rows = [
        f"| {run['run']} | {run['operations']['tested']} of {run['operations']['total']} | {run['cases']} "
        f"| {', '.join(run['phases'])} | {len(run['failures'])} | {len(run['errors'])} | {run['seconds']:.0f} |"
        for run in figures["runs"]
    ]
    versions, hardware = figures["versions"], figures["hardware"]
    return "\n".join(
        [
            "# Schemathesis",
            "",
            f"`{figures['command']}`: Schemathesis {versions['schemathesis']}, all its checks (where no key is "
            "needed, all but those of keys), against a real API process. "
            f"Seed {figures['seed']}, at most {figures['examples']} examples an operation, and those of the "
            f"coverage phase. Revision {figures['revision']}.",
            "",
            "| run | operations tested | cases | phases | failures | errors | s |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"{figures['at']}, {hardware['cpus']} shared cores of {hardware['processor']} (other measurements ran "
            f"beside it), Python {hardware['python']}. Operations that a run leaves out are tested by another one. "
            "What was accepted of each operation is in schemathesis.json.",
            "",
        ]
    )


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of Schemathesis' own report."""
    return {
        "operations": found["operations"],
        "cases": found["test_cases"]["generated"],
        "phases": {
            name: phase["status"] for name, phase in found["phases"].items() if phase["status"] != "skip"
        },
        "failures": found["failures"],
        "errors": found["errors"],
        "seconds": round(found["running_time"], 1),
        "valid_rates": found["valid_rates"],
    }
