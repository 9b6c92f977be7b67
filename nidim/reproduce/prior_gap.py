"""What a known prior is worth: the same generator, fed from the law of encoders that were made in different ways."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nidim import bundle, machine
from nidim.embedding import embed
from nidim.generate import draw, pictures
from nidim.generate.pipeline import evaluate, facts_of
from nidim.generate.report import above_floor
from nidim.generate.train import fit_generator
from nidim.pipeline import Hooks, embed_dataset, evaluate_fitted, provenance_of
from nidim.priors import Prior, make_prior, noisy_prior
from nidim.reproduce.figures import lists
from nidim.reproduce.figures.lists import Dot, Line, Look, Panel
from nidim.reproduce.figures.style import INK, WITH_NOISE, WITHOUT, Mark, Spread, spread
from nidim.reproduce.runs import FORMAT, Runs, digest_now, peak_mb
from nidim.reproduce.table import DATASETS, Column, Found, Row, Run, Scale, Sources, Table
from nidim.spec import FullSpec
from nidim.spec.base import Part
from nidim.spec.defaults import default_sigma
from nidim.spec.generator import FullGeneratorSpec, GeneratorSpec, SourceFacts, resolve_generator
from nidim.stored import Config, Preprocessing
from nidim.train import Fitted
from nidim.warp import build_warp

GENERATOR = "generator"
"""The key of a row's changes that holds those of the generator's spec; the others are the encoder's."""
SHOWN = 64
WIDER = 2
"""Times the σ of the other rows."""
HELD_OUT: dict[Scale, float | None] = {"small": 0.5, "full": None}
"""Share of all images: of digits the test images are too few for distances between 128 features of them."""

SHORT: dict[str, Any] = {
    "epochs": 16,
    "regularizer": {"kind": "sliced_epps_pulley", "bhep": 10.0},
    "augmentation": {"kind": "digits"},
}
"""What two stages at d = 16 have here instead of the default's 40 epochs, BHEP of weight 25, views of handwriting."""

ENCODERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("noise", "noise", {"regularizer": {"kind": "none"}}),
    ("noise-sliced", "noise and sliced Epps–Pulley", {"regularizer": {"kind": "sliced_epps_pulley"}}),
    ("none", "no noise", {"regularizer": {"kind": "none"}}),
    ("lejepa", "LeJEPA (SIGReg), no noise", {"regularizer": {"kind": "none"}, "method": {"kind": "lejepa"}}),
)


def _rows(scale: Scale) -> Sequence[Row]:
    rows = []
    for dim in (2, 16):
        sigma = default_sigma(dim)
        for name, title, changes in ENCODERS:
            noise: dict[str, Any] = {"kind": "none", "certificate_sigma": sigma}
            if name.startswith("noise"):
                noise = {"kind": "gaussian", "sigma": sigma}
            spec = {
                "encoder": {"kind": "conv", "dim": dim},
                "method": {"kind": "infomax"},
                "noise": noise,
                "evaluation": "quick",
                **changes,
            }
            rows.append(_row(f"{name}-{dim}", (str(dim), title, FLOW), spec, scale))
    gan = {**rows[1].changes, GENERATOR: {"model": {"kind": "gan"}}}
    more = _more(rows) if scale == "full" else []
    return [*rows, *more, _row("noise-sliced-2-gan", ("2", rows[1].labels[1], "GAN"), gan, scale)]


def _row(name: str, labels: tuple[str, ...], changes: Mapping[str, Any], scale: Scale) -> Row:
    return Row(name, labels, changes, DATASETS[scale], held_out=HELD_OUT[scale])


def _more(rows: Sequence[Row]) -> list[Row]:
    """The default spec, which of digits is a row already; it and no noise, with what is fed blurred by more; two stages
    with a shorter second one."""
    plain = {row.name: row for row in rows}
    found = []
    for name, dim, title, changes in (
        ("default", 2, "default spec", {}),
        ("default", 16, "default spec", {}),
        ("short", 16, f"two stages of {SHORT['epochs'] // 2} and {SHORT['epochs']} epochs", SHORT),
    ):
        spec = {"encoder": {"kind": "conv", "dim": dim}, "evaluation": "quick", **changes}
        two = _row(f"{name}-{dim}", (str(dim), title, FLOW), spec, "full")
        found.append(two)
        for row in (two, plain[f"none-{dim}"]) if name == "default" else (two,):
            changes = {**row.changes, GENERATOR: {"condition_noise": WIDER * default_sigma(dim)}}
            labels = (*row.labels[:2], f"{FLOW}, {WIDER} σ")
            found.append(_row(f"{row.name}-wide", labels, changes, "full"))
    return found


FLOW = "flow matching"
HELDOUT = Mark("fed with embeddings of held-out images", WITHOUT)
PRIOR = Mark("fed with draws of the prior", WITH_NOISE)
GAP = Mark("ratio of the two", INK)
GAP_ABOVE = Mark("ratio above the floor", INK, filled=False, marker="D")
CLASS = Mark("", WITHOUT)
PANELS = (
    Panel("Fréchet distance to real images\n(ticks: floor, as many real ones)", start=0.0),
    Panel("prior gap\n(dotted: perfect)", 1.0),
    Panel("share with the class of the image whose\nembedding was fed (dotted: all)", 1.0),
)


class Gaps(Runs):
    """Runs of an encoder and a generator that is trained with it."""

    def specs(self, row: Row) -> Mapping[str, tuple[type[Part], Any]]:
        """The spec of the encoder's training and that of the generator's."""
        encoder, given = _without_generator(row), row.changes.get(GENERATOR, {})
        if isinstance(given, Mapping):
            given = {"kind": "generator", "source": row.name, **given}
        return {**super().specs(encoder), f"The generator of row {row.name}": (GeneratorSpec, given)}

    def find(self, row: Row, seed: int) -> Run | None:
        """The stored run, if it was made by the specs that the row has now."""
        try:
            found: Run = json.loads(self._path(row, seed).read_text())
        except (OSError, ValueError):
            return None
        spec = self._spec(row, seed)
        wanted = (FORMAT, spec.digest, self._generator(row, spec).digest)
        made = (
            found.get("format"),
            digest_now(FullSpec, found.get("spec")),
            digest_now(FullGeneratorSpec, found.get(GENERATOR)),
        )
        return found if made == wanted and self._of_its_images(found, row) else None

    def make(self, row: Row, seed: int, hooks: Hooks) -> Run:
        """Train both, measure and store; a grid of draws beside the figures."""
        dataset, spec = self._dataset(row), self._spec(row, seed)
        fitted, cost = self._fit(spec, dataset, hooks)
        prior = make_prior(spec)
        fitted.model.warp = build_warp(prior)
        report = evaluate_fitted(spec, prior, fitted, embed_dataset(spec, fitted, dataset, hooks), hooks)
        wanted, encoder = self._generator(row, spec), _as_bundle(spec, fitted, prior)
        source = facts_of(encoder)
        machine.reset_peak()
        began = time.perf_counter()
        hooks.phase("training the generator")
        made = fit_generator(
            wanted,
            resolve_generator(wanted, source, dataset.facts),
            dataset.train.images,
            draw.condition(prior, embed(fitted.model, dataset.train.images)),
        )
        took_s = time.perf_counter() - began
        quality = evaluate(wanted, made, encoder, dataset, hooks)
        run = {
            "format": FORMAT,
            "row": row.name,
            "seed": seed,
            "encoder_s": cost["train_s"],
            "train_s": round(took_s, 1),
            "peak_mb": round(peak_mb()),
            "spec": spec.stored().model_dump(mode="json"),
            GENERATOR: wanted.model_dump(mode="json"),
            "report": report.model_dump(mode="json"),
            "quality": quality.model_dump(mode="json"),
            "provenance": provenance_of(spec, fitted.resolved, dataset),
        }
        path = self._path(row, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run, indent=1, allow_nan=False))
        shown = next(iter(draw.from_prior(made.model, prior, SHOWN, seed=0)))
        path.with_suffix(".png").write_bytes(pictures.png(pictures.grid(shown)))
        return run

    def _spec(self, row: Row, seed: int) -> FullSpec:
        return super()._spec(_without_generator(row), seed)

    def _generator(self, row: Row, spec: FullSpec) -> FullGeneratorSpec:
        facts = self._facts_of(row)
        source = SourceFacts(
            dataset=spec.dataset,
            dim=spec.encoder.dim,
            image_size=spec.image_size,
            channels=facts.channels,
            sigma=default_sigma(spec.encoder.dim),
        )
        given = {"kind": "generator", "source": row.name, "seed": spec.seed, **row.changes.get(GENERATOR, {})}
        return GeneratorSpec.model_validate(given).filled(source, facts)


def _without_generator(row: Row) -> Row:
    changes = {key: value for key, value in row.changes.items() if key != GENERATOR}
    return dataclasses.replace(row, changes=changes)


def _as_bundle(spec: FullSpec, fitted: Fitted, prior: Prior) -> bundle.Bundle:
    """The encoder as if it had been stored and loaded."""
    config = Config(
        format_version=1,
        spec=spec.stored(),
        resolved=fitted.resolved,
        prior=prior.describe(),
        noisy_prior=noisy_prior(prior, fitted.resolved).describe(),
        preprocessing=Preprocessing(image_size=fitted.resolved.image_size, channels=fitted.resolved.channels),
        provenance={},
    )
    return bundle.Bundle(
        config=config,
        report={},
        digest="",
        model=fitted.model,
        prior=prior,
        noisy=noisy_prior(prior, fitted.resolved),
    )


def _store(root: Path, sources: Sources) -> Gaps:
    return Gaps(root, datasets_dir=sources.datasets_dir, allow_downloads=sources.allow_downloads)


def _of(*path: str) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        found: Any = run["quality"]
        for key in path:
            found = found[key]
        return None if found is None else float(found)

    return value


def _above_floor(run: Run) -> float | None:
    found = run["quality"]
    prior, heldout = (found[fed]["frechet_distance"] for fed in ("prior", "heldout"))
    return above_floor(prior, heldout, found["floor"])


def _figure(found: Found, scale: Scale, path: Path) -> None:  # noqa: ARG001
    """Of each encoder distances from real images, fed either way, beside the floor; their ratio; kept classes."""
    lines = [
        Line(_title(row), _dots(runs), group=row.labels[0])
        for row, runs in sorted(found, key=lambda pair: int(pair[0].labels[0]))
        if runs
    ]
    lists.draw(lines, PANELS, found, path, Look(14))


def _title(row: Row) -> str:
    dim, encoder, generator = row.labels
    return f"d = {dim}, {encoder}" + ("" if generator == FLOW else f"; {generator.removeprefix(f'{FLOW}, ')}")


def _dots(runs: Sequence[Run]) -> list[Dot]:
    floor = [spread(runs, _of("floor")), None, None]

    def alone(panel: int, value: Callable[[Run], float | None]) -> list[Spread | None]:
        return [spread(runs, value) if number == panel else None for number in range(len(PANELS))]

    return [
        Dot(HELDOUT, alone(0, _of("heldout", "frechet_distance")), floor),
        Dot(PRIOR, alone(0, _of("prior", "frechet_distance"))),
        Dot(GAP, alone(1, _of("prior_gap"))),
        Dot(GAP_ABOVE, alone(1, _above_floor)),
        Dot(CLASS, alone(2, _of("heldout", "class_agreement"))),
    ]


PRIOR_GAP = Table(
    name="prior-gap",
    title="The prior gap: a generator fed from the known law instead of from data",
    about="One generator, the same budget, conditioned on encoders that were made in different ways; what it is fed "
    "is blurred by the same σ in every row (.2 at d = 2 and .5 at d = 16, not that of the default spec's noise "
    "where it is larger), or by twice that where it says so. Fréchet distances between features of a classifier "
    "trained on the same dataset, to one half of the held-out images: of draws of the prior, of images made "
    "from the embeddings of the other half, and (floor) of that half itself; means of two, for which the halves "
    "change places (rows of MNIST from before that: one half, its floor of as many training images). Of digits "
    "half are held out. "
    "Prior gap: the first over the second; 1 is perfect. Above floor: the same without the floor, which "
    "finitely many images add to both; a dash where nothing is left of the second. Class: share of images made "
    "from an embedding that have the class of its image; with few of them a small gap says little. Shares: "
    "total variation between the shares of classes among draws of the prior and among real images.",
    headings=("d", "encoder", "generator"),
    rows=_rows,
    columns=(
        Column("SW2 / floor", lambda run: run["report"].get("sw2_ratio"), ".1f"),
        Column("prior gap", _of("prior_gap"), ".2f"),
        Column("above floor", _above_floor, ".2f"),
        Column("FD prior", _of("prior", "frechet_distance"), ".1f"),
        Column("FD held-out", _of("heldout", "frechet_distance"), ".1f"),
        Column("FD floor", _of("floor"), ".1f"),
        Column("precision", _of("prior", "precision"), ".2f"),
        Column("recall", _of("prior", "recall"), ".2f"),
        Column("class", _of("heldout", "class_agreement"), ".2f"),
        Column("shares", _of("prior", "class_distance"), ".2f"),
        Column(
            "s",
            lambda run: run["train_s"],
            ".0f",
            "seconds of the generator's training, by the clock",
            cost=True,
        ),
    ),
    figure=_figure,
    store=_store,
)
