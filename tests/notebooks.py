"""Runs the code of notebooks, cell by cell in one namespace, as Jupyter would but without Jupyter.

    python -m tests.notebooks law.ipynb generator.ipynb

One after the other, each with names of its own, in the current directory. IPython's magic is not known here. A cell
that fails ends it, with the name of its notebook and its number in the traceback.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    """The cells of a kind."""
    found = json.loads(path.read_text())
    if found["nbformat"] != 4:
        raise ValueError(f"{path.name} has format {found['nbformat']}, not 4")
    return [cell for cell in found["cells"] if cell["cell_type"] == kind]


def run(path: Path) -> None:
    """Execute the code cells in order."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(path), start=1):
        exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), names)


if __name__ == "__main__":
    for word in sys.argv[1:]:
        run(Path(word))
