"""``python -m benchmarks.speed SECTION``: see the package."""

from __future__ import annotations

import argparse
import importlib

import benchmarks.speed

SECTIONS = (
    *("evaluation", "prior", "control", "training", "scaling", "quality", "growth"),
    *("serving", "engines", "page"),
)


def main() -> None:
    """Run one section."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=benchmarks.speed.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument(
        "--small", action="store_true", help="a trial of the script in seconds; its figures mean nothing"
    )
    given = parser.parse_args()
    importlib.import_module(f"benchmarks.speed.{given.section}").main(given.small)


if __name__ == "__main__":
    main()
