"""The fenced blocks of the documentation, and which test runs each: ``python -m tests.blocks`` lists them.

A block stands below a marker, ``<!-- name -->``; those of a page below the same marker are one session. A test takes it
with ``session("docs/page.md", "name")`` and runs or parses. What no test can run is in ``NOT_RUN``, with the reason.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<marker>[\w-]+) -->\n)?"
    r"^ *(?P<fence>```+|~~~+)(?P<language>[^\n`]*)\n(?P<text>.*?)^ *(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = {
    ("README.md", "make-session"): "pip installs all of it anew; tests/e2e/test_demo.py runs the demo",
    ("docs/tutorial.md", "make-session"): "the same; tests/e2e/conftest.py starts what it starts",
    (
        "docs/notebooks.md",
        "jupyter-session",
    ): "needs JupyterLab; tests/nidim/test_notebooks.py runs the cells",
    ("docs/containers.md", "compose-session"): "needs an engine; tests/repository/test_containers.py",
    ("docs/operations.md", "upgrade-session"): "needs a cluster; tests/repository/test_kubernetes.py",
    ("docs/architecture.md", "drawing"): "no code",
    ("docs/concepts.md", "formula"): "no code",
    (
        "docs/alerts.md",
        "",
    ): "needs Prometheus; made by docs/monitoring.py, see tests/repository/test_operations.py",
}
"""(page, marker) -> why no test runs these blocks."""


@dataclass(frozen=True)
class Block:
    """``page`` from the root of the repository; ``marker`` is empty where there is none."""

    page: str
    line: int
    language: str
    marker: str
    text: str


def pages() -> list[str]:
    """Every page of the documentation, from the root of the repository."""
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = (ROOT / page).read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("fence")) + 1,
            language=found["language"].strip(),
            marker=found["marker"] or "",
            text=found["text"],
        )
        for found in BLOCK.finditer(text)
    ]


def session(page: str, marker: str) -> str:
    """All blocks of a page below this marker, as one text."""
    found = [block.text for block in blocks(page) if block.marker == marker]
    if not found:
        raise LookupError(f"{page} has no block below <!-- {marker} -->.")
    return "\n".join(found)


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A session of bash in ``folder``, with the commands of this environment; it ends where a command fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
    )


def takers() -> dict[tuple[str, str], str]:
    """(page, marker) -> the test, or what it is made of, that takes the session, as ``file::function``."""
    return {
        taken: f"{path.relative_to(ROOT)}::{name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "session(" in (text := path.read_text())
        for taken, name in taken_in(ast.parse(text))
    }


def taken_in(tree: ast.Module) -> Iterator[tuple[tuple[str, str], str]]:
    """Calls of ``session`` with its two words, and the function each stands in."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                match node:
                    case ast.Call(ast.Name("session"), [ast.Constant(str(page)), ast.Constant(str(marker))]):
                        yield (page, marker), function.name


def main() -> None:
    held = {**{key: f"not run: {reason}" for key, reason in NOT_RUN.items()}, **takers()}
    for page in pages():
        for block in blocks(page):
            by = held.get((page, block.marker), "NOT RUN BY ANY TEST")
            sys.stdout.write(f"{page}:{block.line} {block.language} {by}\n")


if __name__ == "__main__":
    main()
