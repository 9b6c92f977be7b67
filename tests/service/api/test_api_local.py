"""Without keys the server is open to programs of its own machine, and to no web page from elsewhere.

Raw requests as browsers send them: forms, fetches, a name that was rebound to 127.0.0.1.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

JOB = b'{"spec": {"dataset": "digits"}, "encoder": "forged"}'
MULTIPART = (
    b"--x\r\nContent-Disposition: form-data; name=name\r\n\r\nforged\r\n"
    b'--x\r\nContent-Disposition: form-data; name=file; filename="x.npz"\r\n\r\nabc\r\n--x--\r\n'
)
ELSEWHERE = (
    "http://attacker.example",
    "https://attacker.example",
    "http://attacker.example:{port}",
    "http://127.0.0.1.attacker.example:{port}",
    "http://localhost:1",
    "http://localhost",
    "http://127.0.0.1",
    "http://[::1]:{port}",
    "null",
    "file://",
    "",
    "chrome-extension://abcdef",
)
OURS = (
    "127.0.0.1:{port}",
    "localhost:{port}",
    "[::1]:{port}",
    "127.0.0.1",
    "localhost",
    "[::1]",
    "LOCALHOST:{port}",
)
OURS_TOO = ("[::ffff:127.0.0.1]:{port}", "127.0.0.2:{port}")
REBOUND = (
    "attacker.example",
    "attacker.example:{port}",
    "localhost.attacker.example",
    "127.0.0.1.attacker.example:{port}",
    "attacker.example:127.0.0.1",
    "attacker.example@127.0.0.1",
    "127.0.0.1@attacker.example",
    "127.0.0.1,attacker.example",
    "attacker.example#127.0.0.1",
    "10.0.0.1:{port}",
    "192.168.1.10",
    "0.0.0.0:{port}",
    "[::]:{port}",
    "[::2]:{port}",
    "[fe80::1]",
    "[::1",
    "[",
    "localhost.",
    "2130706433",
    "0x7f.1",
    "",
)


class Raw:
    """One connection a request, headers exactly as given."""

    def __init__(self, url: str) -> None:
        self.port = urlsplit(url).port or 0

    def __call__(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        given = {"Host": "127.0.0.1:{port}", "Content-Length": str(len(body)), **(headers or {})}
        for name, value in given.items():
            connection.putheader(name, value.format(port=self.port))
        connection.endheaders(body)
        answer = connection.getresponse()
        done = answer.status, answer.read(), answer.headers
        connection.close()
        return done


@pytest.fixture(scope="module")
def raw(server: Any) -> Raw:
    return Raw(server.url)


@pytest.fixture
def untouched(server: Any) -> Any:
    """Nothing was changed in the test."""

    def counts() -> tuple[int, ...]:
        kinds = ("jobs", "datasets", "keys", "audit")
        return tuple(
            len(server.client.get(f"/v1/{kind}", params={"limit": 1000}).json()["items"]) for kind in kinds
        )

    before = counts()
    yield
    assert counts() == before


def test_two_hosts_are_one_too_many(server: Any) -> None:
    """Which of them others look at nobody can tell, so neither counts."""
    port = urlsplit(server.url).port or 0
    for hosts in ([f"127.0.0.1:{port}", "attacker.example"], [f"127.0.0.1:{port}"] * 2):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.putrequest("GET", "/v1/jobs", skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (403, "host_not_allowed")
        connection.close()


FORMS = (
    ("POST", "/v1/jobs", JOB, "text/plain"),
    ("POST", "/v1/jobs", JOB, "application/json"),
    ("POST", "/v1/jobs", b"spec=x", "application/x-www-form-urlencoded"),
    ("POST", "/v1/datasets", MULTIPART, "multipart/form-data; boundary=x"),
    ("POST", "/v1/keys", b'{"name": "x", "scopes": ["admin"]}', "text/plain"),
    ("POST", "/v1/jobs/job_x/cancel", b"", "text/plain"),
    ("DELETE", "/v1/datasets/digits", b"", "text/plain"),
)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("method", "path", "body", "kind"), FORMS)
def test_forms_of_pages_elsewhere_are_refused(
    raw: Raw, method: str, path: str, body: bytes, kind: str
) -> None:
    for origin in ELSEWHERE:
        status, answer, headers = raw(method, path, body, {"Origin": origin, "Content-Type": kind})
        assert status == 403, origin
        assert b"origin_not_allowed" in answer
        assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.usefixtures("untouched")
def test_requests_without_origin_are_told_by_where_they_were_fetched(raw: Raw) -> None:
    for site in ("cross-site", "same-site"):
        for path in ("/v1/jobs", "/v1/audit", "/metrics"):
            status, answer, _ = raw("GET", path, headers={"Sec-Fetch-Site": site})
            assert (status, b"origin_not_allowed" in answer) == (403, True)
    for site in ("same-origin", "none"):
        assert raw("GET", "/v1/jobs", headers={"Sec-Fetch-Site": site})[0] == 200


@pytest.mark.usefixtures("untouched")
def test_a_simple_form_is_refused_even_where_no_origin_is_sent(raw: Raw) -> None:
    """JSON is taken with its own Content-Type only, which no form can send."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert raw("POST", "/v1/jobs", JOB, {"Content-Type": kind})[0] == 415


@pytest.mark.usefixtures("untouched")
def test_no_preflight_is_answered_with_a_permission(raw: Raw) -> None:
    asked = {
        "Origin": "http://attacker.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
        "Access-Control-Request-Private-Network": "true",
    }
    for path in ("/v1/jobs", "/v1/datasets", "/healthz", "/"):
        status, _, headers = raw("OPTIONS", path, headers=asked)
        assert status == 405
        assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.usefixtures("untouched")
def test_a_name_that_was_rebound_to_this_machine_is_refused(raw: Raw) -> None:
    for host in REBOUND:
        for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/metrics")):
            same = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
            for headers in ({"Host": host}, same):
                status, answer, _ = raw(method, path, headers=headers)
                assert status in (400, 403), (host, status)
                assert status == 400 or b"host_not_allowed" in answer, host


def test_this_machine_by_any_of_its_names_is_let_in(raw: Raw) -> None:
    for host in (*OURS, *OURS_TOO):
        for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host}"}):
            assert raw("GET", "/v1/jobs", headers=headers)[0] == 200, headers


def test_operators_may_allow_hosts_and_origins(
    start_server: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIDIM_ALLOWED_HOSTS", '["nidim.example"]')
    monkeypatch.setenv("NIDIM_ALLOWED_ORIGINS", '["https://app.example"]')
    with start_server(tmp_path) as server:
        ask = Raw(server.url)
        assert ask("GET", "/v1/jobs", headers={"Host": "nidim.example"})[0] == 200
        assert ask("GET", "/v1/jobs", headers={"Host": "other.example"})[0] == 403
        status, _, headers = ask("GET", "/v1/jobs", headers={"Origin": "https://app.example"})
        assert (status, headers["access-control-allow-origin"]) == (200, "https://app.example")
        status, _, headers = ask("GET", "/v1/jobs", headers={"Origin": "https://other.example"})
        assert (status, headers["access-control-allow-origin"]) == (403, None)
        assert "access-control-allow-credentials" not in headers
