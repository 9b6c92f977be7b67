"""What a client writes is data: no file, address or class can be named in a request.

Every string of a request body is one of a few words, a name by pattern, or free text that nothing opens (a list of
them below, each with its reason). Every string, list and number of the description is bounded (test_api_operations).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nidim.spec import TrainSpec
from service.app import create_app
from service.schemas import JobIn
from service.settings import Settings

HOSTILE = (
    *("/etc/passwd", "../../etc/passwd", "..", ".", "..%2f", "%2e%2e", "%252e%252e", "C:\\x", "\\\\host\\x"),
    *(
        "http://attacker.example/x",
        "https://x",
        "file:///etc/passwd",
        "s3://bucket/x",
        "redis://x",
        "data:,x",
    ),
    *(
        "os:system",
        "torch.nn:Module",
        "__import__",
        "a.b:c",
        "!!python/object",
        "${x}",
        "{{x}}",
    ),
    *("", " ", "a b", "a\n", "a\x00", "\u2025", "ａ", "A", "-x", "_x", "x" * 64, "CON/", "x;y", "$(x)", "|x"),
)
"""A name may hold dots and dashes (os.system is one): it is looked up in a table, and what is not there is 422."""
FREE = {
    "KeyIn.name": "shown in lists",
    "OpenAIEmbeddingsIn.model": "a reference, parsed by the grammar of references",
    "OpenAIEmbeddingsIn.input": "a data URI of an image; anything else is 422",
    "ImagesIn.images": "base64 of an image",
    "GenerateIn.images": "base64 of an image",
    "GeneratorSpec.source": "a reference, parsed by the grammar of references",
    "datasets.license": "copied into the model card",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def strings(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, schema) of every string below ``schema``; references stay unresolved, each schema is walked once."""
    if isinstance(schema, list):
        for item in schema:
            yield from strings(item, place)
    elif isinstance(schema, dict):
        if schema.get("type") == "string":
            yield place, schema
        for name, child in schema.get("properties", {}).items():
            yield from strings(child, f"{place}.{name}")
        for key in ("items", "anyOf", "oneOf", "allOf", "additionalProperties", "prefixItems"):
            yield from strings(schema.get(key), place)


def reachable(document: dict[str, Any], schema: Any, seen: set[str]) -> set[str]:
    """Names of the components that ``schema`` leads to."""
    for name in re.findall(r"#/components/schemas/([\w.-]+)", str(schema)):
        if name not in seen:
            seen.add(name)
            reachable(document, document["components"]["schemas"][name], seen)
    return seen


def request_strings(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every string that a client may write in a body."""
    found, components = [], set()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                components |= reachable(document, content["schema"], set())
                if content["schema"].get("type") == "object":
                    found += strings(content["schema"], path.rsplit("/", 1)[-1])
    for name in components:
        found += strings(document["components"]["schemas"][name], name)
    return found


def is_closed(schema: dict[str, Any]) -> bool:
    """A word of a list, a moment, a file's bytes, or a pattern that takes none of the hostile strings."""
    if "enum" in schema or "const" in schema or schema.get("format") in ("date-time", "binary"):
        return True
    pattern = schema.get("pattern")
    if pattern is None:
        return False
    whole = re.compile(pattern)
    fits = [text for text in HOSTILE if whole.search(text) and len(text) <= schema.get("maxLength", 10**9)]
    return fits == []


def is_closed_name(schema: dict[str, Any]) -> bool:
    """As the databases and paths see it: Python's ``$`` lets a newline pass, the model itself does not."""
    return is_closed(
        {**schema, "pattern": schema["pattern"].replace("$", r"\Z")} if "pattern" in schema else schema
    )


def test_no_body_has_a_string_that_could_name_something_of_ours(document: dict[str, Any]) -> None:
    found = request_strings(document)
    assert len(found) > 40
    assert {place for place, _ in found} >= FREE.keys()
    open_ = {place for place, schema in found if not is_closed_name(schema)}
    assert open_ == FREE.keys()


def test_the_check_can_fail() -> None:
    assert not is_closed_name({"type": "string", "maxLength": 10})
    assert not is_closed_name({"type": "string", "pattern": "^.*$"})
    assert is_closed_name({"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"})
    found = dict(strings({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}, "X"))
    assert found == {"X.a": {"type": "string"}}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where strings stand in a JSON value."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from places(child, (*path, name))


def with_(value: Any, path: tuple[Any, ...], text: str) -> Any:
    if not path:
        return text
    return {**value, path[0]: with_(value[path[0]], path[1:], text)}


def whole_spec() -> dict[str, Any]:
    from nidim.spec import DatasetFacts

    facts = DatasetFacts(name="mnist", n_train=60_000, n_test=10_000, height=28, width=28, channels=1)
    spec = TrainSpec.model_validate({"dataset": "mnist"}).filled(facts)
    return {"spec": spec.model_dump(mode="json"), "encoder": "x"}


JOB = whole_spec()
STRINGS = list(places(JOB))


def test_the_whole_spec_is_walked() -> None:
    assert len(STRINGS) > 8
    JobIn.model_validate(JOB)


@pytest.mark.parametrize("path", STRINGS, ids=lambda path: ".".join(map(str, path)))
def test_hostile_strings_fit_nowhere_in_a_job(path: tuple[Any, ...]) -> None:
    for text in HOSTILE:
        with pytest.raises(ValidationError):
            JobIn.model_validate(with_(JOB, path, text))


@given(st.sampled_from(STRINGS), st.text(max_size=80))
def test_any_string_that_a_job_takes_is_a_name(path: tuple[Any, ...], text: str) -> None:
    try:
        JobIn.model_validate(with_(JOB, path, text))
    except ValidationError:
        return
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", text), (path, text)


@given(
    st.sampled_from(["path", "url", "file", "class", "module", "import", "__class__", "weights", "target"])
)
def test_unknown_fields_are_refused_at_every_level(name: str) -> None:
    levels = [
        ("spec",),
        *((("spec", field)) for field, part in JOB["spec"].items() if isinstance(part, dict)),
        (),
    ]
    for level in levels:
        inner = {**level_of(JOB, level), name: "x"}
        with pytest.raises(ValidationError):
            JobIn.model_validate(replaced(JOB, level, inner))


def level_of(value: Any, path: tuple[str, ...]) -> Any:
    return value if not path else level_of(value[path[0]], path[1:])


def replaced(value: Any, path: tuple[str, ...], inner: Any) -> Any:
    return inner if not path else {**value, path[0]: replaced(value[path[0]], path[1:], inner)}
