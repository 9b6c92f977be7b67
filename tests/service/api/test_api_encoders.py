"""Encoders over HTTP: reading, files, reports, aliases, deletion."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import httpx
import pytest

URL = "/v1/encoders/gauss"
pytestmark = pytest.mark.usefixtures("encoder")


def test_an_encoder_is_shown_as_the_contract_says(api: httpx.Client, encoder: Any) -> None:
    shown = api.get(URL).json()
    wanted = {
        *("id", "name", "version", "aliases", "dim", "prior", "spec", "resolved", "digest", "size_bytes"),
        *("job_id", "report", "created_at"),
    }
    assert wanted <= shown.keys()
    assert (shown["id"], shown["name"], shown["version"], shown["dim"]) == (encoder.id, "gauss", 1, 2)
    assert shown["report"] == {"mi_nats": 1.5, "hz_p": 0.4}
    assert shown["prior"]["kind"] == "gaussian"
    for ref in (encoder.id, "gauss@1", "gauss%401"):
        assert api.get(f"/v1/encoders/{ref}").json() == shown
    listed = api.get("/v1/encoders", params={"name": "gauss"}).json()
    assert [item["id"] for item in listed["items"]] == [encoder.id]
    assert listed["next_cursor"] is None


def test_the_list_takes_names_only(api: httpx.Client, is_problem: Any) -> None:
    for name in ("a b", "\0", "x" * 64, "a\n"):
        is_problem(api.get("/v1/encoders", params={"name": name}), 422, "invalid_value")


@pytest.mark.parametrize(
    "ref",
    [
        *("nothing", "gauss@9", "gauss@0", "gauss@01", "gauss:x", "gauss@", ":", "%00", "%2e%2e", "CON"),
        *("%252e%252e", "gauss%0a", "%EF%BC%8E%EF%BC%8E", "enc_00000000000000000000000000", "x" * 200),
        *("..%5c", "job_x"),
    ],
)
def test_what_is_not_there_is_404(api: httpx.Client, ref: str, is_problem: Any) -> None:
    for tail in ("", "/files", "/files/config.json", "/report"):
        is_problem(api.get(f"/v1/encoders/{ref}{tail}"), 404, "not_found")


def test_reports(api: httpx.Client, is_problem: Any) -> None:
    assert api.get(f"{URL}/report").json()["clean"] == {"n": 359}
    page = api.get(f"{URL}/report", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert page.text.startswith("<!doctype html>")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    is_problem(api.get(f"{URL}/report", headers={"accept": "image/png"}), 406, "not_acceptable")


def test_files_carry_digests_and_are_what_was_stored(api: httpx.Client, encoder: Any) -> None:
    items = api.get(f"{URL}/files").json()["items"]
    assert {item["name"] for item in items} == set(encoder.files)
    assert {"model.safetensors", "config.json", "report.json", "README.md"} <= set(encoder.files)
    for item in items:
        answer = api.get(f"{URL}/files/{item['name']}")
        digest = hashlib.sha256(answer.content)
        assert item["digest"] == f"sha256:{digest.hexdigest()}"
        assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
        assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        assert len(answer.content) == item["size"] == int(answer.headers["content-length"])


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=10-", slice(10, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=5-999999999", slice(5, None)),
    ],
)
def test_ranges(api: httpx.Client, header: str, part: slice) -> None:
    whole = api.get(f"{URL}/files/config.json")
    answer = api.get(f"{URL}/files/config.json", headers={"range": header})
    assert answer.status_code == 206
    assert answer.content == whole.content[part]
    assert answer.headers["repr-digest"] == whole.headers["repr-digest"]
    start = len(whole.content[: part.start])
    assert (
        answer.headers["content-range"]
        == f"bytes {start}-{start + len(answer.content) - 1}/{len(whole.content)}"
    )


def test_conditions_of_files(api: httpx.Client, is_problem: Any) -> None:
    url = f"{URL}/files/config.json"
    whole = api.get(url)
    tag = whole.headers["etag"]
    for known in (tag, f'"x", {tag}', "*", f"W/{tag}"):
        assert api.get(url, headers={"if-none-match": known}).status_code == 304
    assert api.get(url, headers={"if-none-match": '"x"'}).status_code == 200
    for same in (tag, f'"x", {tag}', "*"):
        assert api.get(url, headers={"if-match": same, "range": "bytes=0-1"}).status_code == 206
    for other in ('"x"', f"W/{tag}", ""):
        is_problem(
            api.get(url, headers={"if-match": other, "range": "bytes=0-1"}), 412, "precondition_failed"
        )
    assert api.get(url, headers={"range": "bytes=0-1", "if-range": tag}).status_code == 206
    assert api.get(url, headers={"range": "bytes=0-1", "if-range": '"x"'}).status_code == 200
    assert api.get(url, headers={"range": "bytes=0-1,4-5"}).content == whole.content
    assert api.get(url, headers={"range": "lines=1-2"}).status_code == 200
    beyond = api.get(url, headers={"range": "bytes=999999999-"})
    is_problem(beyond, 416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    head = api.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert api.head(url, headers={"range": "bytes=0-9"}).status_code == 200
    for name in ("manifest.json", "..%2f..%2fnidim.db", "%2e%2e", "x" * 200):
        is_problem(api.get(f"{URL}/files/{name}"), 404, "not_found")


def test_aliases_move_by_compare_and_swap(
    server: Any, api: httpx.Client, add_encoder: Any, is_problem: Any, npy: Any, pictures: Any
) -> None:
    for _ in range(2):
        add_encoder(server, "moving")
    url = "/v1/encoders/moving/aliases/best"

    def embedded_by() -> str:
        kind = {"content-type": "application/x-npy"}
        answer = api.post("/v1/encoders/moving:best/embed", content=npy(pictures[:1]), headers=kind)
        return answer.json()["encoder"]

    first = api.put(url, json={"version": 1})
    assert first.status_code == 200
    assert (first.json()["alias"], first.json()["version"]) == ("best", 1)
    assert first.json()["etag"] == first.headers["etag"]
    assert embedded_by() == "moving@1"
    second = api.put(url, json={"version": 2}, headers={"If-Match": first.headers["etag"]})
    assert second.json()["version"] == 2
    assert embedded_by() == "moving@2"
    stale = api.put(url, json={"version": 1}, headers={"If-Match": first.headers["etag"]})
    is_problem(stale, 412, "precondition_failed")
    assert api.get(url).headers["etag"] == second.headers["etag"]
    known = api.get(url, headers={"If-None-Match": second.headers["etag"]})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", second.headers["etag"])
    assert api.get(url, headers={"If-None-Match": first.headers["etag"]}).json()["version"] == 2
    assert api.get("/v1/encoders/moving:best").json()["aliases"] == ["best"]
    assert api.get("/v1/encoders/moving%3Abest").json()["version"] == 2
    is_problem(api.delete("/v1/encoders/moving@2"), 409, "encoder_aliased")
    is_problem(api.delete(url, headers={"If-Match": first.headers["etag"]}), 412, "precondition_failed")
    assert api.delete(url, headers={"If-Match": second.headers["etag"]}).status_code == 204
    is_problem(api.get("/v1/encoders/moving:best"), 404, "not_found")
    is_problem(api.post("/v1/encoders/moving:best/embed", content=b"x"), 404, "not_found")
    is_problem(api.delete(url), 404, "not_found")
    moves = api.get(f"{url}/history").json()["items"]
    assert [move["version"] for move in moves] == [None, 2, 1]
    first = api.get(f"{url}/history", params={"limit": 2}).json()
    assert first["items"] == moves[:2]
    rest = api.get(f"{url}/history", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert (rest["items"], rest["next_cursor"]) == (moves[2:], None)
    assert api.get(f"{url}/history", params={"limit": 3}).json() == {"items": moves, "next_cursor": None}
    is_problem(api.get(f"{url}/history", params={"cursor": "x"}), 422, "bad_cursor")


def test_aliases_are_created_once_and_rolled_back(
    server: Any, api: httpx.Client, add_encoder: Any, is_problem: Any
) -> None:
    for _ in range(2):
        add_encoder(server, "swinging")
    url = "/v1/encoders/swinging/aliases/live"
    for nothing in (url, "/v1/encoders/swinging/aliases/%C2%84", "/v1/encoders/swinging/aliases/12"):
        for headers in ({}, {"If-Match": '"1"'}):
            is_problem(api.post(f"{nothing}/rollback", headers=headers), 404, "not_found")
    first = api.put(url, json={"version": 1}, headers={"If-None-Match": "*"})
    assert first.status_code == 200
    taken = api.put(url, json={"version": 2}, headers={"If-None-Match": "*"})
    is_problem(taken, 412, "precondition_failed")
    assert "points to version 1 already" in taken.json()["detail"]
    early = api.put("/v1/encoders/swinging/aliases/later", json={"version": 1}, headers={"If-Match": "*"})
    is_problem(early, 412, "precondition_failed")
    assert "no such alias now" in early.json()["detail"]
    is_problem(api.post(f"{url}/rollback"), 409, "nothing_before")
    second = api.put(url, json={"version": 2})
    back = api.post(f"{url}/rollback", headers={"If-Match": second.headers["etag"]})
    assert (back.status_code, back.json()["version"]) == (200, 1)
    assert back.headers["etag"] == api.get(url).headers["etag"]
    again = api.post(f"{url}/rollback", headers={"If-Match": second.headers["etag"]})
    is_problem(again, 412, "precondition_failed")
    assert api.get("/v1/encoders/swinging:live").json()["version"] == 1
    moves = api.get(f"{url}/history").json()["items"]
    assert [(move["version"], move["etag"]) for move in moves] == [(1, '"3"'), (2, '"2"'), (1, '"1"')]


def test_bad_aliases_are_refused(api: httpx.Client, is_problem: Any) -> None:
    def put(alias: str, body: Any, name: str = "gauss") -> httpx.Response:
        return api.put(f"/v1/encoders/{name}/aliases/{alias}", json=body)

    for alias in ("12", "Best", "enc_x", "-a", "a%0a", "a" * 64):
        is_problem(put(alias, {"version": 1}), 422, "invalid_value")
    for body in ({}, {"version": 0}, {"version": "1"}, {"version": 1.5}, {"version": 1, "x": 1}, []):
        assert put("good", body).status_code == 422
    is_problem(put("good", {"version": 7}), 422, "invalid_value", "/version")
    for name in ("nothing", "gauss@1", "gauss:x", api.get("/v1/encoders/gauss").json()["id"]):
        is_problem(put("good", {"version": 1}, name), 404, "not_found")
    is_problem(api.get("/v1/encoders/gauss/aliases/never/history"), 404, "not_found")


def test_deletion_names_one_version_whose_number_never_comes_back(
    server: Any, api: httpx.Client, add_encoder: Any, is_problem: Any
) -> None:
    made = [add_encoder(server, "passing") for _ in range(2)]
    for ref in ("passing", "passing:x"):
        is_problem(api.delete(f"/v1/encoders/{ref}"), 422, "version_required")
    for ref in ("enc_x", "passing@9"):
        is_problem(api.delete(f"/v1/encoders/{ref}"), 404, "not_found")
    assert api.delete("/v1/encoders/passing@2").status_code == 204
    is_problem(api.delete("/v1/encoders/passing@2"), 404, "not_found")
    assert api.get("/v1/encoders/passing").json()["version"] == 1
    assert add_encoder(server, "passing").version == 3
    assert api.delete(f"/v1/encoders/{made[0].id}").status_code == 204
    assert api.get(f"{URL}/files/config.json").status_code == 200
