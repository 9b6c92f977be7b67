"""Settings that cannot work end a process at its start, with the name of the setting and without its value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.entry import BadSettings, read, unknown
from service.settings import Settings
from service.settings_command import settings_command

BAD = {
    "NIDIM_DATABASE_URL": (
        "hunter2",
        "mysql://me:hunter2@db/nidim",
        "postgresql+psycopg2://me:hunter2@db/nidim",
        "postgresql://me:unter@hunter2@db/nidim",
    ),
    "NIDIM_BROKER_URL": (
        "hunter2:6379",
        "amqp://me:hunter2@broker",
        "sentinel://:hunter2@one:26379",
        "sentinel://:hunter2@one;redis://two?master=bell",
        "sentinel://:hunter/2@one?master=bell",
        "redis://:hunter2/x@redis",
        "rediss://:hunter2#@redis:6379/0",
    ),
    "NIDIM_OTLP_ENDPOINT": ("hunter2:4317", "grpc://hunter2:4317"),
    "NIDIM_ALLOWED_HOSTS": ("hunter2", '["Hunter2.example"]', '["hunter2:8000"]'),
    "NIDIM_ALLOWED_ORIGINS": ("hunter2", '["hunter2"]', '["https://hunter2/"]'),
    "NIDIM_LEASE_S": ("hunter2", "nan", "inf", "9.9"),
    "NIDIM_HEARTBEAT_S": ("0", "15.1"),
    "NIDIM_RETAIN_JOBS_DAYS": ("inf", "1e9"),
    "NIDIM_IDEMPOTENCY_HOURS": ("1e9",),
    "NIDIM_BODY_TIMEOUT_S": ("inf",),
}
GOOD = {
    "NIDIM_DATABASE_URL": (
        "",
        "sqlite:////data/a@b@c.db",
        "postgres://u:a/b%40@db/n",
        "postgresql+psycopg:///n?host=/run",
    ),
    "NIDIM_BROKER_URL": (
        "",
        "redis://:p@redis:6379/0",
        "rediss://redis?ssl_cert_reqs=none",
        "redis://:a@b@[::1]/0",
        "redis+socket:///tmp/redis.sock",
        "sentinel://one?master=bell",
        "sentinel://:p%40@one:26379;sentinel://two:26379?master=bell&sentinel_password=s%2F",
    ),
    "NIDIM_OTLP_ENDPOINT": ("", "http://collector:4318"),
    "NIDIM_ALLOWED_HOSTS": ("[]", '["nidim.example", "[fd00::1]"]'),
    "NIDIM_ALLOWED_ORIGINS": ('["https://app.example:8443", "*"]',),
    "NIDIM_LEASE_S": ("10",),
    "NIDIM_RETAIN_JOBS_DAYS": ("36500",),
}


def each(cases: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(name, value) for name, values in cases.items() for value in values]


@pytest.mark.parametrize(("name", "value"), each(BAD))
def test_what_cannot_work_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refused:
        read()
    named = "heartbeat_s" if value == "9.9" else name.removeprefix("NIDIM_").lower()
    assert str(refused.value).startswith(f"{named}: ")
    assert "unter2" not in str(refused.value)


@pytest.mark.parametrize(("name", "value"), each(GOOD))
def test_what_can_is_taken(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert read() == Settings()


def test_a_name_that_is_no_setting_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*(f"NIDIM_{name.upper()}" for name in Settings.model_fields), "NIDIM_URL", "NIDIM_KEY", "PATH"]
    assert unknown([*names, "nidim_lease_s"]) == []
    assert unknown([*names, "NIDIM_LEASES"]) == ["NIDIM_LEASES"]
    monkeypatch.setenv("NIDIM_LEASES", "60")
    assert "NIDIM_LEASES is no setting" in CliRunner().invoke(settings_command, []).stderr


@pytest.mark.parametrize(("module", "part"), [("worker", "worker"), ("service.serve", "api")])
def test_a_process_says_so_in_a_line_of_its_log(module: str, part: str, tmp_path: Path) -> None:
    """The one that does not start, and of a misspelt name the one that does (until it lacks a broker or a key)."""
    env = {**os.environ, "NIDIM_DATA_DIR": str(tmp_path), "NIDIM_LOG_FORMAT": "json", "NIDIM_HOST": "0.0.0.0"}
    wrong = {**env, "NIDIM_LEASE_S": "x"}
    done = subprocess.run([sys.executable, "-m", module], env=wrong, capture_output=True, text=True)
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, line["level"], line["part"]) == (1, "critical", part)
    assert "lease_s" in line["message"]
    misspelt = {**env, "NIDIM_LEASES": "60"}
    done = subprocess.run([sys.executable, "-m", module], env=misspelt, capture_output=True, text=True)
    first = json.loads(done.stderr.splitlines()[0])
    assert first["level"] == "warning"
    assert "NIDIM_LEASES is no setting" in first["message"]
