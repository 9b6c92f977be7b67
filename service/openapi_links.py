"""Links of the OpenAPI document: which answer leads where. For readers, and for testers that follow them."""

from __future__ import annotations

from typing import Any

BODY = "$response.body#"
REQUEST = "$request.path."


def add_links(document: dict[str, Any]) -> None:
    """Write every link of :func:`_links` into its answer."""
    operations = {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
        if "operationId" in operation
    }
    for source, status, target, parameters in _links():
        answer = operations[source]["responses"][status]
        answer.setdefault("links", {})[target] = {"operationId": target, "parameters": parameters}


def _links() -> list[tuple[str, str, str, dict[str, str]]]:
    """(operation, status, next operation, its parameters)."""
    return [
        *(*_of_jobs(), *_of_datasets(), *_of_encoders(), *_of_generators()),
        *(*_of_aliases(), *_of_keys()),
    ]


def _of_jobs() -> list[tuple[str, str, str, dict[str, str]]]:
    targets = ("get_job", "read_events", "cancel", "retry")
    return [
        *(("submit", "202", target, {"job_id": f"{BODY}/id"}) for target in targets),
        *(("list_jobs", "200", target, {"job_id": f"{BODY}/items/0/id"}) for target in targets),
        ("list_jobs", "200", "list_jobs", {"cursor": f"{BODY}/next_cursor"}),
    ]


def _of_datasets() -> list[tuple[str, str, str, dict[str, str]]]:
    return [
        *(("upload_dataset", "201", t, {"name": f"{BODY}/name"}) for t in ("get_dataset", "delete_dataset")),
        ("list_datasets", "200", "get_dataset", {"name": f"{BODY}/items/0/name"}),
        ("list_datasets", "200", "list_datasets", {"cursor": f"{BODY}/next_cursor"}),
    ]


def _of_encoders() -> list[tuple[str, str, str, dict[str, str]]]:
    reading = ("get_encoder", "report", "list_files")
    using = ("embed", "score", "sample", "interpolate")
    first = {"ref": f"{BODY}/items/0/id"}
    return [
        *(("list_encoders", "200", target, first) for target in (*reading, *using)),
        ("get_encoder", "200", "delete_encoder", {"ref": f"{BODY}/id"}),
        ("list_files", "200", "get_file", {"ref": f"{REQUEST}ref", "file": f"{BODY}/items/0/name"}),
    ]


def _of_generators() -> list[tuple[str, str, str, dict[str, str]]]:
    targets = ("get_generator", "generator_report", "list_generator_files", "generate")
    first = {"ref": f"{BODY}/items/0/id"}
    file = {"ref": f"{REQUEST}ref", "file": f"{BODY}/items/0/name"}
    return [
        *(("list_generators", "200", target, first) for target in targets),
        ("get_generator", "200", "delete_generator", {"ref": f"{BODY}/id"}),
        ("list_generator_files", "200", "get_generator_file", file),
    ]


def _of_aliases() -> list[tuple[str, str, str, dict[str, str]]]:
    own = {"name": f"{BODY}/name", "alias": f"{BODY}/alias"}
    targets = ("get_alias", "delete_alias", "rollback_alias", "alias_history")
    return [
        ("list_encoders", "200", "put_alias", {"name": f"{BODY}/items/0/name"}),
        *(("put_alias", "200", target, own) for target in targets),
    ]


def _of_keys() -> list[tuple[str, str, str, dict[str, str]]]:
    return [("create_key", "201", "revoke_key", {"key_id": f"{BODY}/id"})]
