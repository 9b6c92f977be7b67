"""evaluate() as a whole: every construction, every absence, determinism, JSON, and what it says in words."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import special

from nidim.capacity import Resolved, resolve
from nidim.evaluate import Embedded, Report, evaluate, laws, sentence
from nidim.evaluate.report import Certificate
from nidim.evaluate.tables import key_figures
from nidim.priors import GaussianPrior, UniformPrior, make_prior, noisy_prior
from nidim.spec import DatasetFacts, FullSpec, TrainSpec

GAUSSIAN = {"kind": "gaussian", "sigma": 0.5}
UNIFORM = {"kind": "uniform", "epsilon": 0.1}
NONE = {"kind": "none"}


def parts(dim: int, noise: dict[str, Any], prior: str, n_test: int) -> tuple[FullSpec, Resolved]:
    facts = DatasetFacts(name="made", n_train=600, n_test=n_test, height=8, width=8, channels=1, classes=3)
    spec = TrainSpec.model_validate(
        {"dataset": "made", "encoder": {"kind": "conv", "dim": dim}, "noise": noise, "prior": {"kind": prior}}
    ).filled(facts)
    return spec, resolve(spec, facts)[0]


def run(
    noise: dict[str, Any] = GAUSSIAN,
    prior: str = "gaussian",
    *,
    dim: int = 2,
    n_test: int = 400,
    labels: bool = True,
    n_views: int = 0,
    **options: Any,
) -> Report:
    law = make_prior(parts(dim, noise, prior, n_test)[0])
    train, test = law.sample(600, seed=1), law.sample(n_test, seed=2)
    views = None if n_views == 0 else law.sample(50 * n_views, seed=3).reshape(50, n_views, dim)
    classes = [(law.normal_scores(x)[:, 0] > 0).astype(np.int64) if labels else None for x in (train, test)]
    given = Embedded(train, classes[0], test, classes[1], views)
    return judged(given, noise, prior, mi_nats=1.5, **options)


def judged(
    given: Embedded, noise: dict[str, Any], prior: str, *, mi_nats: float | None = None, **options: Any
) -> Report:
    """What ``evaluate`` says of these embeddings, in short."""
    spec, resolved = parts(given.test.shape[1], noise, prior, len(given.test))
    law = make_prior(spec)
    return evaluate(
        given,
        spec=spec,
        resolved=resolved,
        mi_nats=mi_nats,
        prior=law,
        noisy=noisy_prior(law, resolved),
        level="quick",
        **options,
    )


@pytest.fixture(scope="module")
def report() -> Report:
    return run(provenance={"spec_digest": "sha256:00"})


def test_the_summary_is_taken_from_the_sections(report):
    hz, c = report.clean.fitted.henze_zirkler, report.certificate
    assert (report.hz_p, report.hz_p_null) == (hz.p, hz.p_null)
    assert (report.hz_reject, report.hz_reject_null) == (hz.reject, hz.reject_null)
    assert (report.kl_bound_nats, report.kl_bound_upper95_nats) == (c.kl_bound_nats, c.kl_bound_upper95_nats)
    assert report.sw2_ratio == report.clean.distances.sw2.ratio
    assert (report.linear, report.knn, report.mlp) == (
        report.probes.linear,
        report.probes.knn_euclidean,
        None,
    )
    assert (report.mi_nats, report.capacity_nats) == (1.5, c.capacity_nats)
    assert report.promised is report.clean


def test_true_draws_match(report):
    assert report.kl_bound_upper95_nats < 0.4
    assert 0.6 < report.sw2_ratio < 1.6
    assert not any(outcome.reject for _, outcome in report.clean.simple)
    assert report.linear > 0.95


def test_it_is_json_and_comes_back_the_same(report):
    text = json.dumps(report.model_dump(mode="json"), allow_nan=False)
    assert Report.model_validate_json(text) == report


def test_it_is_frozen_and_closed(report):
    with pytest.raises(ValidationError, match="frozen"):
        report.mi_nats = 3.0
    with pytest.raises(ValidationError, match="extra"):
        Report.model_validate({**report.model_dump(), "more": 1})


def test_it_is_deterministic(report):
    again = run(provenance={"spec_digest": "sha256:00"})
    assert again.model_copy(update={"wall_s": {}}) == report.model_copy(update={"wall_s": {}})


def test_progress_goes_from_nothing_to_all():
    seen: list[float] = []
    run(progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_uniform_through_phi_is_judged_on_normal_scores():
    gaussian, uniform = run(dim=3), run(prior="uniform", dim=3)
    assert uniform.tested == "clean"
    assert uniform.noisy is None
    assert uniform.certificate.law == "U([0, 1]³)"
    # the same stream of draws, up to the float32 of u: the same scores, so the same answers
    assert uniform.kl_bound_nats == pytest.approx(gaussian.kl_bound_nats, abs=1e-3)
    assert uniform.hz_p == pytest.approx(gaussian.hz_p, abs=1e-4)
    assert uniform.clean.simple.ks.p == pytest.approx(gaussian.clean.simple.ks.p, abs=1e-3)


def test_the_sigmoid_construction_is_judged_with_its_noise():
    grid = np.random.default_rng(0).integers(0, 6, size=(3000, 2)) / 5
    found = judged(Embedded(grid, None, grid, None), UNIFORM, "uniform")
    assert found.tested == "noisy"
    assert found.promised is found.noisy
    assert found.noisy.law == "U([−0.1, 1.1]²)"
    assert not found.noisy.simple.ks.reject
    assert not found.noisy.simple.chi2.reject
    assert found.sw2_ratio < 1.6
    assert found.clean.simple.ks.reject  # the clean grid is far from U([0, 1]²), as it should be
    assert found.kl_bound_upper95_nats < 0.05
    assert "only as ε → 0" in sentence(found)
    assert "noisy" in found.absent["trained_on"]


def test_without_noise_there_is_no_certificate_unless_a_noise_is_given():
    bare = run(NONE)
    assert (bare.certificate, bare.kl_bound_nats, bare.kl_flag, bare.capacity_nats) == (
        None,
        None,
        "none",
        None,
    )
    assert "without noise" in bare.absent["certificate"]
    assert sentence(bare).startswith("No certificate: the encoder was trained without noise")
    judged, own = run(NONE, certificate_sigma=0.5), run(GAUSSIAN)
    assert judged.certificate == own.certificate
    assert (judged.capacity_nats, judged.sigma) == (own.capacity_nats, own.sigma) == (own.capacity_nats, 0.5)
    assert (judged.trained_with_noise, own.trained_with_noise) == (False, True)
    assert "added after a training without noise" in sentence(judged)
    with pytest.raises(ValueError, match="without noise"):
        run(GAUSSIAN, certificate_sigma=0.3)


def test_the_noise_given_must_be_of_the_right_kind():
    with pytest.raises(ValueError, match="certificate_sigma for any other"):
        run(NONE, certificate_epsilon=0.1)


def test_without_labels_there_are_no_probes():
    found = run(labels=False)
    assert (found.probes, found.clustering, found.linear, found.knn) == (None, None, None, None)
    assert {found.absent["probes"], found.absent["clustering"]} == {"no labels"}


def test_views_of_held_out_images_give_a_section_and_their_absence_a_reason():
    found = run(n_views=4)
    assert (found.representation.n, found.representation.views) == (50, 4)
    assert "representation" not in found.absent
    assert "representation" in found.wall_s
    assert run().absent["representation"] == "no views of the held-out images"
    assert "1 views of 50" in run(n_views=1).absent["representation"]


def test_a_report_from_before_a_section_was_measured_still_loads(report):
    old = report.model_dump(mode="json", exclude={"representation", "calibration", "trained_on"})
    del old["probes"]["n_knn"], old["clustering"]["n_kmeans"], old["clean"]["own_scale"]
    read = Report.model_validate(old)
    assert (read.representation, read.calibration, read.trained_on) == (None, None, None)
    assert key_figures(read)


def test_what_was_trained_on_stands_beside_what_was_held_out():
    """Training images that follow the law and held-out ones that do not: generalisation, and it is said."""
    law = GaussianPrior(2)
    train, test = law.sample(3000, seed=1), law.sample(400, seed=2) + np.float32(0.5)
    found = judged(Embedded(train, None, test, None), GAUSSIAN, "gaussian")
    assert found.trained_on is not None
    assert found.trained_on.n == 400
    assert found.trained_on.sw2.floor == found.clean.distances.sw2.floor
    assert found.trained_on.sw2.ratio < 2 < 5 < found.sw2_ratio
    assert found.trained_on.hz_p == pytest.approx(found.hz_p_null, abs=0.1)
    said = {key.label: key.note for row in key_figures(found) for key in row}
    assert f"images that were trained on: {found.trained_on.sw2.ratio:.1f}" in said["Distance to the law"]
    assert f"Images that were trained on: {found.trained_on.hz_p:.3f}" in said["Henze–Zirkler p"]


def test_a_running_service_is_calibrated_by_the_clean_held_out_embeddings(report):
    """Draws of the law itself: conformal and theoretical p-values agree, and the tolerance is about chance."""
    found, law = report.calibration, GaussianPrior(2)
    assert (found.conformal.n, found.tolerance.n, found.tolerance.dim) == (400, 400, 2)
    x = law.sample(500, seed=9)
    p = found.conformal.p_value(law.outlyingness(x))
    assert np.abs(p - law.p_value(x)).max() < 0.1
    assert "calibration" in report.wall_s
    for region in found.tolerance.regions:
        assert np.linalg.norm(region.mean) < 1.2 * region.radius
        assert region.radius < 4 * math.sqrt(len(region.mean) / 400)


@pytest.mark.parametrize(
    ("n_test", "missing"),
    [
        (0, {"clean", "trained_on", "certificate", "probes", "clustering"}),
        (5, {"clean", "trained_on", "certificate"}),
        (30, {"clean.fitted.henze_zirkler", "certificate"}),
        (64, set()),
    ],
)
def test_few_held_out_images_give_a_smaller_report_with_reasons(n_test, missing):
    found = run(n_test=n_test)
    assert set(found.absent) == missing | {"representation", "calibration"}
    assert all(found.absent.values())
    assert sentence(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": np.full((30, 2), np.nan)}, "test: embeddings are not finite"),
        ({"test": np.full((30, 2), 1e20)}, r"test: .* beyond 1e\+12; the training diverged"),
        (
            {"train": torch.zeros((30, 2))},
            r"train: expected a NumPy array, got Tensor; of torch: tensor\.numpy",
        ),
        ({"train": np.zeros((30, 3))}, r"train: expected embeddings \(n, 2\), got shape \(30, 3\)"),
        ({"views": np.zeros((4, 3))}, r"views: expected embeddings \(m, v, 2\), got shape \(4, 3\)"),
        ({"views": np.full((4, 3, 2), np.inf)}, "views: embeddings are not finite"),
        ({"test_labels": np.zeros(29, dtype=int)}, r"test_labels: expected shape \(30,\)"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_the_argument_named(change, message):
    spec, resolved = parts(2, GAUSSIAN, "gaussian", 30)
    zeros, classes = np.zeros((30, 2)), np.zeros(30, dtype=int)
    values = {"train": zeros, "train_labels": classes, "test": zeros, "test_labels": classes, **change}
    law = make_prior(spec)
    with pytest.raises(ValueError, match=message):
        evaluate(Embedded(**values), spec=spec, resolved=resolved, mi_nats=None, prior=law, noisy=law)


def test_a_collapsed_encoder_gets_a_bad_report_and_not_an_error():
    spec, resolved = parts(2, GAUSSIAN, "gaussian", 200)
    zeros, classes = np.zeros((200, 2), dtype=np.float32), np.arange(200) % 3
    law = make_prior(spec)
    found = evaluate(
        Embedded(zeros, classes, zeros, classes),
        spec=spec,
        resolved=resolved,
        mi_nats=0.0,
        prior=law,
        noisy=noisy_prior(make_prior(spec), resolved),
        level="quick",
    )
    assert found.hz_reject == 1.0
    assert found.sw2_ratio > 5
    assert found.kl_bound_nats == pytest.approx(
        math.log(5) - 0.8, abs=0.01
    )  # KL( N(0, σ²) ‖ N(0, 1+σ²) ), d=2


def certified(**change: Any) -> Certificate:
    c = run().certificate
    return c.model_copy(update=change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"kl_bound_upper95_nats": 0.312},
            [
                "the law of the noisy embedding is within 0.31 nats of N(0, 1.25 I)",
                "95 % confidence",
                "400 held-out images",
                "not of the clean",
                "images like the held-out ones",
                "not say what the embedding is good for",
            ],
        ),
        ({"kl_flag": "negative", "kl_bound_nats": -0.02}, ["−0.02", "zero within its error"]),
        (
            {"kl_flag": "negative", "kl_bound_nats": -2.0, "kl_bound_upper95_nats": -1.0},
            ["not usable", "independent of each other"],
        ),
        (
            {"kl_flag": "out_of_reach", "best_reachable_nats": 45.5},
            ["can hardly show less than 45.50 nats", "log n", "little for it"],
        ),
        ({"sigma": 1.5}, ["At so much noise", "clean law"]),
        ({"sigma": None, "epsilon": 0.1}, ["uniform noise ε = 0.1"]),
    ],
    ids=["plain", "negative", "impossible", "out of reach", "loud", "uniform"],
)
def test_the_sentence_says_what_is_shown_and_what_is_not(report, change, words):
    text = sentence(report.model_copy(update={"certificate": certified(**change)}))
    assert [word for word in words if word not in text] == []


def test_the_sentence_does_not_hide_behind_one_distance(report):
    assert f"fail Henze–Zirkler's test {100 * report.hz_reject:.0f} % of the time" in sentence(report)
    without = report.model_copy(update={"hz_reject": None})
    assert sentence(without).endswith("(sliced Wasserstein-2).")


def test_noise_is_added_where_it_is_served():
    x = UniformPrior(2).sample(4000, seed=0)
    phi = laws.noisy_embeddings(x, UniformPrior(2), sigma=0.5, epsilon=None, seed=0)
    assert phi.min() > 0
    assert phi.max() < 1
    assert phi.std() == pytest.approx(math.sqrt(1 / 12), rel=0.03)
    wide = laws.noisy_embeddings(x, UniformPrior(2, construction="sigmoid"), sigma=None, epsilon=0.1, seed=0)
    assert np.abs(wide - x).max() <= 0.1
    plain = laws.noisy_embeddings(special.ndtri(x), GaussianPrior(2), sigma=0.5, epsilon=None, seed=0)
    assert plain.var() == pytest.approx(1.25, rel=0.05)
    assert laws.noisy_embeddings(x, GaussianPrior(2), sigma=None, epsilon=None, seed=0) is None


def test_importing_it_costs_no_torch():
    code = "import sys, nidim.evaluate, nidim.evaluate.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
