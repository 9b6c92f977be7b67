"""docs/security.md names a test for every threat, and each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def functions(path: Path) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_tests_that_are_named_exist(file: str, name: str) -> None:
    assert (ROOT / file).is_file(), file
    assert name in functions(ROOT / file)


def test_every_threat_has_a_test() -> None:
    table = PAGE[PAGE.index("| class | closed by | test |") :].splitlines()[2:]
    rows = [line for line in table if line.startswith("|")]
    assert len(rows) > 12
    assert all("tests/" in row.split("|")[3] for row in rows)


def test_the_limits_are_those_of_the_settings() -> None:
    from service.settings import Settings

    for name in set(re.findall(r"NIDIM_([A-Z_]+)", PAGE)) - {""}:
        assert name.lower() in Settings.model_fields, name
    shown = {
        "key_requests_per_s": "1,000 a second",
        "key_burst_requests": "2,000 at once",
        "key_concurrent_requests": "2,000, event",
        "key_queued_jobs": "| 500 |",
        "key_stored_bytes": "256 GiB",
        "retain_audit_days": "(365;",
    }
    for name, text in shown.items():
        value = Settings.model_fields[name].default
        number = f"{value / 2**30:g}" if name.endswith("bytes") else f"{value:,.0f}"
        assert number in text
        assert text in PAGE
