"""Schemathesis with all its checks against a real server: with a key, and open on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile import stack

CONFIG = Path(__file__).with_name("schemathesis.toml")
ROOT = CONFIG.parents[2]


@dataclass(frozen=True)
class Run:
    """What is tested how. ``keyed``: with an admin key; ``options`` choose operations and checks."""

    name: str
    keyed: bool
    options: tuple[str, ...]


RUNS = (
    # The key that the run uses must survive it: revoking keys has a run of its own.
    Run("with a key", True, ("--exclude-operation-id", "revoke_key")),
    Run("revoking keys", True, ("--include-path-regex", "^/v1/keys")),
    # Without keys nobody needs one, and the first key would lock the others out.
    Run(
        "open on loopback",
        False,
        ("--exclude-operation-id", "create_key", "--exclude-checks", "ignored_auth"),
    ),
)


def run_all(directory: Path, *, seed: int, examples: int, out: Path) -> int:
    """Every run on a server of its own; the number of runs that found something. Writes ``schemathesis.json``."""
    found = []
    for number, run in enumerate(RUNS):
        with stack.serving(directory / str(number), keyed=run.keyed, decode_processes=1) as server:
            status, text = run_one(server, run, seed=seed, examples=examples)
        sys.stdout.write(text)
        found.append({"run": run.name, "status": status, "summary": summary(text)})
    figures = {
        "command": f"python -m benchmarks.hostile --schemathesis --examples {examples} --seed {seed}",
        "runs": found,
    }
    (out / "schemathesis.json").write_text(json.dumps(figures, indent=1) + "\n")
    return sum(entry["status"] != 0 for entry in found)


def run_one(
    server: stack.Stack, run: Run, *, seed: int, examples: int, more: Sequence[str] = ()
) -> tuple[int, str]:
    """Exit status and output of one run."""
    headers = [word for name, value in server.headers.items() for word in ("-H", f"{name}: {value}")]
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run"),
        *(f"{server.url}/openapi.json", "--checks", "all", "--no-color", "--continue-on-failure"),
        *("--seed", str(seed), "--max-examples", str(examples), "--generation-database", "none"),
        *("--request-timeout", "60", *headers, *run.options, *more),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=_environment())
    return done.returncode, done.stdout + done.stderr


def summary(text: str) -> list[str]:
    """The lines that count what was done and found."""
    _, _, tail = text.partition("= SUMMARY =")
    return [line.strip() for line in tail.splitlines() if line.strip() and not line.startswith("=")]


def _environment() -> dict[str, str]:
    """With the repository on the path: the strategies are a module of it."""
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
