"""An encoder of 8×8 gray digits, d = 2, without training: for servers that need one to be measured or tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nidim.spec import DatasetFacts
from service.store import Store, jobs
from service.store.encoders import Encoder

SIZE = 8


def write_bundle(
    directory: Path,
    *,
    report: dict[str, Any] | None = None,
    seen: NDArray[np.uint8] | None = None,
    facts: DatasetFacts | None = None,
    onnx: bool = False,
    **spec: Any,
) -> dict[str, Any]:
    """A tiny encoder without training, stored as the worker stores one; what registering it needs.

    ``seen``: images (n, 8, 8, 1) by which its outputs are normalised and its scores are calibrated.
    ``facts``: of another dataset than the digits. ``onnx``: with the exported file, which takes seconds to make.
    """
    import torch

    from nidim import bundle
    from nidim.build import build_encoder
    from nidim.capacity import resolve
    from nidim.priors import make_prior
    from nidim.spec import TrainSpec

    facts = facts or DatasetFacts(
        name="digits", n_train=1438, n_test=359, height=SIZE, width=SIZE, channels=1
    )
    wanted = {"dataset": "digits", "encoder": {"kind": "conv", "dim": 2, "width": 4}, **spec}
    filled = TrainSpec.model_validate(wanted).filled(facts)
    resolved, _ = resolve(filled, facts)
    torch.manual_seed(0)
    prior = make_prior(filled)
    model = build_encoder(filled, resolved, prior).eval()
    of = f" of {sorted(spec.items())}" if spec else ""  # files that are the same share a blob
    calibration = {} if seen is None else {"calibration": _fitted(model, prior, seen, resolved)}
    report = report or {
        **calibration,
        "mi_nats": 1.5,
        "hz_p": 0.4,
        "clean": {"n": 359, **({"of": of} if spec else {})},
    }
    manifest = bundle.save(
        directory,
        model=model,
        prior=prior,
        spec=filled,
        resolved=resolved,
        report=report,
        page=f"<!doctype html><title>report{of}</title>",
        card=f"# card{of}",
        provenance={},
        onnx=onnx,
    )
    return {
        "manifest": manifest.model_dump(),
        "report": report,
        "spec": filled.stored().model_dump(mode="json"),
        "resolved": resolved.model_dump(mode="json"),
        "dim": resolved.dim,
        "prior": prior.describe(),
        "size": manifest.size_bytes,
    }


def _fitted(model: Any, prior: Any, seen: NDArray[np.uint8], resolved: Any) -> dict[str, Any]:
    from nidim.conformal import conformal
    from nidim.drift import calibrate
    from nidim.embedding import embed
    from nidim.evaluate.report import Calibration
    from nidim.statistics import recompute_statistics

    recompute_statistics(model, seen, resolved)
    held = embed(model, seen)
    return Calibration(
        conformal=conformal(prior.outlyingness(held)), tolerance=calibrate(prior.normal_scores(held))
    ).model_dump(mode="json")


def register(
    store: Store, name: str, directory: Path, facts: dict[str, Any], *, kind: str = "train"
) -> Encoder:
    """The next version of ``name``, through the same functions as the worker; ``kind``: of the job."""
    for path in directory.iterdir():
        store.blobs.put_file(path)
    with store.begin() as tx:
        job = jobs.create(
            tx,
            kind=kind,
            spec=facts["spec"],
            resolved=facts["resolved"],
            warnings=[],
            encoder=name,
            priority="normal",
        )
        lease = jobs.take_lease(tx, job.id, owner="test", lease_s=60)
        assert lease is not None
        encoder = jobs.succeed(tx, lease, **facts)
    assert encoder is not None
    return encoder
