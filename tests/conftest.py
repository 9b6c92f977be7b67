"""Shapes and types of the mathematics are checked while tests run, and only then.

Workers that tests start export no ONNX, unless the test is about what a training stores: half the time of a tiny one.

One thread for every numeric library, here and in the processes that tests start: the problems are tiny, and on a busy
machine threads that wait for each other at barriers are slower by orders of magnitude.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from tests import columns

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("NIDIM_EXPORT_ONNX", "false")

WAITING = {"chaos", "client", "e2e", "hostile", "worker"}
"""Folders whose tests wait for other processes more than they compute."""
CHECKED = [
    f"nidim.{m}" for m in ("objectives", "critics", "normalize", "augment", "methods", "encoders", "noise")
]
install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that need it skip where it is absent."""
    root = Path(os.environ.get("NIDIM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "README.md").is_file():
        pytest.skip(f"real data is not at {root}; set NIDIM_TEST_DATA")
    return root


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever has a column runs in both, or in the embedded one where that is enough."""
    if "column" in metafunc.fixturenames:
        enough = metafunc.definition.get_closest_marker("embedded") is not None
        metafunc.parametrize("column", columns.COLUMNS[:1] if enough else columns.COLUMNS, indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait are spread among those that compute: cores that had nothing to do while four waited at once
    had too much to do afterwards."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    kinds: dict[bool, list[Path]] = {}
    for path in files:
        kinds.setdefault(path.parent.name in WAITING, []).append(path)
    place = {path: (i + 0.5) / len(paths) for paths in kinds.values() for i, path in enumerate(paths)}
    items[:] = [item for path in sorted(files, key=place.__getitem__) for item in files[path]]


@pytest.fixture(scope="session")
def column(request: pytest.FixtureRequest) -> str:
    """``embedded`` or ``servers``."""
    return str(request.param)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server, shared by all tests of a process."""
    with columns.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3, shared by all tests of a process."""
    with columns.s3() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def new_bucket() -> Callable[[str], str]:
    """``new_bucket(endpoint)`` -> the name of an empty bucket."""
    return columns.make_bucket


@pytest.fixture
def use_s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """``use_s3()``: from now on s3:// URLs without options mean the server of the tests, in child processes too."""

    def use() -> None:
        for name, value in columns.s3_environment(s3_endpoint).items():
            monkeypatch.setenv(name, value)

    return use


@pytest.fixture(scope="session")
def databases(postgresql_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[columns.Databases]:
    """Empty databases, each for one test."""
    made = columns.Databases(postgresql_url, tmp_path_factory.mktemp("databases"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def place_in(request: pytest.FixtureRequest) -> Callable[[str], AbstractContextManager[dict[str, str]]]:
    """``with place_in(column) as settings``: of an empty store in that column, beside its data_dir."""

    @contextmanager
    def place(column: str) -> Iterator[dict[str, str]]:
        if column == "embedded":
            yield {}
            return
        databases, endpoint = (request.getfixturevalue(name) for name in ("databases", "s3_endpoint"))
        with columns.servers(databases, endpoint) as settings:
            yield settings

    return place


@pytest.fixture
def place(
    column: str, place_in: Callable[[str], AbstractContextManager[dict[str, str]]]
) -> Iterator[dict[str, str]]:
    """Settings of an empty store in the test's column."""
    with place_in(column) as settings:
        yield settings
