"""Small rules of the house that no linter knows; ``python -m tests.house_rules`` checks the repository.

unsafe loads     pickle, torch.load, np.load(allow_pickle=True), yaml.load and their kin appear nowhere, and
                 torch.export.load only where the bytes were made a line above
environment      os.environ and os.getenv are not read while a module is imported
machine paths    no file names a path of the machine that it was written on
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"torch.load", "torch.export.load", "yaml.load", "yaml.unsafe_load", "pandas.read_pickle"}
OWN_BYTES = {(Path("nidim/program_export.py"), "call of torch.export.load")}
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[a-z]+/")


def problems(path: Path, text: str) -> Iterator[str]:
    """What is wrong with one file, a line each."""
    for number, line in enumerate(text.splitlines(), start=1):
        if MACHINE_PATH.search(line):
            yield f"{path}:{number}: a path of some machine"
    if path.suffix == ".py":
        tree = ast.parse(text)
        unsafe = ((line, what) for line, what in unsafe_loads(tree) if (path, what) not in OWN_BYTES)
        yield from (f"{path}:{line}: {what}" for line, what in unsafe)
        if path.parts[0] in ("nidim", "service", "worker"):
            yield from (f"{path}:{line}: {what}" for line, what in environment_at_import(tree))


def unsafe_loads(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Imports and calls that could run code from a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node.lineno, f"import of {n}") for n in names if n.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in UNSAFE_CALLS:
                yield node.lineno, f"call of {name}"
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and not _is_false(keyword.value):
                    yield node.lineno, "allow_pickle is not False"
            if name in ("np.load", "numpy.load") and "allow_pickle" not in {k.arg for k in node.keywords}:
                yield node.lineno, "np.load without allow_pickle=False"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def environment_at_import(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Reads of the environment outside any function."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
            yield node.lineno, "reads the environment at import"
        waiting.extend(ast.iter_child_nodes(node))


def tracked() -> list[Path]:
    """The text files of the repository."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    suffixes = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".html", ".ipynb", ".json", ".env", ""}
    found = [Path(name) for name in listed.stdout.split("\0") if name]
    return [path for path in found if path.suffix in suffixes and (ROOT / path).is_file()]


def main() -> int:
    found = [problem for path in tracked() for problem in problems(path, (ROOT / path).read_text())]
    sys.stdout.write("".join(f"{problem}\n" for problem in found) or "house rules: nothing found\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
