"""docs/operations.md and what Prometheus and Grafana are given: every name in them exists."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from service.settings import Settings
from service.store import counters
from tests.blocks import session

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def monitoring() -> ModuleType:
    found = importlib.util.spec_from_file_location("monitoring", DOCS / "monitoring.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["metrics.md", "alerts.md", "grafana.json"])
def test_generated_pages_are_current(monitoring: ModuleType, page: str) -> None:
    assert (DOCS / page).read_text() == monitoring.PAGES[page](), "run: python docs/monitoring.py"


@pytest.mark.parametrize("page", ["operations.md", "metrics.md", "alerts.md", "alerts.yml", "grafana.json"])
def test_every_metric_that_is_mentioned_exists(monitoring: ModuleType, page: str) -> None:
    exposed = monitoring.exposed()
    bases = {re.sub(r"_(bucket|sum|count|total|info)$", "", name) for name in exposed}
    named = monitoring.mentioned((DOCS / page).read_text())
    assert named
    assert named <= exposed | bases, named - exposed - bases


def test_expressions_use_exact_names_labels_and_values(monitoring: ModuleType) -> None:
    """A histogram has no series of its own name, a label that is misspelt matches nothing: both fail silently."""
    exposed = {}
    for family in [*monitoring.of_process(), *monitoring.of_system()]:
        for sample in family.samples:
            exposed.setdefault(sample.name, set()).update(sample.labels)
    expressions = [rule["expr"] for rule in monitoring.rules()]
    expressions += [query for _, _, queries in monitoring.PANELS for query, _ in queries]
    assert len(expressions) > 25
    for text in expressions:
        assert text.count("(") == text.count(")")
        for name in monitoring.mentioned(text):
            assert name in exposed, name
        for name, selector in re.findall(r"\b(nidim_\w+)\{([^}]*)\}", text):
            labels = set(re.findall(r"(\w+)\s*[=!]~?\"", selector)) - {"job"}
            assert labels <= exposed[name], (name, labels)
        for name in re.findall(r"rate\((nidim_\w+)|increase\((nidim_\w+)", text):
            assert "".join(name).endswith(("_total", "_bucket", "_sum", "_count")), name


@pytest.mark.parametrize("page", ["operations.md", "alerts.yml"])
def test_values_of_labels_are_among_those_that_are_counted(page: str) -> None:
    text = (DOCS / page).read_text()
    known = {label for labels in counters.FAMILIES.values() for label in labels}
    found = re.findall(
        r"nidim_(?:attempts_ended|jobs_reaped|messages_dropped)_total\{\w+=?[!~]?~?\"([^\"]+)\"", text
    )
    values = {value for alternatives in found for value in alternatives.split("|")}
    assert values
    assert values <= known


def test_every_rule_says_what_to_do(monitoring: ModuleType) -> None:
    names = [rule["alert"] for rule in monitoring.rules()]
    assert len(names) == len(set(names)) >= 12
    for rule in monitoring.rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "action"}


def test_the_dashboard_has_a_panel_for_every_query(monitoring: ModuleType) -> None:
    board = json.loads((DOCS / "grafana.json").read_text())
    assert len(board["panels"]) == len(monitoring.PANELS)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(places) == len(board["panels"])


@pytest.mark.parametrize("page", ["operations.md", "alerts.yml"])
def test_every_setting_that_is_mentioned_exists(page: str) -> None:
    known = {f"NIDIM_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"\bNIDIM_[A-Z_]+\b", (DOCS / page).read_text()))
    assert named
    assert named <= known, named - known


def test_every_code_that_is_mentioned_is_one_of_ours() -> None:
    text = (DOCS / "operations.md").read_text()
    sources = [*(ROOT / "service").rglob("*.py"), *(ROOT / "worker").glob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    ours = {name for name in named if not name.startswith(("nidim_", "process_"))}
    assert {"store_unavailable", "encoder_damaged", "out_of_memory", "storage_full"} <= ours
    for name in ours:
        assert name in code, name


def test_the_yaml_in_the_page_is_yaml() -> None:
    config = yaml.safe_load(session("docs/operations.md", "scrape-config"))
    assert set(config) == {"scrape_configs", "rule_files"}
    for name in config["rule_files"]:
        assert (DOCS / name).is_file()


def test_every_pod_is_scraped_by_itself() -> None:
    """Behind the Service of the clients each scrape would reach another pod, and every rate() would be nonsense."""
    (job,) = yaml.safe_load(session("docs/operations.md", "scrape-config"))["scrape_configs"]
    (asked,) = job["dns_sd_configs"]
    name, namespace, kind = asked["names"][0].split(".")[:3]
    manifest = list(yaml.safe_load_all((ROOT / "docker" / "kubernetes.yaml").read_text()))
    (found,) = (one for one in manifest if one["kind"] == "Service" and one["metadata"]["name"] == name)
    assert (found["metadata"]["namespace"], kind, found["spec"]["clusterIP"]) == (namespace, "svc", "None")
    assert [port["port"] for port in found["spec"]["ports"]] == [asked["port"]] == [8000]
