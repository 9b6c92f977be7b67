"""The Kubernetes manifest, checked by everything that can check it without a cluster: names, ports, settings, times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import health, launcher
from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker" / "kubernetes.yaml").read_text()
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(TEXT))
VERSIONS = {
    "ConfigMap": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}
PULLED_BY_SDK = {
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "HOME",
    "MPLCONFIGDIR",
    "POD",
}


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in DOCUMENTS if found["kind"] == kind}


DEPLOYMENTS = of_kind("Deployment")


def pod(name: str) -> dict[str, Any]:
    return DEPLOYMENTS[name]["spec"]["template"]["spec"]


def containers(name: str) -> list[dict[str, Any]]:
    return [*pod(name).get("initContainers", []), *pod(name)["containers"]]


def created_secrets() -> dict[str, set[str]]:
    """Name and keys of the secrets that the commands at the top create."""
    commands = re.sub(r"\\\n#", " ", TEXT.partition("---")[0])
    found = {}
    for line in commands.splitlines():
        if match := re.search(r"create secret generic (\S+)", line):
            found[match[1]] = set(re.findall(r"--from-literal=(\w+)=", line))
    return found


def environment(container: dict[str, Any]) -> Iterator[str]:
    for source in container["envFrom"]:
        if "configMapRef" in source:
            yield from of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"]
        else:
            yield from created_secrets()[source["secretRef"]["name"]]
    yield from (item["name"] for item in container.get("env", []))


def test_every_object_is_of_a_known_kind_with_a_name_of_its_own() -> None:
    seen = set()
    for found in DOCUMENTS:
        assert found["apiVersion"] == VERSIONS[found["kind"]]
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", found["metadata"]["name"])
        assert found["metadata"]["namespace"] == "nidim"
        key = (found["kind"], found["metadata"]["name"])
        assert key not in seen
        seen.add(key)
    assert set(DEPLOYMENTS) == {"nidim-api", "nidim-worker", "nidim-worker-gpu"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_environment_variable_is_a_setting(name: str) -> None:
    known = {f"NIDIM_{field.upper()}" for field in Settings.model_fields}
    for container in containers(name):
        given = set(environment(container))
        assert given <= known | PULLED_BY_SDK, given - known - PULLED_BY_SDK
        assert {"NIDIM_DATABASE_URL", "NIDIM_BROKER_URL", "NIDIM_BLOB_URL", "NIDIM_KEY_PEPPER"} <= given
        assert ("NIDIM_BOOTSTRAP_KEY" in given) == (name == "nidim-api")


def test_the_settings_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in of_kind("ConfigMap")["nidim-settings"]["data"].items():
        assert isinstance(value, str), name
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.log_format, settings.otlp_endpoint) == ("json", "")


def test_no_secret_is_written_down() -> None:
    assert not of_kind("Secret")
    for value in of_kind("ConfigMap")["nidim-settings"]["data"].values():
        assert "@" not in value
    for container in (c for name in DEPLOYMENTS for c in containers(name)):
        assert all("value" not in item for item in container.get("env", []))


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_nobody_is_root_and_nothing_but_its_volumes_is_writable(name: str) -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    user = re.search(r"^USER (\d+)$", dockerfile, re.MULTILINE)
    assert user is not None
    security = pod(name)["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, int(user[1]))
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["enableServiceLinks"] is False
    volumes = {volume["name"] for volume in pod(name)["volumes"]}
    for container in containers(name):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) <= volumes
        assert {"/data", "/tmp"} <= mounts.keys()
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()


def test_the_probes_ask_for_what_exists() -> None:
    paths = {getattr(route, "path", "") for route in create_app(Settings()).routes}
    (api,) = pod("nidim-api")["containers"]
    ports = {port["name"]: port["containerPort"] for port in api["ports"]}
    assert ports == {"http": 8000}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = api[probe]["httpGet"]
        assert asked["path"] in paths
        assert asked["port"] in ports
    assert api["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert api["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert api["readinessProbe"]["timeoutSeconds"] > 2 * health.STORE_S
    for service in of_kind("Service").values():
        (port,) = service["spec"]["ports"]
        assert port["targetPort"] in ports


def test_selectors_find_their_pods() -> None:
    labels = {name: found["spec"]["template"]["metadata"]["labels"] for name, found in DEPLOYMENTS.items()}
    for name, found in DEPLOYMENTS.items():
        assert found["spec"]["selector"]["matchLabels"] == labels[name]
    for service in of_kind("Service").values():
        assert service["spec"]["selector"] == labels["nidim-api"]
    budgets = of_kind("PodDisruptionBudget")
    assert set(budgets) == set(DEPLOYMENTS)
    for name, budget in budgets.items():
        assert budget["spec"]["selector"]["matchLabels"] == labels[name]
    (policy,) = of_kind("NetworkPolicy").values()
    (selected,) = policy["spec"]["podSelector"]["matchExpressions"]
    assert set(selected["values"]) == {labels[name]["part"] for name in DEPLOYMENTS if "worker" in name}


def test_nothing_is_killed_before_its_time() -> None:
    settings = of_kind("ConfigMap")["nidim-settings"]["data"]
    needed = float(settings["NIDIM_CANCEL_GRACE_S"]) + launcher.WORKER_MARGIN_S
    for name in ("nidim-worker", "nidim-worker-gpu"):
        assert pod(name)["terminationGracePeriodSeconds"] > needed
    (api,) = pod("nidim-api")["containers"]
    pause = int(api["lifecycle"]["preStop"]["exec"]["command"][1])
    needed = pause + float(settings["NIDIM_SHUTDOWN_GRACE_S"]) + launcher.API_MARGIN_S
    assert pod("nidim-api")["terminationGracePeriodSeconds"] > needed


def bytes_of(quantity: str) -> int:
    return int(quantity.removesuffix("Gi")) << 30


def test_what_the_settings_allow_fits_the_volumes_and_the_memory() -> None:
    settings = {
        name: int(value)
        for name, value in of_kind("ConfigMap")["nidim-settings"]["data"].items()
        if name.endswith("_BYTES")
    }
    upload = settings["NIDIM_MAX_UPLOAD_BYTES"]
    data = {
        name: bytes_of(next(v["emptyDir"]["sizeLimit"] for v in pod(name)["volumes"] if v["name"] == "data"))
        for name in DEPLOYMENTS
    }
    assert data["nidim-api"] >= 2 * Settings().max_ingestions * upload, "as many wait as are at work"
    for name in ("nidim-worker", "nidim-worker-gpu"):
        assert data[name] >= settings["NIDIM_CACHE_MAX_BYTES"] + 4 * upload, "a set, its arrays, checkpoints"
    (api,) = pod("nidim-api")["containers"]
    serving = settings["NIDIM_SERVE_CACHE_BYTES"] + settings["NIDIM_SERVE_INFLIGHT_BYTES"]
    assert bytes_of(api["resources"]["limits"]["memory"]) >= 2 * serving, "decoded images and torch itself"


def test_images_and_commands_are_those_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    targets = set(re.findall(r" AS (\w+)$", dockerfile, re.MULTILINE))
    for container in (c for name in DEPLOYMENTS for c in containers(name)):
        image = re.fullmatch(r"registry\.example\.com/nidim-(\w+):[\d.]+", container["image"])
        assert image is not None
        assert image[1] in targets
        assert container.get("args", ["python", "-P"])[:2] == ["python", "-P"]
        assert "command" not in container, "the image has no entry point: arguments are the command"
    assert "ENTRYPOINT" not in dockerfile
    assert pod("nidim-worker-gpu")["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_migration_is_a_program_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (migrate,) = pod("nidim-api")["initContainers"]
    monkeypatch.setenv("NIDIM_DATA_DIR", str(tmp_path))
    exec(compile(migrate["args"][3], "migrate", "exec"), {})
    assert (tmp_path / "nidim.db").exists()
