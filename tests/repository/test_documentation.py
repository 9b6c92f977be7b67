"""What the documentation says is what the code does."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import typing
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from nidim.data import builtin_facts
from nidim.spec import TrainSpec
from tests import blocks, notebooks
from tests.blocks import ROOT

PAGES = [
    ROOT / "README.md",
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.ipynb")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
]
BLOCKS = [block for page in blocks.pages() for block in blocks.blocks(page)]


def script(name: str) -> ModuleType:
    """A script of the documentation."""
    found = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return script("generate")


@pytest.mark.parametrize("page", ["settings.md", "defaults.md", "rest.md"])
def test_generated_pages_are_current(generate, page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == generate.PAGES[page](), "run: python docs/generate.py"


def test_the_picture_of_views_is_what_the_code_makes(real_data: Path, tmp_path: Path) -> None:
    """Other fonts and versions move a few pixels; other views change them everywhere."""
    views = script("views")
    views.draw(real_data / "torchvision", tmp_path / "views.png")
    stored, made = (
        np.asarray(Image.open(path).convert("L"), float) for path in (views.TARGET, tmp_path / "views.png")
    )
    assert stored.shape == made.shape
    assert np.abs(stored - made).mean() < 0.3, "run: python docs/views.py DIR"


def prose(page: Path) -> str:
    """The Markdown of a page or notebook without its fenced blocks."""
    if page.suffix == ".ipynb":
        return "\n\n".join("".join(cell["source"]) for cell in notebooks.cells(page, "markdown"))
    return blocks.BLOCK.sub("", page.read_text())


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a text: small letters, hyphens for spaces, no punctuation, a number if again.

    The site's names of them are other ones; mkdocs checks those.
    """
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?)[ #]*$", text, re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.append(re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-"))
    again = [found[:i].count(name) for i, name in enumerate(found)]
    return {f"{name}-{k}" if k else name for name, k in zip(found, again, strict=True)}


def lost(page: Path, text: str) -> list[str]:
    """The links of a text, as it stands at ``page``, that lead to no file or no heading of it."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if target.startswith(("http://", "https://")) or (path.exists() and not anchor):
            continue
        if not path.is_file() or anchor not in anchors(text if path == page else prose(path)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert lost(page, prose(page)) == []


def test_a_link_to_nowhere_is_found() -> None:
    text = """# A `d` of 2, or: [why](README.md)?
## Limits
## Limits
[1](#a-d-of-2-or-why) [2](#limits-1) [3](CHANGELOG.md) [4](docs) [5](docs/backup.md#restore) [6](https://no.where/#x)
[7](#limits-2) [8](#Limits) [9](gone.md) [10](docs/backup.md#gone) [11](docs#restore) [12](gone.md#restore)"""
    wrong = ["#limits-2", "#Limits", "gone.md", "docs/backup.md#gone", "docs#restore", "gone.md#restore"]
    assert lost(ROOT / "README.md", text) == wrong


def test_every_block_is_run_by_a_test_or_has_a_reason_why_not() -> None:
    run = blocks.takers()
    there = {(block.page, block.marker) for block in BLOCKS}
    assert len(BLOCKS) > 50
    assert there - run.keys() - blocks.NOT_RUN.keys() == set(), "of no test and without a reason"
    assert blocks.NOT_RUN.keys() - there == set(), "not there any more"
    assert blocks.NOT_RUN.keys() & run.keys() == set(), "run all the same"
    for reason in blocks.NOT_RUN.values():
        for path in re.findall(r"\b(?:docs|tests)/[\w/.]+", reason):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", blocks.pages())
def test_no_block_is_overlooked(page: str) -> None:
    """Every fence belongs to a block, and what is code by indentation are the commands of the tables of results."""
    found = blocks.blocks(page)
    assert len(re.findall(r"```|~~~", (ROOT / page).read_text())) == 2 * len(found)
    indented = re.findall(r"(?:\A|\n\n|^#.*\n)(?: {4,}|\t)(.*)", prose(ROOT / page), re.MULTILINE)
    assert [line for line in indented if not line.startswith("nidim reproduce ")] == []


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "bash"], ids=lambda b: f"{b.page}:{b.line}"
)
def test_bash_can_read_every_block(block: blocks.Block) -> None:
    done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_of_the_tables_are_those_of_the_program(tmp_path: Path) -> None:
    """Each is read with all its options; to run one takes minutes to hours."""
    from nidim.reproduce.command import reproduce

    pages = sorted((ROOT / "docs" / "results").glob("*.md"))
    assert len(pages) > 10
    for page in pages:
        (line,) = re.findall(r"^    nidim reproduce (.*)", page.read_text(), re.MULTILINE)
        context = reproduce.make_context("reproduce", line.replace("DIR", str(tmp_path)).split())
        assert page.stem == f"{context.params['table']}-{context.params['scale']}"


def test_every_page_is_what_its_command_makes_of_the_stored_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for its figure. Pages of images that have to be fetched first are left out: their runs name no others."""
    from nidim.reproduce.command import reproduce
    from nidim.reproduce.tables import TABLES

    for name, table in TABLES.items():
        monkeypatch.setitem(TABLES, name, dataclasses.replace(table, figure=None))
    (tmp_path / "runs").symlink_to(ROOT / "docs" / "results" / "runs")
    made = 0
    for page in (ROOT / "docs" / "results").glob("*.md"):
        text, _, _ = page.read_text().partition("\n![")
        (line,) = re.findall(r"^    nidim reproduce (.*)", text, re.MULTILINE)
        if "DIR" in line.split():
            continue
        words = [*shlex.split(line), "--write-only", "--out", str(tmp_path)]
        done = CliRunner().invoke(reproduce, words)
        assert done.exit_code == 0, done.output
        assert (tmp_path / page.name).read_text() == text
        values = page.with_suffix(".json")
        assert (tmp_path / values.name).read_text() == values.read_text()
        made += 1
    assert made > 10


def test_every_module_that_is_started_exists() -> None:
    text = "".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"python -m ((?:benchmarks|tests|service|worker)[\w.]*\w)", text))
    assert len(named) > 10
    for name in named:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name


def test_the_site_is_built_and_its_menu_is_whole(tmp_path: Path) -> None:
    config = ROOT / "docs" / "site" / "mkdocs.yml"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "-f",
            str(config),
            "-d",
            str(tmp_path / "site"),
        ],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    named = re.findall(r": ([\w/-]+)\.md$", config.read_text(), re.MULTILINE)
    assert len(named) > 20

    def read(page: str) -> str:
        return (tmp_path / "site" / page).read_text()

    for page in named:
        assert "<article" in read(f"{page.replace('README', 'index')}.html"), page
    assert re.findall(r'href="(repository/[^"]*drift/cost.html)"', read("drift.html")), "it has left the site"


def test_the_runs_of_the_mnist_table_are_those_of_its_rows_today() -> None:
    """A default that changes leaves no run behind under a name that means something else now; fields may be added."""
    from benchmarks import mnist_table

    facts = builtin_facts("mnist")
    runs = [run for runs in mnist_table.stored_runs().values() for run in runs]
    assert len(runs) > 30
    for run in runs:
        asked = {"dataset": "mnist", "seed": run["seed"], **mnist_table.configurations()[run["row"]]}
        today = TrainSpec.model_validate(asked).filled(facts).model_dump(mode="json")
        for name, then in run["spec"].items():
            now = today[name]
            if isinstance(then, dict):
                now = {key: value for key, value in now.items() if key in then}
            assert now == then, f"{run['row']}, {name}"


@pytest.mark.parametrize(("page", "made"), [("README.md", "summary"), ("docs/mnist.md", "table")])
def test_the_tables_of_mnist_are_those_of_the_stored_runs(page: str, made: str) -> None:
    from benchmarks import mnist_table

    shown = re.search(f"{mnist_table.BEGIN}\n(.*?){mnist_table.END}", (ROOT / page).read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] == getattr(mnist_table, made)(), "run: python -m benchmarks.mnist_table --table"


def test_the_table_of_networks_is_that_of_the_stored_figures_and_has_all_of_them() -> None:
    from benchmarks import networks
    from nidim.spec import parts

    page = networks.PAGE.read_text()
    assert f"{networks.BEGIN}\n{networks.table()}{networks.END}" in page, (
        "run: python -m benchmarks.networks --table"
    )
    assert {cls().kind for cls in typing.get_args(typing.get_args(parts.Encoder)[0])} == set(networks.KINDS)


def test_all_that_may_go_wrong_is_on_its_page() -> None:
    """Ends of jobs, their warnings, and refusals of the API, as the code says them."""
    from nidim.capacity import Advice
    from service.ingest import STATUS
    from service.store.jobs.reaping import POISON
    from worker.classify import PERMANENT

    def said(pattern: str, *files: str) -> set[str]:
        found = [re.findall(pattern, path.read_text()) for name in files for path in ROOT.glob(name)]
        return {code for codes in found for code in codes}

    trouble, _, warns = (ROOT / "docs" / "trouble.md").read_text().partition("## The job warns")
    warns, _, _ = warns.partition("## It succeeded")
    ends = {*PERMANENT.values(), POISON, *said(r'Verdict\(retry=True, code="(\w+)"', "worker/classify.py")}
    ends |= said(r'retry=True, code="(\w+)"', "worker/classify.py")
    assert {"crashed", "out_of_memory", "training_diverged"} < ends
    warnings = {*typing.get_args(Advice.model_fields["code"].annotation)}
    warnings |= said(r'yield \(\s*"(\w+)"', "worker/watch.py")
    warnings |= said(r'"warning", (?:code=|\{"code": )"(\w+)"', "worker/*.py")
    assert {"loss_unstable", "images_shrunk", "checkpoint_unreadable", "checkpoint_not_stored"} < warnings
    for part, codes in ((trouble, ends), (warns, warnings)):
        rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", part, re.MULTILINE)
        assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} - {"code"} == codes
    refused = said(r'\bcode(?:: str)? ?= ?"(\w+)"', "service/*.py", "service/routes/*.py") | STATUS.keys()
    inner = {"blob_damaged", "blob_missing", "lost_lease", "refused", "no_space"}
    shown = set(re.findall(r"^\| \d{3} \| `(\w+)` \|", (ROOT / "docs" / "rest.md").read_text(), re.MULTILINE))
    assert refused - inner - shown == set()
    assert len(shown) > 40


def test_every_decision_is_in_their_list() -> None:
    folder = ROOT / "docs" / "decisions"
    shown = re.findall(
        r"^(\d+)\. \[(.*)\]\(([\w-]+\.md)\)$", (folder / "README.md").read_text(), re.MULTILINE
    )
    decisions = sorted(folder.glob("0*.md"))
    assert [name for _, _, name in shown] == [path.name for path in decisions]
    for number, title, name in shown:
        assert name.startswith(f"{int(number):04}-")
        assert (folder / name).read_text().startswith(f"# {number}. {title}\n")


def test_every_make_target_that_is_mentioned_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE))
    assert named >= {"demo", "test", "up", "install", "chaos"}
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_modules_of_the_architecture_page_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for path in set(re.findall(r"`((?:nidim|service|worker|tests)/[\w/.]+\.py)", text)):
        assert (ROOT / path).is_file(), path
    for dotted in set(re.findall(r"`((?:nidim|service|worker)\.\w+)`", text)):
        plain = ROOT / dotted.replace(".", "/")
        assert plain.is_dir() or plain.with_suffix(".py").is_file(), dotted
