"""Container files, checked by everything that can check them without an engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import ValidationError

from service import launcher
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_follows_its_specification() -> None:
    command = [SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(
        [SCRIPTS / "hadolint", "docker/Dockerfile"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_everything_that_is_copied_exists_and_is_sent_to_the_builder() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in sent


def test_the_services_and_their_targets(compose: dict) -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    targets = set(re.findall(r" AS (\w+)$", text, re.MULTILINE))
    assert {"api", "worker", "worker-gpu", "redis", "postgres", "storage"} <= set(compose["services"])
    for service in compose["services"].values():
        if "build" in service:
            assert service["build"]["target"] in targets
        assert set(service.get("depends_on", {})) <= set(compose["services"])


def test_every_setting_exists(compose: dict) -> None:
    known = {f"NIDIM_{name.upper()}" for name in Settings.model_fields}
    for name in ("api", "worker", "worker-gpu"):
        given = {key for key in compose["services"][name]["environment"] if key.startswith("NIDIM_")}
        assert given <= known


def test_no_secret_is_written_down_and_every_one_has_an_example(compose: dict) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    example = (ROOT / "docker" / "example.env").read_text()
    assert needed
    for name in needed:
        assert re.search(rf"^{name}=", example, re.MULTILINE), name
    assert not re.search(r"PASSWORD: [^$\s]", text)


def test_the_passwords_of_the_example_fit_into_the_urls(compose: dict) -> None:
    """And what must not be in one is refused by name, instead of failing at the first use."""
    example = (ROOT / "docker" / "example.env").read_text()
    values = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    environment = compose["services"]["api"]["environment"]

    def settings(password: str) -> Settings:
        filled = {
            name.removeprefix("NIDIM_").lower(): re.sub(r"\$\{[^}]*\}", password, environment[name])
            for name in ("NIDIM_DATABASE_URL", "NIDIM_BROKER_URL")
        }
        return Settings(**filled)

    for password in (values["POSTGRES_PASSWORD"], values["REDIS_PASSWORD"], "0a1b" * 16):
        assert urlsplit(settings(password).broker_url).hostname == "redis"
    for password, named in (("a/b+c=", "broker_url"), ("a@b", "database_url")):
        with pytest.raises(ValidationError, match=named):
            settings(password)


def test_only_loopback_is_published(compose: dict) -> None:
    for service in compose["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_nothing_is_killed_before_its_time(compose: dict) -> None:
    settings = Settings()
    for name, needed in (
        ("api", settings.shutdown_grace_s + launcher.API_MARGIN_S),
        ("worker", settings.cancel_grace_s + launcher.WORKER_MARGIN_S),
        ("worker-gpu", settings.cancel_grace_s + launcher.WORKER_MARGIN_S),
    ):
        assert float(compose["services"][name]["stop_grace_period"].removesuffix("s")) > needed, name


def test_urls_name_services_of_the_file(compose: dict) -> None:
    environment = compose["services"]["api"]["environment"]
    for key in ("NIDIM_DATABASE_URL", "NIDIM_BROKER_URL", "AWS_ENDPOINT_URL"):
        plain = re.sub(r"\$\{[^}]*\}", "x", environment[key])
        assert urlsplit(plain).hostname in compose["services"]
