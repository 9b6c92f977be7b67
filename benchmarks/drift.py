"""Drift of real images: ``python -m benchmarks.drift BUNDLE --datasets-dir DIR`` writes results/drift/<name>.{json,md}.

The held-out images of the bundle's dataset are cut in two at random, ``SPLITS`` times: a tolerance is measured on one
half, and streams are drawn with replacement from the other, so no stream holds an image that the tolerance has seen. A
stream begins with healthy images and then changes; the delay is counted in images from the change. The threshold is at
least ``BETWEEN`` images between false alarms. Nothing of the held-out images is kept but the tolerance.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.altered import blurred, faded, noisy, once, provenance, rotated, table, write
from nidim import bundle
from nidim.data import load_builtin
from nidim.drift import State, Tolerance, advance, calibrate, watched
from nidim.drift.state import BLOCK

RESULTS = Path(__file__).parent / "results" / "drift"
BETWEEN = 1e6
LOOSER = (1e4, 1e5, 1e6)
HEALTHY, LONGEST, QUIET, SLOW = 2_048, 10_240, 20_480, 10_240
"""Images before the change, after it at most, of a stream without any, and until a slow drift is complete."""
SPLITS, RUN = 20, 16
Floats = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Half:
    """Held-out images that streams are drawn from: which, their classes, and the tolerance from the others."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    tolerance: Tolerance


Draw = Callable[[Rng, Half, int], Iterator[Floats]]
"""Blocks of features, for so many images."""


class Streams:
    """Every kind of stream, from features that were computed once for each alteration."""

    def __init__(self, features: dict[str, Floats]) -> None:
        self._features = features

    def healthy(self, rng: Rng, half: Half, n: int) -> Iterator[Floats]:
        """As held out."""
        return self.altered("plain")(rng, half, n)

    def each_once(self, rng: Rng, half: Half, n: int) -> Iterator[Floats]:
        """Every image of the half at most once."""
        rows = rng.permutation(half.rows)[:n]
        return (self._features["plain"][rows[i : i + BLOCK]] for i in range(0, len(rows), BLOCK))

    def bursts(self, rng: Rng, half: Half, n: int) -> Iterator[Floats]:
        """The right classes on the whole, in runs of ``RUN`` images of one class."""
        of = [half.rows[half.labels[half.rows] == c] for c in np.unique(half.labels)]
        shares = np.array([len(rows) for rows in of]) / len(half.rows)
        for _ in range(0, n, BLOCK):
            classes = rng.choice(len(of), BLOCK // RUN, p=shares)
            yield self._features["plain"][np.concatenate([rng.choice(of[c], RUN) for c in classes])]

    def requests(self, draw: Draw) -> Draw:
        """``n`` requests of ``RUN`` images, each one observation: the mean of its features."""

        def means(rng: Rng, half: Half, n: int) -> Iterator[Floats]:
            blocks = (
                values.reshape(-1, RUN, values.shape[1]).mean(axis=1) for values in draw(rng, half, n * RUN)
            )
            while found := list(itertools.islice(blocks, RUN)):
                yield np.concatenate(found)

        return means

    def altered(self, name: str) -> Draw:
        """All images altered so."""

        def draw(rng: Rng, half: Half, n: int) -> Iterator[Floats]:
            return (self._features[name][rng.choice(half.rows, BLOCK)] for _ in range(0, n, BLOCK))

        return draw

    def slowly(self, name: str) -> Draw:
        """A share of images that grows from none to all within ``SLOW``."""

        def draw(rng: Rng, half: Half, n: int) -> Iterator[Floats]:
            for start in range(0, n, BLOCK):
                rows = rng.choice(half.rows, BLOCK)
                changed = rng.random((BLOCK, 1)) < (start + BLOCK / 2) / SLOW
                yield np.where(changed, self._features[name][rows], self._features["plain"][rows])

        return draw

    def mixed(self, rng: Rng, half: Half, n: int) -> Iterator[Floats]:
        """One class disappears, another comes twice as often; which two is another draw for each stream."""
        gone, doubled = rng.choice(np.unique(half.labels), 2, replace=False)
        weights = np.ones(half.labels.max() + 1)
        weights[gone], weights[doubled] = 0, 2
        shares = weights[half.labels[half.rows]]
        shares /= shares.sum()
        return (self._features["plain"][rng.choice(half.rows, BLOCK, p=shares)] for _ in range(0, n, BLOCK))


def follow(state: State, tolerance: Tolerance, blocks: Iterator[Floats], stop: float) -> Iterator[State]:
    """The states after each block, until the detector reaches ``stop``."""
    for values in blocks:
        state = advance(state, values, tolerance, weight=len(values))
        yield state
        if state.log_detection >= math.log(stop):
            return


def delays(before: Draw, after: Draw, halves: list[Half], streams: int, rng: Rng) -> dict[str, Any]:
    """Images from the change to the alarm, for streams that had none before."""
    found, early = [], 0
    for i in range(streams):
        half = halves[i % len(halves)]
        *_, state = follow(
            State.empty(half.tolerance.dim), half.tolerance, before(rng, half, HEALTHY), BETWEEN
        )
        if state.log_detection >= math.log(BETWEEN):
            early += 1
            continue
        *_, end = follow(state, half.tolerance, after(rng, half, LONGEST), BETWEEN)
        found.append(end.n - state.n if end.log_detection >= math.log(BETWEEN) else np.inf)
    shown = {f"p{q}": float(np.quantile(found, q / 100, method="higher")) for q in (10, 50, 90)}
    finite = {name: None if math.isinf(value) else value for name, value in shown.items()}
    return {"streams": len(found), "found": float(np.isfinite(found).mean()), **finite, "early": early}


def false_alarms(draw: Draw, n: int, halves: list[Half], streams: int, rng: Rng) -> dict[str, Any]:
    """The share of streams of ``n`` images with an alarm, by threshold."""
    most = np.full(streams, -np.inf)
    for i in range(streams):
        half = halves[i % len(halves)]
        for state in follow(State.empty(half.tolerance.dim), half.tolerance, draw(rng, half, n), np.inf):
            most[i] = max(most[i], state.log_detection)
    shares = {f"{a:g}": float((most >= math.log(a)).mean()) for a in LOOSER}
    return {
        "streams": streams,
        "images": n,
        "alarms": shares,
        "bound": {f"{a:g}": min(1.0, n / a) for a in LOOSER},
    }


def cut(z: NDArray[np.float32], labels: NDArray[np.int64], prior: Any, seed: int) -> list[Half]:
    """``SPLITS`` halves, each with the tolerance from the other one."""
    scores, halves = prior.normal_scores(z), []
    for split in range(SPLITS):
        order = np.random.default_rng([seed, split]).permutation(len(z))
        held, live = order[: len(z) // 2], order[len(z) // 2 :]
        halves.append(Half(live, labels, calibrate(scores[held])))
    return halves


def page(found: dict[str, Any]) -> str:
    """The tables in Markdown."""
    drifts = [
        [
            name,
            f"{100 * row['found']:.1f} %",
            *(_images(row[q]) for q in ("p10", "p50", "p90")),
            str(row["early"]),
        ]
        for name, row in found["drifts"].items()
    ]
    quiet = [
        [
            name,
            f"{row['images']:,}",
            *(f"{100 * row['alarms'][a]:.1f} % (≤ {100 * row['bound'][a]:.3g} %)" for a in row["alarms"]),
        ]
        for name, row in found["healthy"].items()
    ]
    return TEXT.format(
        **found,
        splits=SPLITS,
        healthy_images=HEALTHY,
        longest=LONGEST,
        run=RUN,
        block=BLOCK,
        tenth=found["streams"] // 10,
        found_table=table(["change", "found", "delay, 10 %", "median", "90 %", "alarms before it"], drifts),
        quiet_table=table(
            ["stream without drift", "observations", *(f"A = {a:,.0f}" for a in LOOSER)],
            quiet,
        ),
    )


TEXT = """\
# Drift: {dataset}, d = {dim}

{streams:,} streams a line, over {splits} random halves of {heldout:,} held-out images: a tolerance is measured on one
half, streams are drawn with replacement from the other. The threshold is at least {between_false_alarms:,.0f}
observations between false alarms. Delay: images from the change to the alarm, in steps of {block}, after
{healthy_images:,} healthy ones; at most {longest:,} were tried. By requests ({tenth} streams), an observation is the
mean over a request of {run} images, and everything is counted in requests.

{found_table}
False alarms: the share of streams that had one, and in brackets the bound of theory, observations / A, for independent
observations within the tolerance.

{quiet_table}
Images in runs of {run} of a class are no independent images: the bound does not speak of them. The runs are.

`python -m benchmarks.drift`, seed {provenance[seed]}, {provenance[processor]}, {wall_s:.0f} s;
spec `{provenance[spec_digest]}`, in the JSON beside this page;
bundle `{provenance[bundle]}`.
"""


def _images(value: float | None) -> str:
    return f"> {LONGEST:,}" if value is None else f"{value:,.0f}"


def changed(images: Any) -> dict[str, Any]:
    """The images as they are, and altered in every way."""
    return {
        "plain": images,
        "rotation, 5°": rotated(images, 5),
        "rotation, 15°": rotated(images, 15),
        "rotation, 30°": rotated(images, 30),
        "blur, 0.5 pixels": blurred(images, 0.5),
        "blur, 1 pixel": blurred(images, 1),
        "contrast, 80 %": faded(images, 0.8),
        "noise, 0.1": noisy(images, 0.1),
    }


def main() -> None:
    """Embed everything once, then the streams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--datasets-dir", type=Path)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="mnist-d16")
    given = parser.parse_args()
    encoder = bundle.load(given.bundle)
    data = load_builtin(
        encoder.spec.dataset,
        root=given.datasets_dir,
        allow_downloads=False,
        image_size=encoder.resolved.image_size,
    )
    images, labels = np.asarray(data.test.images), np.asarray(data.test.labels)
    embed = once({}, encoder)
    changes = changed(images)
    features = {name: watched(encoder.prior, embed(name, x)) for name, x in changes.items()}
    halves = cut(embed("plain", images), labels, encoder.prior, given.seed)
    streams, rng, started = Streams(features), np.random.default_rng([given.seed, 1]), time.perf_counter()
    kinds: dict[str, Draw] = {"one class gone, one doubled": streams.mixed}
    kinds |= {name: streams.altered(name) for name in changes if name != "plain"}
    kinds["slow: images rotated by 30°, none to all"] = streams.slowly("rotation, 30°")
    several = {
        f"{name}; by requests of {RUN}": streams.requests(kinds[name]) for name in kinds if "class" in name
    }
    drifts = {}
    for name, draw in kinds.items():
        drifts[name] = delays(streams.healthy, draw, halves, given.streams, rng)
        print(name, drifts[name], flush=True)
    for name, draw in several.items():
        drifts[name] = delays(streams.requests(streams.healthy), draw, halves, given.streams // 10, rng)
        print(name, drifts[name], flush=True)
    healthy = {}
    for name, draw, n in (
        ("drawn with replacement", streams.healthy, QUIET),
        ("every held-out image once", streams.each_once, len(images) // 2),
        (f"in runs of {RUN} images of a class", streams.bursts, QUIET),
        ("in such runs, each a request and counted as one", streams.requests(streams.bursts), QUIET // RUN),
    ):
        healthy[name] = false_alarms(draw, n, halves, given.streams, rng)
        print(name, healthy[name], flush=True)
    found = {
        "dataset": data.name,
        "dim": encoder.prior.dim,
        "heldout": len(images),
        "streams": given.streams,
        "between_false_alarms": BETWEEN,
        "drifts": drifts,
        "healthy": healthy,
        "wall_s": round(time.perf_counter() - started, 1),
        "provenance": provenance(encoder, given.seed),
    }
    write(RESULTS, given.name, found, page(found))


if __name__ == "__main__":
    main()
