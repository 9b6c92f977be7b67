"""``python docs/generate.py``: the pages that are made from the code: settings.md and defaults.md.

A test compares what is stored with what the code says now.
"""

from __future__ import annotations

import sys
import typing
from pathlib import Path

from pydantic_core import PydanticUndefined

from nidim.capacity import resolve
from nidim.data import builtin_facts
from nidim.spec import TrainSpec, laws, parts, views
from service.settings import Settings

HERE = Path(__file__).resolve().parent
SHOWN = (("digits", 2), ("mnist", 2), ("mnist", 16), ("cifar10", 64))
UNIONS = {
    "encoder": parts.Encoder,
    "method": parts.Method,
    "objective": parts.Objective,
    "critic": parts.Critic,
    "head": parts.Head,
    "noise": parts.Noise,
    "prior": laws.PriorSpec,
    "normalization": parts.Normalization,
    "regularizer": parts.Regularizer,
    "augmentation": views.Augmentation,
    "optimizer": parts.Optimizer,
}


def settings_page() -> str:
    """Every setting with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "Read from the environment by the entry points; `nidim settings` prints the values in force.",
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
    return "\n".join(["# The spec and its defaults", "", *_examples(), "", *_kinds()]) + "\n"


def _examples() -> list[str]:
    columns = []
    for name, dim in SHOWN:
        facts = builtin_facts(name)
        kind = "conv" if facts.channels == 1 else "resnet18"
        spec = TrainSpec.model_validate({"dataset": name, "encoder": {"kind": kind, "dim": dim}}).filled(
            facts
        )
        columns.append((f"{name}, d = {dim}", spec, resolve(spec, facts)[0]))
    fields = [f for f in TrainSpec.model_fields if f not in ("format_version", "kind", "dataset")]
    lines = [
        "Only `dataset` has to be given. What the other fields become for four of them:",
        "",
        "| field | " + " | ".join(title for title, _, _ in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for field in fields:
        lines.append(f"| `{field}` | " + " | ".join(_brief(getattr(s, field)) for _, s, _ in columns) + " |")
    lines.append("| σ resolved | " + " | ".join(f"{r.sigma:.3g}" for _, _, r in columns) + " |")
    lines.append("| C, nats | " + " | ".join(f"{r.capacity_nats:.2f}" for _, _, r in columns) + " |")
    return lines


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


PAGES = {"settings.md": settings_page, "defaults.md": defaults_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
        sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
