"""``python -m tests.chaos --column embedded --faults 100 --seed 0``: a campaign, with its table at the end."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos import campaign, pool, report
from tests.chaos.stacks import COLUMNS


def say(words: str) -> None:
    """A line at once, for whoever watches."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def _forget(_: campaign.Result) -> None:
    """Where nothing is to be stored."""


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--column", choices=sorted(COLUMNS), default="embedded")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0, help="no further fault after so many minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="jobs that are alive at a time")
    parser.add_argument(
        "--only", nargs="*", default=(), help="these faults in this order, instead of drawn ones"
    )
    parser.add_argument("--short", action="store_true", help="a lease of 3 s instead of 30")
    parser.add_argument("--no-mounts", action="store_true", help="mount nothing, even where it is allowed")
    parser.add_argument("--out", type=Path, help="directory for the figures; its README.md pools all runs")
    parser.add_argument("--keep", type=Path, help="directory in which logs are kept")
    given = parser.parse_args(argv)
    plan = campaign.Plan(
        column=given.column,
        seed=given.seed,
        faults=given.faults,
        minutes=given.minutes,
        names=tuple(given.only),
        short=given.short,
        jobs=given.jobs,
        disks=not given.no_mounts,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack is taken down
    with tempfile.TemporaryDirectory(prefix="nidim-chaos-") as temporary:
        place = given.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        keep = report.Keeper(given.out, sys.argv[1:] if argv is None else argv).keep if given.out else _forget
        result = campaign.run(plan, place, say, keep)
    sys.stdout.write(report.table(result))
    if given.out:
        pool.write(given.out)
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
