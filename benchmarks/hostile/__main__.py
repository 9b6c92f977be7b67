"""Run the corpus, or Schemathesis, against a server of its own; write the figures."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from benchmarks.hostile import report, schema, stack
from benchmarks.hostile.attack import Outcome, attack
from benchmarks.hostile.corpus import mutants

RESULTS = Path(__file__).resolve().parent.parent / "results" / "hostile"
SLICE = 500
"""Mutants after which the figures are written."""
SETTINGS = {"body_timeout_s": 1.5, "decode_processes": 2, "ingest_timeout_s": 60}


@click.command()
@click.option("--n", default=10_000, show_default=True, help="mutants")
@click.option("--seed", default=0, show_default=True, help="of the corpus")
@click.option("--start", default=0, show_default=True, help="first mutant, to look at one again")
@click.option("--schemathesis", is_flag=True, help="Schemathesis instead of the corpus")
@click.option("--examples", default=50, show_default=True, help="of Schemathesis, for every operation")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="folder of the figures")
def main(n: int, seed: int, start: int, schemathesis: bool, examples: int, out: Path) -> None:
    """Hostile input against the real API process."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nidim-hostile-") as directory:
        if schemathesis:
            sys.exit(schema.run_all(Path(directory), seed=seed, examples=examples, out=out))
        with stack.serving(Path(directory), **SETTINGS) as server:
            outcome = Outcome()
            for at in range(start, n, SLICE):
                some = mutants(min(n, at + SLICE), seed=seed, start=at)
                attack(server, some, first=at, outcome=outcome)
                report.write(outcome, out, n=n, seed=seed)
                print(
                    f"{outcome.count} mutants, {len(outcome.failures)} failures, {outcome.wall_s:.0f} s",
                    flush=True,
                )
    for failure in outcome.failures:
        print(f"{failure.number} {failure.family}: {failure.why}")
    print(f"{outcome.count} mutants, {len(outcome.failures)} not answered as documented")
    sys.exit(1 if outcome.failures else 0)


main()
