"""Runs of a table: trained once, kept as files, found again.

Laws that are maps of the same Gaussian latent share a training: only the last map differs, which no gradient sees.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nidim import machine
from nidim.data import Dataset
from nidim.pipeline import Hooks, embed_dataset, evaluate_fitted, provenance_of
from nidim.priors import make_prior
from nidim.reproduce import posthoc
from nidim.reproduce.sets import SetName, open_set
from nidim.reproduce.table import Row, Run
from nidim.spec import DatasetFacts, FullSpec, TrainSpec
from nidim.spec.base import Part
from nidim.spec.generator import FullGeneratorSpec
from nidim.spec.laws import GaussianPrior
from nidim.staged import fit_in_stages
from nidim.train import Fitted
from nidim.warp import build_warp

FORMAT = 1
Cost = dict[str, float]
"""Of a training: seconds by the clock and of processors, peak memory in MB."""


class Runs:
    """The runs of one table below ``root``, and how missing ones are made."""

    def __init__(self, root: Path, *, datasets_dir: Path | None, allow_downloads: bool = False) -> None:
        self._root = root
        self._datasets_dir, self._allow_downloads = datasets_dir, allow_downloads
        self._loaded: tuple[SetName, Dataset] | None = None
        self._facts: dict[SetName, DatasetFacts] = {}
        self._trained: tuple[str, Fitted, Cost] | None = None

    def specs(self, row: Row) -> Mapping[str, tuple[type[Part], Any]]:
        """The spec of the training."""
        return {f"Row {row.name}": (TrainSpec, {"dataset": row.dataset, **row.changes})}

    def find(self, row: Row, seed: int) -> Run | None:
        """The stored run, if it was made by the spec that the row has now."""
        try:
            found: Run = json.loads(self._path(row, seed).read_text())
        except (OSError, ValueError):
            return None
        wanted = (FORMAT, row.posthoc, self._spec(row, seed).digest)
        made = (found.get("format"), found.get("posthoc"), digest_now(FullSpec, found.get("spec")))
        return found if made == wanted and self._of_its_images(found, row) else None

    def make(self, row: Row, seed: int, hooks: Hooks) -> Run:
        """Train, evaluate and store."""
        dataset, spec = self._dataset(row), self._spec(row, seed)
        fitted, cost = self._fit(spec, dataset, hooks)
        provenance = provenance_of(spec, fitted.resolved, dataset)
        prior = make_prior(spec)
        fitted.model.warp = build_warp(prior)
        embedded = posthoc.applied(row.posthoc, embed_dataset(spec, fitted, dataset, hooks))
        report = evaluate_fitted(spec, prior, fitted, embedded, hooks)
        run = {
            "format": FORMAT,
            "row": row.name,
            "seed": seed,
            "posthoc": row.posthoc,
            **cost,
            "spec": spec.stored().model_dump(mode="json"),
            "resolved": fitted.resolved.model_dump(mode="json"),
            "report": report.model_dump(mode="json"),
            "provenance": provenance,
        }
        path = self._path(row, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run, indent=1, allow_nan=False))
        return run

    def _path(self, row: Row, seed: int) -> Path:
        return self._root / f"{row.name}-seed{seed}.json"

    def _dataset(self, row: Row) -> Dataset:
        if self._loaded is None or self._loaded[0] != row.data:
            dataset = open_set(row.data, root=self._datasets_dir, allow_downloads=self._allow_downloads)
            self._loaded = (row.data, dataset)
            self._facts[row.data] = dataset.facts
        return self._loaded[1]

    def _of_its_images(self, found: Run, row: Row) -> bool:
        """Whether it was trained on and judged by as many images as the row has, as far as it says."""
        facts, made = self._facts_of(row), found.get("provenance", {}).get("dataset")
        return made is None or (made["n_train"], made["n_test"]) == (facts.n_train, facts.n_test)

    def _facts_of(self, row: Row) -> DatasetFacts:
        return self._facts.get(row.data) or self._dataset(row).facts

    def _spec(self, row: Row, seed: int) -> FullSpec:
        given: Mapping[str, Any] = {"dataset": row.dataset, "seed": seed, **row.changes}
        return TrainSpec.model_validate(given).filled(self._facts_of(row))

    def _fit(self, spec: FullSpec, dataset: Dataset, hooks: Hooks) -> tuple[Fitted, Cost]:
        """What was trained and what it cost, from the run before where only the law differs."""
        from nidim.capacity import resolve

        key = f"{_latent(spec).digest} {dataset.digest}"
        if self._trained is None or self._trained[0] != key:
            hooks.phase("training")
            machine.reset_peak()
            began, worked = time.perf_counter(), time.process_time()
            fitted = fit_in_stages(
                spec,
                resolve(spec, dataset.facts)[0],
                dataset.train.images,
                heldout=dataset.test.images,
                on_step=hooks.on_step,
            )
            cost = {
                "train_s": round(time.perf_counter() - began, 1),
                "train_cpu_s": round(time.process_time() - worked, 1),
                "peak_mb": round(peak_mb()),
            }
            self._trained = (key, fitted, cost)
        return self._trained[1:]


def digest_now(kind: type[FullSpec] | type[FullGeneratorSpec], stored: object) -> str | None:
    """Of a stored spec, with the defaults of fields that came later; None where it is no spec any more."""
    try:
        return kind.model_validate(stored).digest
    except ValidationError:
        return None


def _latent(spec: FullSpec) -> FullSpec:
    """The spec whose training gives the same latent."""
    if make_prior(spec).through_normal:
        return spec.model_copy(update={"prior": GaussianPrior()})
    return spec


def peak_mb() -> float:
    """Peak resident memory of this process since ``machine.reset_peak``, MB; on a GPU that of its allocator."""
    import torch

    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else machine.peak_mb()
