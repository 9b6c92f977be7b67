"""Drift over HTTP: what is embedded is watched, an alarm comes and stays, a restart keeps it, processes agree."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.tiny_encoder import SIZE
from nidim.drift import LEAST_IMAGES
from tests.waiting import wait_for

NPY = "application/x-npy"
RATE = 0.5


def some(n: int, *, seed: int, dark: bool = False) -> np.ndarray[Any, Any]:
    """Images of noise; ``dark``: from half of the scale."""
    return np.random.default_rng(seed).integers(0, 128 if dark else 256, (n, SIZE, SIZE), dtype=np.uint8)


SEEN = some(4_000, seed=0)[..., None]


@pytest.fixture(scope="module")
def watching(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("drift")
    with start_server(directory, drift_flush_s=0.1, drift_false_alarms_per_day=RATE) as server:
        yield server


@pytest.fixture
def live(watching: Any, add_encoder: Any, request: pytest.FixtureRequest) -> str:
    """A reference of a calibrated encoder of its own for each test."""
    name = request.node.originalname.replace("_", "-")[:40]
    return f"/v1/encoders/{add_encoder(watching, name, seen=SEEN).id}"


def send(
    client: httpx.Client, where: str, images: np.ndarray[Any, Any], **query: Any
) -> np.ndarray[Any, Any]:
    stream = io.BytesIO()
    np.save(stream, images, allow_pickle=False)
    headers = {"content-type": NPY, "accept": NPY}
    answer = client.post(f"{where}/embed", content=stream.getvalue(), headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def drift(client: httpx.Client, where: str) -> dict[str, Any]:
    answer = client.get(f"{where}/drift")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_before_the_first_image(watching: Any, live: str) -> None:
    found = drift(watching.client, live)
    assert (found["n"], found["alarm"], found["worst"], found["since"]) == (0, False, None, None)
    assert found["evidence"] == {"log_e": 0.0, "p_value": 1.0}
    assert found["detector"] == {"log_ratio": None, "false_alarms_per_day": RATE}
    assert found["tolerance"]["n"] == 4_000
    assert found["tolerance"]["radius"]["location"] > 0
    assert watching.client.get("/v1/encoders/nothing/drift").status_code == 404


def test_healthy_images_raise_no_alarm_and_others_do(watching: Any, live: str) -> None:
    api = watching.client
    for seed in range(1, 5):
        send(api, live, some(500, seed=seed))
        found = drift(api, live)
    assert (found["n"], found["alarm"]) == (2_000, False)
    assert found["evidence"]["p_value"] > 0.05
    for seed in range(5, 9):
        send(api, live, some(500, seed=seed, dark=True))
        found = drift(api, live)
    assert (found["n"], found["alarm"]) == (4_000, True)
    assert found["detector"]["log_ratio"] > 0
    assert found["evidence"]["p_value"] < 1e-3
    assert found["statistic"][found["worst"]["statistic"]]["beyond"] > 0
    assert found["since"] <= found["alarm_at"] <= found["updated_at"]
    send(api, live, some(500, seed=9))
    assert drift(api, live)["alarm_at"] == found["alarm_at"]


def test_reset_forgets_everything(watching: Any, live: str) -> None:
    api = watching.client
    send(api, live, some(300, seed=1, dark=True))
    assert drift(api, live)["n"] == 300
    answer = api.post(f"{live}/drift/reset")
    assert (answer.status_code, answer.json()["n"], answer.json()["alarm"]) == (200, 0, False)
    send(api, live, some(20, seed=2))
    assert drift(api, live)["n"] == 20


def test_what_is_watched_is_every_clean_row_that_was_served(
    watching: Any, live: str, image_file: Any, pictures: Any
) -> None:
    """By both endpoints; not rows that were scored, not bad images; noise changes nothing."""
    api, scored = watching.client, f"{live}/prior/score"
    plain = send(api, live, pictures)
    clean = drift(api, live)
    api.post(f"{live}/drift/reset")
    noisy = send(api, live, pictures, noisy=True, seed=1)
    assert np.abs(noisy - plain).max() > 0.1
    assert drift(api, live)["statistic"] == clean["statistic"]
    assert api.post(scored, json={"embeddings": [[0.0, 0.0]]}).status_code == 200
    assert api.post(scored, files=[("images", image_file(pictures[0]))]).status_code == 200
    assert drift(api, live)["n"] == 40
    files = [("images", image_file(pictures[0])), ("images", b"no image")]
    assert api.post(f"{live}/embed", files=files, params={"on_error": "null"}).status_code == 200
    assert drift(api, live)["n"] == 41
    uri = "data:image/png;base64," + base64.b64encode(image_file(pictures[1])).decode()
    body = {"model": live.rsplit("/", 1)[1], "input": [uri, uri]}
    assert api.post("/v1/embeddings", json=body).status_code == 200
    assert drift(api, live)["n"] == 43


def test_images_that_are_not_live_are_not_watched(watching: Any, live: str) -> None:
    send(watching.client, live, some(10, seed=1), watched="false")
    send(watching.client, live, some(3, seed=2), watched="true")
    assert drift(watching.client, live)["n"] == 3


def test_what_it_costs_has_a_bound(watching: Any, live: str) -> None:
    send(watching.client, live, some(3_000, seed=1))
    assert 0 < drift(watching.client, live)["n"] <= 1_024


def test_metrics_say_the_same(watching: Any, live: str) -> None:
    api = watching.client
    for seed in range(4):
        send(api, live, some(500, seed=seed, dark=True))
        found = drift(api, live)
    assert found["alarm"]
    text = api.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    of = f'{{encoder="{found["encoder"]}"}}'
    assert float(lines[f"nidim_drift_observations{of}"]) == found["n"]
    assert float(lines[f"nidim_drift_alarm{of}"]) == 1
    days = float(lines[f"nidim_drift_detector_days{of}"])
    assert np.log(days * RATE) == pytest.approx(min(found["detector"]["log_ratio"], np.log(1e9 * RATE)))


def test_an_encoder_without_a_calibration_has_figures_and_no_alarm(
    watching: Any, add_encoder: Any, live: str
) -> None:
    where = f"/v1/encoders/{add_encoder(watching, 'old-one').id}"
    for seed in range(4):
        send(watching.client, where, some(500, seed=seed, dark=True))
        found = drift(watching.client, where)
    assert (found["n"], found["alarm"], found["tolerance"]) == (2_000, None, None)
    assert found["evidence"]["log_e"] > 10
    assert "was not measured" in found["note"]
    assert f"{LEAST_IMAGES} held-out images or more" in found["note"]
    rows = {"embeddings": [[0.0, 0.0], [9.0, 0.0]]}
    assert watching.client.post(f"{where}/prior/score", json=rows).json()["p_conformal"] is None
    ranks = watching.client.post(f"{live}/prior/score", json=rows).json()["p_conformal"]
    assert ranks == [pytest.approx(1, abs=0.01), pytest.approx(1 / 4_001)]
    assert watching.client.post(f"{live}/prior/score", json={"embeddings": []}).json()["p_conformal"] == []


def test_deleting_the_encoder_deletes_it(watching: Any, live: str) -> None:
    api = watching.client
    send(api, live, some(10, seed=1))
    assert drift(api, live)["n"] == 10
    send(api, live, some(10, seed=2))  # pending when its encoder goes
    assert api.delete(live).status_code == 204
    assert api.get(f"{live}/drift").status_code == 404
    assert wait_for(lambda: "deleting-the-encoder" not in api.get("/metrics").text)
    assert "Traceback" not in watching.log.read_text()


@pytest.mark.slow
def test_processes_add_up_and_a_stopped_one_leaves_what_it_had(
    start_server: Any, watching: Any, live: str
) -> None:
    """Two servers on one store."""
    options = {"drift_flush_s": 60, "drift_false_alarms_per_day": RATE}
    with start_server(watching.settings.data_dir, **options) as other:
        for seed in range(3):
            for server in (watching, other):
                send(server.client, live, some(200, seed=seed))
                drift(server.client, live)
        both = [drift(server.client, live) for server in (watching, other)]
        assert both[0] == both[1]
        assert (both[0]["n"], both[0]["alarm"]) == (1_200, False)
        send(other.client, live, some(1_000, seed=20, dark=True))
        assert drift(watching.client, live)["n"] == 1_200  # in the memory of the other
    found = drift(watching.client, live)
    assert (found["n"], found["alarm"], found["since"]) == (2_200, True, both[0]["since"])
