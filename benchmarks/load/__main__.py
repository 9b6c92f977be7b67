"""``python -m benchmarks.load``: run the parts, store their figures, write the page."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from benchmarks.load import listing, page, streams, submits, uploads
from benchmarks.load.figures import store_figures, surroundings
from benchmarks.load.stack import NewDatabase, databases

Part = Callable[[NewDatabase, argparse.Namespace], dict[str, Any]]


def _measured(part: ModuleType, new_database: NewDatabase, given: argparse.Namespace) -> dict[str, Any]:
    full = uploads.of_megabytes(given.upload_mb) if part is uploads else part.Size()
    found: dict[str, Any] = part.measure(new_database, part.SMALL if given.small else full, given.seed)
    return found


PARTS: dict[str, Part] = {
    name: functools.partial(_measured, module)
    for name, module in {
        "listing": listing,
        "streams": streams,
        "uploads": uploads,
        "submits": submits,
    }.items()
}


def main(argv: list[str] | None = None) -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few seconds a part, nothing stored")
    parser.add_argument("--only", choices=PARTS, help="this part only")
    parser.add_argument(
        "--database", default="sqlite", help="sqlite, postgresql (one of our own), or the URL of a server"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--upload-mb",
        type=float,
        default=100.0,
        help="MB of each of the 64 uploads; three times that on the disk",
    )
    given = parser.parse_args(argv)
    for name in [given.only] if given.only else PARTS:
        where = surroundings(given.seed)
        with databases(given.database) as new_database:
            found = {"where": where, **PARTS[name](new_database, given)}
        if given.small:
            sys.stdout.write(json.dumps(found, indent=2) + "\n")
        else:
            kind = given.database.partition(":")[0]
            sys.stdout.write(f"{store_figures(f'{name}-{kind}', found)}\n")
            page.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
