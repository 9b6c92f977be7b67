"""One call from clean embeddings to a Report: the match with the law, the certificate, the usefulness.

No torch and no images here: arrays in, a frozen value out. Every random choice follows from ``seed``.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from nidim.capacity import Resolved
from nidim.evaluate import laws
from nidim.evaluate.battery import FULL, QUICK
from nidim.evaluate.report import Battery, Certificate, Probes, Report
from nidim.evaluate.stages import Embedded, Progress, Stages
from nidim.evaluate.target import target_fit
from nidim.priors import FlowPrior, Prior
from nidim.spec import TrainSpec

Level = Literal["full", "quick"]


def evaluate(
    embedded: Embedded,
    *,
    spec: TrainSpec,
    resolved: Resolved,
    mi_nats: float | None,
    prior: Prior,
    noisy: Prior,
    seed: int = 0,
    progress: Progress | None = None,
    level: Level = "full",
    certificate_sigma: float | None = None,
    certificate_epsilon: float | None = None,
    probe_train_max: int | None = None,
    provenance: dict[str, Any] | None = None,
) -> Report:
    """Judge a frozen encoder by its clean embeddings.

    Arguments:
        embedded: clean f(x), train and held-out; the law is judged on the held-out ones alone. Views of some held-out
            images for the section ``representation``, where there are any.
        spec: the filled spec; which noise the training used.
        resolved: σ, ε, C and the batch of the training.
        mi_nats: the trained bound on I(f(X'); f(X)+Z), nats; passed through, never mixed with the certificate.
        prior: the law promised to f(X).
        noisy: the law promised to f(X)+Z, in the scale in which noise is served.
        seed: of every random choice.
        progress: called with the share of the work that is done, from 0 to 1.
        level: "quick" takes fewer subsamples, slices and true draws, and leaves the MLP probe out.
        certificate_sigma, certificate_epsilon: σ or ε for an encoder trained without noise, so that it stands beside
            others; ε for a sigmoid output, σ for the rest.
        probe_train_max: at most so many train embeddings for the logistic and the MLP probe.
        provenance: stored as it is: spec digest, git revision, versions, device.

    Raises ValueError for embeddings that are not finite, or whose shapes or labels disagree.
    """
    _check(embedded, prior)
    effort = FULL if level == "full" else QUICK
    run = Stages(embedded, prior, noisy, seed=seed, effort=effort, progress=progress)
    sigma, epsilon = _noise(spec, resolved, prior, certificate_sigma, certificate_epsilon)
    clean = run.clean()
    with_noise = run.noisy(epsilon) if resolved.epsilon is not None and epsilon is not None else None
    certified = run.certificate(sigma, epsilon)
    of_training = run.trained_on()
    calibration, representation = run.calibration(), run.representation()
    found, grouped = run.probes(train_max=probe_train_max), run.clustering()
    if mi_nats is not None and not math.isfinite(mi_nats):
        mi_nats, run.absent["mi_nats"] = None, f"the trained bound is {mi_nats} on held-out images"
    run.finished()
    tested: Literal["clean", "noisy"] = "clean" if with_noise is None else "noisy"
    return Report(
        **_summary(clean if tested == "clean" else with_noise, certified, found),
        mi_nats=mi_nats,
        capacity_nats=resolved.capacity_nats if certified is None else certified.capacity_nats,
        sigma=sigma,
        epsilon=epsilon,
        trained_with_noise=_has_noise(spec),
        dim=prior.dim,
        n_train=len(embedded.train),
        n_heldout=len(embedded.test),
        batch_size=resolved.batch_size,
        tested=tested,
        certificate=certified,
        clean=clean,
        noisy=with_noise,
        trained_on=of_training,
        probes=found,
        clustering=grouped,
        target_fit=target_fit(prior, effort.distances) if isinstance(prior, FlowPrior) else None,
        representation=representation,
        calibration=calibration,
        absent=run.absent,
        level=level,
        seed=seed,
        wall_s=run.wall_s,
        provenance=provenance or {},
    )


def _noise(
    spec: TrainSpec, resolved: Resolved, prior: Prior, given_sigma: float | None, given_epsilon: float | None
) -> tuple[float | None, float | None]:
    """(σ, ε) of the certificate: the training's own, or those given for an encoder without noise."""
    given = given_sigma is not None or given_epsilon is not None
    if _has_noise(spec):
        if given:
            raise ValueError("certificate_sigma and certificate_epsilon are for an encoder without noise")
        return resolved.sigma, resolved.epsilon
    if given and (given_epsilon is None) == laws.is_sigmoid(prior):
        raise ValueError("give certificate_epsilon for a sigmoid output, certificate_sigma for any other")
    return given_sigma, given_epsilon


def _has_noise(spec: TrainSpec) -> bool:
    return spec.noise is not None and spec.noise.kind != "none"


def _summary(promised: Battery | None, certified: Certificate | None, found: Probes | None) -> dict[str, Any]:
    protocol = promised.fitted.henze_zirkler if promised else None
    return {
        "kl_bound_nats": certified.kl_bound_nats if certified else None,
        "kl_bound_upper95_nats": certified.kl_bound_upper95_nats if certified else None,
        "kl_flag": certified.kl_flag if certified else "none",
        "hz_p": protocol.p if protocol else None,
        "hz_p_null": protocol.p_null if protocol else None,
        "hz_reject": protocol.reject if protocol else None,
        "hz_reject_null": protocol.reject_null if protocol else None,
        "sw2_ratio": promised.distances.sw2.ratio if promised else None,
        "linear": found.linear if found else None,
        "knn": found.knn_euclidean if found else None,
        "mlp": found.mlp if found else None,
    }


TOO_FAR = 1e12
"""Beyond it squares and cubes of embeddings leave the floats in which statistics are computed."""


def _check(embedded: Embedded, prior: Prior) -> None:
    for field, x, labels in (
        ("train", embedded.train, embedded.train_labels),
        ("test", embedded.test, embedded.test_labels),
    ):
        if not isinstance(x, np.ndarray):
            raise ValueError(
                f"{field}: expected a NumPy array, got {type(x).__name__}; of torch: tensor.numpy()"
            )
        if x.ndim != 2 or x.shape[1] != prior.dim:
            raise ValueError(f"{field}: expected embeddings (n, {prior.dim}), got shape {x.shape}")
        if not (np.abs(x) < TOO_FAR).all():
            raise ValueError(
                f"{field}: embeddings are not finite, or beyond {TOO_FAR:g}; the training diverged, lower its rate"
            )
        if labels is not None and labels.shape != x.shape[:1]:
            raise ValueError(f"{field}_labels: expected shape ({len(x)},), got {labels.shape}")
    views = embedded.views
    if views is not None and (views.ndim != 3 or views.shape[2] != prior.dim):
        raise ValueError(f"views: expected embeddings (m, v, {prior.dim}), got shape {views.shape}")
    if views is not None and not np.isfinite(views).all():
        raise ValueError("views: embeddings are not finite; the training diverged, lower its rate")
