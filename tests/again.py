"""What is to be tried once more after a run of the suite: ``python -m tests.again`` prints the files of its failures.

Beside others on busy cores a test that waits for real processes may wait too long; alone it has the machine. A file is
tried as a whole, since its tests may stand on each other. More than a few files are no accident: then, and where the
run broke off before it could say what failed, it ends with 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FAILED = Path(".pytest_cache/v/cache/lastfailed")
"""Where pytest keeps the names of what failed, of tests and of files that could not be collected."""
MOST = 3


def files(cache: Path = FAILED) -> list[str]:
    """The files of the tests that failed; none where it is not known, or where more than ``MOST`` have failures."""
    try:
        names = json.loads(cache.read_text())
    except FileNotFoundError:
        return []
    found = sorted({name.split("::")[0] for name in names})
    return found if len(found) <= MOST else []


def main() -> None:
    found = files()
    sys.stdout.write(" ".join(found) + "\n")
    sys.exit(not found)


if __name__ == "__main__":
    main()
