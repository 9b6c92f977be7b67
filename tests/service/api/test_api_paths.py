"""No path of a URL leads out of what is there: real requests, sent byte for byte."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

import pytest

PIECES = (
    *(
        "..",
        ".",
        "...",
        "..;",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fpepper",
        "..%5c..%5cpepper",
    ),
    *(
        "%252e%252e%252fpepper",
        "..%c0%af..%c0%afpepper",
        "%ef%bc%8e%ef%bc%8e",
        "%e2%80%a5",
        "%00",
        "model%00.json",
    ),
    *(
        "gauss%0a",
        "gauss%0d%0aX:%20y",
        "CON",
        "nul",
        "C:",
        "C:%5c",
        "~",
        "~root",
        "file:%2f%2f%2fetc%2fpasswd",
    ),
    *(
        "http:%2f%2fattacker.example",
        "gauss%2f..",
        "GAUSS",
        "%ff%fe",
        "%",
        "%zz",
        "-rf",
        "x" * 5000,
        "%2f",
        "%20",
    ),
)
PLACES = (
    *(
        "/v1/encoders/{}",
        "/v1/encoders/{}/report",
        "/v1/encoders/{}/files",
        "/v1/encoders/{}/files/config.json",
    ),
    *("/v1/encoders/gauss/files/{}", "/v1/encoders/gauss/aliases/{}", "/v1/encoders/{}/aliases/prod/history"),
    *("/v1/datasets/{}", "/v1/jobs/{}", "/v1/jobs/{}/events", "/static/{}", "/static/../{}", "/{}"),
)
DELETES = ("/v1/datasets/{}", "/v1/encoders/{}", "/v1/keys/{}", "/v1/encoders/gauss/aliases/{}")


def ask(url: str, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port or 0, timeout=60)
    connection.putrequest(method, path, skip_accept_encoding=True)
    connection.putheader("Accept", "application/json")
    connection.endheaders()
    answer = connection.getresponse()
    done = answer.status, answer.read()
    connection.close()
    return done


@pytest.mark.usefixtures("encoder")
def test_no_path_leads_out(server: Any) -> None:
    pepper = (server.settings.data_dir / "pepper").read_bytes()
    for method, places in (("GET", PLACES), ("DELETE", DELETES)):
        for place in places:
            for piece in PIECES:
                path = place.format(piece)
                status, body = ask(server.url, method, path)

                assert 400 <= status < 500, (path, status, body[:200])
                assert pepper not in body
                assert b"root:" not in body
    assert ask(server.url, "GET", "/v1/encoders/gauss/files/config.json")[0] == 200
