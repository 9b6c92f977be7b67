"""What each network costs: ``python -m benchmarks.networks`` writes results/networks.json and the table of its page.

The seconds are of the forward and backward pass on one thread, for which the networks take turns; the rest of a
training (views, critic, optimiser) is the same for all of them and small beside any but the smallest.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from benchmarks.speed.measure import in_turns, spread, store, surroundings
from nidim.encoders import build_network
from nidim.spec import parts

RESULTS = Path(__file__).parent / "results" / "networks.json"
PAGE = Path(__file__).parent.parent / "docs" / "choosing.md"
BEGIN, END = "<!-- networks -->", "<!-- /networks -->"
KINDS = (
    *("conv", "mobilenet_v3_small", "efficientnet_b0", "resnet18", "resnet34", "resnet50"),
    *("convnext_tiny", "vit_small"),
)
SIZES = (32, 64, 96)
DIM, IMAGES = 64, 16


def step(kind: str, size: int) -> tuple[Callable[[], None], int]:
    """A forward and a backward pass over IMAGES colour images, and how many weights there are."""
    encoder = TypeAdapter(parts.Encoder).validate_python({"kind": kind, "dim": DIM})
    network = build_network(encoder, channels=3, image_size=size).train()
    network = network.to(memory_format=torch.channels_last)
    images = torch.rand(IMAGES, 3, size, size).to(memory_format=torch.channels_last)

    def work() -> None:
        network(images).square().mean().backward()

    return work, sum(weight.numel() for weight in network.parameters())


def measure(rounds: int) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        works, weights = {}, {}
        for kind in KINDS:
            works[kind], weights[kind] = step(kind, size)
        found = in_turns(works, rounds=rounds)
        rows += [
            {
                "kind": kind,
                "size": size,
                "weights": weights[kind],
                "ms_an_image": spread([1000 * s / IMAGES for s in found[kind]]),
            }
            for kind in KINDS
        ]
    return rows


def table() -> str:
    """Of the stored figures: weights, and medians as milliseconds an image."""
    rows = json.loads(RESULTS.read_text())["rows"]
    lines = [
        "| `encoder.kind` | weights | " + " | ".join(f"{size} pixels" for size in SIZES) + " |",
        "|---|---" + "|---" * len(SIZES) + "|",
    ]
    for kind in KINDS:
        own = {row["size"]: row for row in rows if row["kind"] == kind}
        weights = own[min(own)]["weights"] / 1e6
        medians = [own[size]["ms_an_image"]["median"] for size in SIZES]
        cells = [f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}" for ms in medians]
        lines.append(f"| `{kind}` | {weights:.2g} million | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_page() -> None:
    """Put the table between its markers."""
    text = f"{BEGIN}\n{table()}{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*?{END}", text, PAGE.read_text(), flags=re.DOTALL))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="the table alone, of the stored figures")
    given = parser.parse_args()
    if not given.table:
        where = surroundings(seed=0)
        where["command"] = "python -m benchmarks.networks"
        store("networks", measure(given.rounds), where=where, file=RESULTS)
    write_page()


if __name__ == "__main__":
    main()
