"""``python docs/generate.py``: the pages that are made from the code: settings.md, defaults.md and rest.md.

A test compares what is stored with what the code says now.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
import typing
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

import service
from nidim.capacity import resolve
from nidim.data import builtin_facts
from nidim.spec import TrainSpec, channel, laws, matching, parts, views
from nidim.spec import defaults as rules
from nidim.spec.generator import GeneratorModel
from nidim.spec.train import LEAST_SIDE, MOST_SIDE
from service.app import create_app
from service.errors import ServiceError
from service.settings import Settings

HERE = Path(__file__).resolve().parent
SIGMOID = {"prior": {"kind": "uniform"}, "normalization": {"kind": "sigmoid"}}
SHOWN: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("digits", 2, {}),
    ("digits", 16, {}),
    ("digits", 16, SIGMOID),
    ("mnist", 2, {}),
    ("mnist", 16, {}),
    ("cifar10", 64, {}),
)
UNIONS = {
    "encoder": parts.Encoder,
    "method": parts.Method,
    "objective": parts.Objective,
    "critic": parts.Critic,
    "head": parts.Head,
    "noise": matching.Noise,
    "prior": laws.PriorSpec,
    "normalization": matching.Normalization,
    "regularizer": matching.Regularizer,
    "augmentation": views.Augmentation,
    "optimizer": parts.Optimizer,
    "model (of a generator)": GeneratorModel,
}

OTHER_CODES: dict[tuple[int, str], str] = {
    (401, "bad_key"): "The key is unknown, revoked or expired.",
    (403, "scope_missing"): "The key lacks the scope that this needs.",
    (
        403,
        "host_not_allowed",
    ): "Without keys the server answers to its own machine and its loopback address only.",
    (403, "origin_not_allowed"): "Without keys web pages from elsewhere may not use the server.",
    (405, "method_not_allowed"): "This path does not take this method; Allow lists those that it takes.",
    (409, "ingest_cancelled"): "The dataset was deleted while its upload was read.",
    (422, "bad_archive"): "The uploaded file cannot be read, or holds no usable image.",
    (422, "ingest_crashed"): "The uploaded file ended the process that read it.",
    (422, "ingest_timeout"): "The uploaded file took longer to read than NIDIM_INGEST_TIMEOUT_S.",
}
"""Codes that no class has for itself."""
INNER_CODES = {"blob_damaged", "blob_missing", "lost_lease", "refused"}
"""Codes that no client sees."""
SPECS = {
    *(cls.__name__ for union in UNIONS.values() for cls in typing.get_args(typing.get_args(union)[0])),
    *("TrainSpec", "GeneratorSpec", "Component", "StoredPoints"),
}
"""Bodies that defaults.md describes."""


def settings_page() -> str:
    """Every setting with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "Read from the environment by the entry points; `nidim settings` prints the values in force. A process with a",
        "value that cannot work does not start and says which; a `NIDIM_…` that is no setting is named in its log.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "`~/.nidim`" if name == "data_dir" else _default(field.default)
        lines.append(f"| `NIDIM_{name.upper()}` | {default} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "(required)"
    if value in ("", None, ()):
        return "(none)"
    return f"`{value:,}`" if isinstance(value, int) and value >= 10_000 else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def defaults_page() -> str:
    """The defaults that a few specs are filled with, and every kind of every part."""
    return "\n".join(["# The spec and its defaults", "", *_examples(), "", *_rules(), "", *_kinds()]) + "\n"


def _examples() -> list[str]:
    columns = []
    for name, dim, more in SHOWN:
        facts = builtin_facts(name)
        kind = "conv" if facts.channels == 1 else "resnet18"
        given = {"dataset": name, "encoder": {"kind": kind, "dim": dim}, **more}
        spec = TrainSpec.model_validate(given).filled(facts)
        also = ", sigmoid" if more else ""
        columns.append((f"{name}, d = {dim}{also}", spec, resolve(spec, facts)[0]))
    fields = [f for f in TrainSpec.model_fields if f not in ("format_version", "kind", "dataset")]
    lines = [
        "Only `dataset` has to be given. What the other fields become for some of them (`sigmoid`: a uniform `prior` "
        "and sigmoid `normalization`, the paper's construction):",
        "",
        "| field | " + " | ".join(title for title, _, _ in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for field in fields:
        lines.append(f"| `{field}` | " + " | ".join(_brief(getattr(s, field)) for _, s, _ in columns) + " |")
    lines.append("| σ resolved | " + " | ".join(_number(r.sigma) for _, _, r in columns) + " |")
    lines.append("| ε resolved | " + " | ".join(_number(r.epsilon) for _, _, r in columns) + " |")
    lines.append("| C, nats | " + " | ".join(f"{r.capacity_nats:.2f}" for _, _, r in columns) + " |")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _rules() -> list[str]:
    """How the values above come about."""
    shown = f"{rules.IMAGES_SEEN_BY_CONV:,} with conv, {rules.IMAGES_SEEN:,} with other networks"
    few, many, exact = rules.NEIGHBORS_FROM, rules.NEIGHBORS_UP_TO, rules.REGULARIZED_FROM
    return [
        "## How they are chosen",
        "",
        "A part that is left out gets these; a part of which only the `kind` is given gets the values of its list, "
        "below, which know nothing of the dataset; only a σ of `auto` is worked out for it, from its held-out images "
        "and the batch.",
        "",
        f"- `image_size` is the shorter side of the images (where sizes differ, the median of their shorter sides), at "
        f"least {LEAST_SIDE} and at most {MOST_SIDE} pixels: larger ones are shrunk, with the warning `images_shrunk`, "
        "unless a size is given, up to 512.",
        f"- σ = .2 (d/2)^.44 within [.05, {rules.MOST_SIGMA}]; where log of the held-out images falls short of the "
        f"capacity C by more than {channel.SLACK_PER_DIM} nats a dimension, as much larger as closes that, up to "
        f"{rules.MOST_SIGMA} (with fewer than {channel.LEAST_HELDOUT} held-out images there is no certificate, and σ "
        "goes by d alone).",
        "- ε, for a sigmoid output, so that uniform noise carries as much as that σ; raised in the same way, up to "
        f"{rules.MOST_EPSILON}.",
        f"- `infomax` has two stages (`neighbors` = {rules.NEIGHBORS}) for {few:,} to {many:,} gray images, up "
        f"to d = {rules.NEIGHBORS_DIM}. From d = {exact} on the critic of the second stage is the exact one of the "
        f"channel, and σ is {rules.CHANNEL_SIGMA} times as large.",
        f"- The sliced term stands beside Gaussian noise from d = {exact} on, and below that in two stages.",
        f"- `augmentation` is `digits` for gray images, `handwriting` in two stages from d = {exact} on if images have "
        f"{rules.STROKES_FROM} pixels a side or more; `color32` for colour up to {rules.SMALL_COLOR} pixels, beyond "
        "that `color`.",
        f"- `epochs` so that about as many images are shown, 8 to 400: {shown}; of two stages the second has "
        f"{rules.SECOND_STAGE} times as many, from d = {exact} on {rules.LONG_SECOND_STAGE} times.",
    ]


def _brief(value: object) -> str:
    if not isinstance(value, parts.Part):
        return f"{value}"
    values = value.model_dump(exclude_defaults=True)
    kind = value.model_dump()["kind"]
    rest = ", ".join(
        f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items() if k != "kind"
    )
    return f"{kind} ({rest})" if rest else str(kind)


def _kinds() -> list[str]:
    lines = ["## Kinds", ""]
    for field, union in UNIONS.items():
        lines += [f"### {field}", ""]
        for cls in typing.get_args(typing.get_args(union)[0]):
            lines += [f"**`{cls.model_fields['kind'].default}`**: {_cell((cls.__doc__ or '').strip())}", ""]
            for name, info in cls.model_fields.items():
                if name != "kind":
                    lines.append(f"- `{name}` = {_default(info.default)}: {_cell(info.description or '')}")
            lines.append("")
    return [line for i, line in enumerate(lines) if line or (i and lines[i - 1])]


def rest_page() -> str:
    """Every operation of the API with its parameters, bodies and answers, from its own description."""
    described = create_app(Settings()).openapi()
    lines = [
        "# REST reference",
        "",
        "Made from the description that a server gives at `/openapi.json`; the same with forms to try is at `/docs`. "
        "Errors are RFC 9457 problem details with a stable `code` ([all of them](#error-codes)); a list is "
        "`{items, next_cursor}`, newest first, called *list of* here. What the fields of bodies and answers are stands "
        "[below](#bodies-and-answers), what a spec may say on [its own page](defaults.md).",
        "",
    ]
    tags: dict[str, list[str]] = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            found = tags.setdefault((operation.get("tags") or ["operations"])[0], [])
            found += _operation(method, path, operation)
    for tag, found in sorted(tags.items()):
        lines += [f"## {tag}", "", *found]
    return "\n".join([*lines, *_bodies(described["components"]["schemas"]), *_error_codes()])


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    lines = [f"### `{method.upper()} {path}`", "", operation.get("description", ""), ""]
    for parameter in operation.get("parameters", ()):
        about = parameter.get("description", "")
        lines.append(f"- `{parameter['name']}` ({parameter['in']}){': ' + _cell(about) if about else ''}")
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        lines.append(f"- body: {', '.join(_content(kind, what) for kind, what in body.items())}")
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        if status.startswith("2"):
            given = ", ".join(_content(kind, what) for kind, what in content.items())
            lines.append(f"- {status}{': ' + given if given else ''}")
    refused = [status for status in operation["responses"] if status[0] in "45"]
    if refused:
        lines.append(f"- refuses with {', '.join(refused)}")
    return [*lines, ""]


def _content(kind: str, what: dict[str, Any]) -> str:
    name = what.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return f"`{kind}`" + (f" {_called(name)}" if name else "")


def _called(schema: str) -> str:
    listed = re.fullmatch(r"ListOut_(\w+)_", schema)
    return f"list of {listed[1]}" if listed else schema


def _bodies(schemas: dict[str, Any]) -> list[str]:
    """The fields of all that is sent and answered as JSON, but for lists, and for specs, which have a page."""
    lines = ["## Bodies and answers", ""]
    for name, schema in sorted(schemas.items()):
        if name.startswith("ListOut_") or name in SPECS or "properties" not in schema:
            continue
        lines += [f"**{name}**: {_cell(schema.get('description', '').partition(chr(10) * 2)[0])}", ""]
        for field, what in schema["properties"].items():
            about = what.get("description", "")
            default = f" = `{json.dumps(what['default'])}`" if what.get("default") is not None else ""
            needed = " (required)" if name.endswith("In") and field in schema.get("required", ()) else ""
            lines.append(f"- `{field}`: {_type(what)}{default}{needed}{'; ' + _cell(about) if about else ''}")
        lines.append("")
    return lines


def _type(what: dict[str, Any]) -> str:
    if "$ref" in what:
        return str(what["$ref"].rpartition("/")[2])
    if "enum" in what or "const" in what:
        return ", ".join(f"`{value}`" for value in what.get("enum", [what.get("const")]))
    for key in ("anyOf", "oneOf"):
        if key in what:
            return " or ".join(dict.fromkeys(_type(one) for one in what[key]))
    if what.get("type") == "array":
        each = _type(what["items"])
        return f"list of ({each})" if " or " in each else f"list of {each}"
    if what.get("format") == "date-time":
        return "time"
    return str(what.get("type", "any"))


def _error_codes() -> list[str]:
    """Every ``code`` of a problem: those of classes, and what is said beside them."""
    for module in pkgutil.walk_packages(service.__path__, "service."):
        if "migrations" not in module.name:
            importlib.import_module(module.name)
    waiting, found = [ServiceError], dict(OTHER_CODES)
    while waiting:
        waiting += (kind := waiting.pop()).__subclasses__()
        about = inspect.cleandoc(kind.__doc__ or "")
        if "code" in vars(kind) and kind.__module__.startswith("service.") and kind.code not in INNER_CODES:
            found[kind.status, kind.code] = about
    return [
        "## Error codes",
        "",
        "A problem is `{type, title, status, detail, code, request_id, errors?}`: `code` is for programs and never "
        "changes, `detail` for people, `errors` names the places that are to blame. What ends a *job* has other codes "
        "([failed, what now?](trouble.md)).",
        "",
        "| status | code | what it says |",
        "|---|---|---|",
        *(f"| {status} | `{code}` | {_cell(about)} |" for (status, code), about in sorted(found.items())),
        "",
    ]


PAGES = {"settings.md": settings_page, "defaults.md": defaults_page, "rest.md": rest_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
        sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
