"""A tiny generator without training, stored as the worker stores one: for tests, and to measure what is around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.tiny_encoder import SIZE, register
from service.store import Store
from service.store.encoders import Encoder

FIGURES = {
    "frechet_distance": 2.0,
    "precision": 0.5,
    "recall": 0.5,
    "class_distance": None,
    "class_agreement": None,
}
REPORT: dict[str, Any] = {
    "images": 100,
    "draws": 1,
    "features": "classifier",
    "classifier_accuracy": 0.9,
    "floor": 1.0,
    "prior": FIGURES,
    "heldout": FIGURES,
    "prior_gap": 1.0,
    "prior_gap_sd": None,
}


def write_generator(
    directory: Path, source: Encoder, *, model: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A generator for the law and images of ``source``; what registering it needs."""
    import torch

    from nidim.generate import bundle
    from nidim.generate.models import build_generator
    from nidim.generate.report import GeneratorReport
    from nidim.priors import prior_from_dict
    from nidim.spec import DatasetFacts
    from nidim.spec.generator import GeneratorSpec, SourceFacts, resolve_generator

    facts = DatasetFacts(name="digits", n_train=1438, n_test=359, height=SIZE, width=SIZE, channels=1)
    source_facts = SourceFacts(dataset="digits", dim=source.dim, image_size=SIZE, channels=1)
    spec = GeneratorSpec.model_validate(
        {
            "kind": "generator",
            "source": f"{source.name}@{source.version}",
            "model": model or {"kind": "flow_matching", "width": 8, "steps": 2},
        }
    ).filled(source_facts, facts)
    resolved = resolve_generator(spec, source_facts, facts)
    torch.manual_seed(0)
    report = GeneratorReport.model_validate(REPORT)
    provenance = {
        "dataset": {"name": "digits", "license": None, "n_train": 1438, "n_test": 359},
        **dict.fromkeys(("nidim", "torch", "processor"), "made for a test"),
    }
    prior = prior_from_dict(source.prior)
    manifest = bundle.save(
        directory,
        model=build_generator(spec, resolved).eval(),
        prior=prior,
        spec=spec,
        resolved=resolved,
        source=bundle.SourceEncoder(ref=spec.source, digest=source.digest),
        report=report,
        card="",
        history=[],
        provenance=provenance,
    )
    return {
        "manifest": manifest.model_dump(),
        "report": report.model_dump(mode="json"),
        "spec": spec.model_dump(mode="json"),
        "resolved": resolved.model_dump(mode="json"),
        "dim": resolved.dim,
        "prior": prior.describe(),
        "size": manifest.size_bytes,
    }


def register_generator(store: Store, name: str, directory: Path, facts: dict[str, Any]) -> Encoder:
    """Store the files and register the generator as the result of a job, without a worker."""
    return register(store, name, directory, facts, kind="generator")
