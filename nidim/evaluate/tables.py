"""What the page says in words and tables: key figures, the comparison, every test and distance."""

from __future__ import annotations

import dataclasses
import math

from nidim.evaluate.report import Battery, Distance, Marginals, Outcome, Report
from nidim.evaluate.sentence import nats


@dataclasses.dataclass(frozen=True)
class Key:
    """A figure to read first: label, value, and one line on what it says."""

    label: str
    value: str
    note: str


@dataclasses.dataclass(frozen=True)
class TestRow:
    """A test in a table; ``state`` is "pass", "fail" or "none"."""

    name: str
    value: str
    p: str
    state: str
    note: str


@dataclasses.dataclass(frozen=True)
class DistanceRow:
    """A distance in a table; ``bar`` in [0, 100] is the ratio on a logarithmic scale up to 100."""

    name: str
    value: str
    floor: str
    ratio: str
    bar: float
    note: str


DISTANCE_NAMES = {
    "sw2": "Sliced Wasserstein-2",
    "sw2_worst": "Worst projection, Wasserstein-2",
    "energy": "Energy distance",
    "mmd": "Maximum mean discrepancy",
    "bhep": "BHEP",
    "epps_pulley": "Sliced Epps–Pulley",
    "mean_rms": "Mean, root mean square",
    "mean_max": "Mean, largest",
    "variance_rms": "Variance, root mean square",
    "variance_max": "Variance, largest",
    "correlation_rms": "Correlation, root mean square",
    "correlation_max": "Correlation, largest",
    "skewness_rms": "Skewness",
    "kurtosis_rms": "Excess kurtosis",
    "effective_rank": "Effective rank",
}
OWN_SCALE_NAMES = {
    "w1": "Wasserstein-1 per coordinate",
    "quantile_low": "0.1 % quantile",
    "quantile_high": "99.9 % quantile",
}
SIMPLE_NAMES = {
    "ks": "Kolmogorov–Smirnov",
    "chi2": "Pearson χ²",
    "mean": "Mean",
    "covariance": "Covariance",
    "radius": "Squared norm",
    "bhep": "BHEP",
    "energy": "Energy distance",
    "sliced_epps_pulley": "Sliced Epps–Pulley",
    "worst_slice": "Worst projection",
}
OUTCOME_NAMES = {"mardia_skewness": "Mardia skewness", "mardia_kurtosis": "Mardia kurtosis"}
MARGINAL_NAMES = {
    "shapiro": "Shapiro–Wilk",
    "dagostino": "D’Agostino–Pearson",
    "anderson": "Anderson–Darling",
}

MARGINAL_RULE = "rejected where the worst p times the number of coordinates is below .05"
MARGINAL_RULES = {
    "dagostino": "rejected where the smaller p of its two parts, doubled, times the number of coordinates is below .05"
}


def p_text(p: float) -> str:
    """A p-value for people."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}"


def percent(share: float | None) -> str:
    """A share as a percentage, or a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


def key_figures(report: Report) -> list[list[Key]]:
    """The figures to read first, those that exist: a row on the law, a row on the use."""
    return [row for row in (_law_keys(report), _use_keys(report)) if row]


def _law_keys(report: Report) -> list[Key]:
    keys = []
    if certified := report.certificate:
        point = nats(certified.kl_bound_nats)
        note = f"KL of the noisy embedding from {certified.law}, 95 % confidence; point estimate {point}."
        keys.append(Key("Certificate", f"≤ {nats(certified.kl_bound_upper95_nats)} nats", note))
    if battery := report.promised:
        d = battery.distances.sw2
        own = report.trained_on if battery.embeddings == "clean" else None
        note = f"Sliced Wasserstein-2 of the {battery.embeddings} embedding to {battery.law}; true draws: 1"
        note += "." if own is None else f", images that were trained on: {own.sw2.ratio:.1f}."
        keys.append(Key("Distance to the law", f"{d.ratio:.1f} ×", note))
        if hz := battery.fitted.henze_zirkler:
            note = (
                f"Mean over {hz.subsamples:,} subsamples of {hz.size}; on true draws {hz.p_null:.3f}. "
                f"Rejects {percent(hz.reject)} of them, of true draws {percent(hz.reject_null)}."
            )
            if own is not None and own.hz_p is not None:
                note += f" Images that were trained on: {own.hz_p:.3f}."
            keys.append(Key("Henze–Zirkler p", f"{hz.p:.3f}", note))
    if report.mi_nats is not None:
        c = report.capacity_nats if report.trained_with_noise else None
        what = "an embedding tells" if c is None else "a noisy embedding tells"
        note = f"Trained bound on what {what} about another view of its image"
        note += "." if c is None else f"; the channel carries at most C = {nats(c)} nats."
        if report.mi_nats < 0:
            note += " Below 0 a bound says nothing."
        keys.append(Key("Information", f"{nats(report.mi_nats)} nats", note))
    return keys


def _use_keys(report: Report) -> list[Key]:
    p = report.probes
    if p is None:
        return []
    chance = f"always guessing the commonest class: {percent(p.chance)}."
    keys = [
        Key(
            "Linear probe", percent(p.linear), f"Logistic regression, {p.n_test:,} held-out images; {chance}"
        ),
        Key(
            "Nearest neighbours",
            percent(p.knn_euclidean),
            f"Majority of {p.k}; cosine {percent(p.knn_cosine)}.",
        ),
    ]
    if p.mlp is not None:
        keys.append(Key("MLP probe", percent(p.mlp), "A small network (128, 128) on the frozen embedding."))
    return keys


COMPARISON_HEAD = (
    "Encoder",
    "σ or ε",
    "Î, nats",
    "C, nats",
    "KL ≤, nats",
    "HZ p (true draws)",
    "SW2 ratio",
    "Linear",
    "kNN",
    "MLP",
)


def comparison_row(name: str, report: Report) -> tuple[str, ...]:
    """One encoder as a row of the comparison."""
    strength = report.epsilon if report.sigma is None else report.sigma
    hz = "–" if report.hz_p is None else f"{report.hz_p:.3f} ({report.hz_p_null:.3f})"
    return (
        name,
        "–" if strength is None else f"{strength:.3g}",
        _nats(report.mi_nats),
        _nats(report.capacity_nats),
        _nats(report.kl_bound_upper95_nats),
        hz,
        "–" if report.sw2_ratio is None else f"{report.sw2_ratio:.1f}",
        percent(report.linear),
        percent(report.knn),
        percent(report.mlp),
    )


def _nats(value: float | None) -> str:
    return "–" if value is None else nats(value)


def simple_rows(battery: Battery) -> list[TestRow]:
    """Tests of the promise itself."""
    return [_outcome_row(name, getattr(battery.simple, key)) for key, name in SIMPLE_NAMES.items()]


def fitted_rows(battery: Battery) -> list[TestRow]:
    """Tests of the shape, moments fitted."""
    fitted, rows = battery.fitted, []
    if hz := fitted.henze_zirkler:
        note = (
            f"{hz.subsamples:,} subsamples of {hz.size}; fails below the 5 % point of the same on true draws"
        )
        state = "fail" if hz.below_null else "pass"
        rows.append(TestRow("Henze–Zirkler", f"{percent(hz.reject)} rejected", f"{hz.p:.3f}", state, note))
    for key, name in OUTCOME_NAMES.items():
        outcome: Outcome | None = getattr(fitted, key)
        if outcome is not None:
            rows.append(_outcome_row(name, outcome))
    for key, name in MARGINAL_NAMES.items():
        m: Marginals = getattr(fitted, key)
        note = (
            f"per coordinate, {m.n:,} embeddings; the worst p is that of coordinate {m.worst_coordinate + 1}; "
            f"{MARGINAL_RULES.get(key, MARGINAL_RULE)}"
        )
        if m.pass_share_of_1000 is not None and m.n > 1000:
            note += f"; 1,000 at a time {percent(m.pass_share_of_1000)} pass"
        state = "fail" if m.reject else "pass"
        rows.append(
            TestRow(name, f"{percent(m.pass_share)} of coordinates ≥ .05", p_text(m.worst_p), state, note)
        )
    return rows


def representation_rows(report: Report) -> list[Key]:
    """What was measured without labels; nothing in reports without it."""
    r, d = report.representation, report.dim
    if r is None:
        return []
    alignment = "Mean squared distance of two views of an image on the unit sphere; smaller is better."
    uniformity = (
        "Log of the mean Gaussian potential of two images on the unit sphere, in [−8, 0]; smaller is better."
    )
    rank = "Effective rank of all embeddings, not centred, as published: a law whose mean is not 0 lowers it."
    return [
        Key("RankMe", f"{r.rankme:.1f} of {d}", rank),
        Key(
            "LiDAR",
            f"{r.lidar:.1f} of {d}",
            "Effective rank of the images over that of the views of an image.",
        ),
        Key("Alignment", f"{r.alignment:.3f}", alignment),
        Key("Uniformity", f"{r.uniformity:.3f}".replace("-", "−"), uniformity),
    ]


def _outcome_row(name: str, outcome: Outcome) -> TestRow:
    state = "fail" if outcome.reject else "pass"
    note = f"{outcome.method}; {outcome.n:,} embeddings"
    return TestRow(name, f"{outcome.statistic:.4g}".replace("-", "−"), p_text(outcome.p), state, note)


def distance_rows(battery: Battery) -> list[DistanceRow]:
    """Every distance with its floor."""
    found = [(name, getattr(battery.distances, key)) for key, name in DISTANCE_NAMES.items()]
    if battery.own_scale is not None:
        found += [(name, getattr(battery.own_scale, key)) for key, name in OWN_SCALE_NAMES.items()]
    return [_distance_row(name, distance) for name, distance in found if distance is not None]


def _distance_row(name: str, d: Distance) -> DistanceRow:
    return DistanceRow(
        name=name,
        value=f"{d.value:.4g}",
        floor=f"{d.floor:.4g} ± {d.floor_sd:.1g}",
        ratio=f"{d.ratio:.2f}" if d.ratio < 10 else f"{d.ratio:.0f}",
        bar=_bar(d.ratio),
        note=d.definition,
    )


def _bar(ratio: float) -> float:
    """Length of the bar of a ratio, percent: 0.1 is nothing, 1 a third, 100 all."""
    return round(100 * min(max((math.log10(max(ratio, 1e-9)) + 1) / 3, 0.0), 1.0), 1)
