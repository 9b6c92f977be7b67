"""The tables."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nidim.reproduce import asked, figures, pareto, power
from nidim.reproduce.predict import PREDICT
from nidim.reproduce.prior_gap import PRIOR_GAP
from nidim.reproduce.scale import SCALE
from nidim.reproduce.separability import SEPARABILITY
from nidim.reproduce.simulations import Simulations
from nidim.reproduce.table import (
    COST,
    DATASETS,
    INFORMATION,
    MATCHING,
    REPRESENTATION,
    USE,
    Posthoc,
    Row,
    Scale,
    Table,
    of_report,
    own_scale,
)
from nidim.spec import views
from nidim.spec.defaults import default_sigma

SIGMAS = (0.05, 0.1, 0.2, 1 / 3, 0.68, 1.134)
EPSILONS = (0.025, 0.05, 0.1, 0.2, 0.4)
LAWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("N(0, 1)", {"kind": "gaussian"}),
    ("U(0, 1)", {"kind": "uniform"}),
    ("Laplace", {"kind": "laplace"}),
    ("Student t, 5 degrees of freedom", {"kind": "student_t", "df": 5}),
    ("logistic", {"kind": "logistic"}),
    ("Beta(2, 5)", {"kind": "beta", "a": 2, "b": 5}),
    ("exponential", {"kind": "exponential"}),
    ("½ N(−2, 1) + ½ N(2, 1)", {"kind": "gaussian_mixture"}),
)


HORSESHOE_POINTS = 5000


def _encoder(dim: int) -> dict[str, Any]:
    return {"encoder": {"kind": "conv", "dim": dim}}


def _one_stage(dim: int) -> dict[str, Any]:
    """What the rows of a comparison share: a default of two stages would favour some of them."""
    return {**_encoder(dim), "method": {"kind": "infomax"}}


def _tradeoff(scale: Scale) -> Sequence[Row]:
    dataset, plain = DATASETS[scale], {**_one_stage(2), "regularizer": {"kind": "none"}}
    rows = []
    for sigma in SIGMAS:
        changes = {**plain, "noise": {"kind": "gaussian", "sigma": round(sigma, 4)}}
        rows.append(Row(f"gaussian-{sigma:.3f}", ("N(0, I)", f"{sigma:.3g}"), changes, dataset))
    for epsilon in EPSILONS:
        changes = {**plain, "noise": {"kind": "uniform", "epsilon": epsilon}}
        rows.append(Row(f"sigmoid-{epsilon:.3f}", ("U, sigmoid", f"{epsilon:.3g}"), changes, dataset))
    none = {**plain, "noise": {"kind": "none", "certificate_sigma": 0.2}}
    return [*rows, Row("none", ("no noise", "(0.2)"), none, dataset)]


TRADEOFF = Table(
    name="tradeoff",
    title="Accuracy against matching, over the strength of the noise",
    about="d = 2, noise alone. C bounds what the noisy channel carries, Î is the trained bound on what it does carry. "
    "`KL bound` and its 95 % end certify the *noisy* law, beside what as many true draws come to. HZ p and SW2 judge "
    "the clean embedding (for the sigmoid the noisy one). Large noise certifies nearly anything: read the certificate "
    "beside SW2.",
    headings=("law", "σ or ε"),
    rows=_tradeoff,
    columns=(*INFORMATION, *MATCHING, *USE, *COST),
    figure=figures.tradeoff,
)


def _targets(scale: Scale) -> Sequence[Row]:
    """At scale small with the σ of the other tables, not that which the few images of digits can certify."""

    def noise(dim: int) -> dict[str, Any]:
        return {"noise": {"kind": "gaussian", "sigma": default_sigma(dim)}} if scale == "small" else {}

    return [
        Row(
            f"{prior['kind']}-{dim}",
            (str(dim), title),
            {**_encoder(dim), **noise(dim), "prior": prior},
            DATASETS[scale],
        )
        for dim in (2, 16)
        for title, prior in (
            *LAWS,
            ("uniform on the sphere", {"kind": "sphere"}),
            (f"flow of {'a horseshoe' if dim == 2 else '8 horseshoes'}", horseshoes(dim)),
        )
    ]


@functools.cache
def horseshoes(dim: int) -> dict[str, Any]:
    """A prior of kind flow: d/2 independent horseshoes, a pair of coordinates each; 5,000 points, always the same.

    r (cos θ, sin θ) with θ ~ U(−3π/4, 3π/4), r ~ N(1, .12²): three quarters of a ring, in one piece.
    """
    rng = np.random.default_rng(0)
    angle = rng.uniform(-0.75 * np.pi, 0.75 * np.pi, (HORSESHOE_POINTS, dim // 2))
    radius = rng.normal(1, 0.12, angle.shape)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return {"kind": "flow", "points": pairs.reshape(len(pairs), dim).round(4).tolist()}


TARGETS = Table(
    name="targets",
    title="Laws beyond the Gaussian, each in its own scale",
    about="σ = .2 at d = 2 and .5 at d = 16, where the default of digits is larger. "
    "One training a dimension and seed: a law is the last map of the same Gaussian latent, which no gradient "
    "sees. W1: Wasserstein-1 per coordinate as a multiple of what equally many true draws show. Quantiles of all "
    "coordinates together: error as a share of the law's distance from its median, beside that of true draws. log p: "
    "mean log-density of held-out embeddings per coordinate in nats, beside that of true draws. The last two rows of a "
    "dimension are laws of dependent coordinates: the sphere has a dimension less (d = 2 is a circle), and the "
    "horseshoe of the flow is bent, so that straight lines separate less in it than neighbours and an MLP find.",
    headings=("d", "law"),
    rows=_targets,
    columns=(
        own_scale("w1", "W1 / floor", ".2f", part="ratio"),
        own_scale("quantile_low", "0.1 %", ".3f"),
        own_scale("quantile_low", "0.1 % of draws", ".3f", part="floor"),
        own_scale("quantile_high", "99.9 %", ".3f"),
        own_scale("quantile_high", "99.9 % of draws", ".3f", part="floor"),
        own_scale("log_score_nats", "log p", ".3f"),
        own_scale("log_score_law_nats", "log p of draws", ".3f"),
        of_report("hz_p", "HZ p", ".3f"),
        *USE,
    ),
    findings=asked.findings,
    figure=figures.targets,
)


def _bounds(scale: Scale) -> Sequence[Row]:
    kinds = (
        ("infonce", "InfoNCE"),
        ("donsker_varadhan", "Donsker–Varadhan"),
        ("nwj", "NWJ"),
        ("jsd", "JSD gradient, NWJ value"),
        ("smile", "SMILE, τ = 5"),
        ("nishiyama", "Nishiyama"),
    )
    critics = (("separable", "separable"), ("bilinear", "bilinear"), ("concat", "concatenated"))
    return [
        Row(
            f"{kind}-{critic}",
            (title, name),
            {**_one_stage(2), "objective": {"kind": kind}, "critic": {"kind": critic}},
            DATASETS[scale],
        )
        for kind, title in kinds
        for critic, name in critics
        if critic != "concat" or kind == "infonce" or scale == "full"
    ]


BOUNDS = Table(
    name="bounds",
    title="Bounds on information and critics",
    about="d = 2, default noise. Î is each bound's own value on held-out pairs (SMILE's may exceed C); the "
    "certificate is the same for all: InfoNCE with the exact critic of the channel. Concatenated: an MLP on every pair "
    "of a batch, at twenty times the cost; at scale small for InfoNCE alone.",
    headings=("bound", "critic"),
    rows=_bounds,
    columns=(*INFORMATION, *MATCHING, *USE, *COST),
    figure=figures.bounds,
)


LOCAL = {"kind": "infomax", "local": 1.0}
METHODS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("infomax", "Deep InfoMax", {"kind": "infomax"}),
    ("local", "Deep InfoMax with local maps", LOCAL),
    ("simclr", "SimCLR", {"kind": "simclr"}),
    ("vicreg", "VICReg", {"kind": "vicreg"}),
    ("barlow_twins", "Barlow Twins", {"kind": "barlow_twins"}),
    ("byol", "BYOL", {"kind": "byol"}),
    ("simsiam", "SimSiam", {"kind": "simsiam"}),
)


def _plugins(scale: Scale) -> Sequence[Row]:
    quiet = {"kind": "none", "certificate_sigma": 0.2}
    return [
        Row(
            f"{name}-{'noise' if noise else 'plain'}",
            (title, "σ = 0.2" if noise else "none"),
            {
                **_one_stage(2),
                "method": method,
                "noise": {"kind": "gaussian", "sigma": 0.2} if noise else quiet,
            },
            DATASETS[scale],
        )
        for name, title, method in METHODS
        for noise in (True, False)
    ]


PLUGINS = Table(
    name="plugins",
    title="Noise in other methods: match, use and overhead",
    about="d = 2. The same method with and without noise before its projection head; without, the certificate is "
    "evaluated at the same σ. Î is the method's own bound for Deep InfoMax, InfoNCE of the projections' cosines for "
    "the others. RankMe, LiDAR (both at most d), alignment and uniformity need no labels.",
    headings=("method", "noise"),
    rows=_plugins,
    columns=(*INFORMATION, *MATCHING, *USE, *REPRESENTATION, *COST),
    figure=figures.plugins,
)

RIVALS_OF: tuple[tuple[str, str, dict[str, Any], Posthoc | None], ...] = (
    ("noise", "noise alone", {"regularizer": {"kind": "none"}}, None),
    ("noise-sliced", "noise and sliced Epps–Pulley", {"regularizer": {"kind": "sliced_epps_pulley"}}, None),
    ("plain", "InfoNCE, nothing else", {}, None),
    ("sliced", "InfoNCE and sliced Epps–Pulley", {"regularizer": {"kind": "sliced_epps_pulley"}}, None),
    ("lejepa", "LeJEPA (SIGReg)", {"method": {"kind": "lejepa"}}, None),
    ("wasserstein", "InfoNCE and sliced Wasserstein", {"regularizer": {"kind": "sliced_wasserstein"}}, None),
    ("bhep", "InfoNCE and BHEP (MMD)", {"regularizer": {"kind": "bhep"}}, None),
    ("adversarial", "InfoNCE and adversarial prior", {"regularizer": {"kind": "adversarial"}}, None),
    ("uniformity", "InfoNCE and uniformity", {"regularizer": {"kind": "uniformity"}}, None),
    ("vicreg", "VICReg", {"method": {"kind": "vicreg"}}, None),
    ("whitening", "InfoNCE, whitened afterwards", {}, "whitening"),
    ("quantiles", "InfoNCE, quantiles mapped afterwards", {}, "quantiles"),
    ("flow", "InfoNCE, a normalising flow afterwards", {}, "flow"),
)


def _rivals(scale: Scale) -> Sequence[Row]:
    """Rows that share a training stand together."""
    rows = []
    for dim in (2, 16):
        sigma = default_sigma(dim)
        for name, title, changes, posthoc in sorted(RIVALS_OF, key=lambda rival: rival[2] == {}):
            noise: dict[str, Any] = {"kind": "none", "certificate_sigma": sigma}
            if name.startswith("noise"):
                noise = {"kind": "gaussian", "sigma": sigma}
            spec = {**_one_stage(dim), "regularizer": {"kind": "none"}, "noise": noise, **changes}
            rows.append(Row(f"{name}-{dim}", (str(dim), title), spec, DATASETS[scale], posthoc))
    return rows


RIVALS = Table(
    name="rivals",
    title="Ways to give an embedding its law",
    about="The same network, data, augmentation, optimiser and budget for every row; law N(0, I). The certificate of a "
    "row without noise is evaluated at the σ of the rows with it. What is mapped afterwards was fitted to training "
    "embeddings. RankMe, LiDAR (both at most d), alignment and uniformity need no labels.",
    headings=("d", "method"),
    rows=_rivals,
    columns=(*INFORMATION, *MATCHING, *USE, *REPRESENTATION, *COST),
    figure=pareto.figure,
    findings=pareto.findings,
)

SIGMA = 0.2


def _injection(scale: Scale) -> Sequence[Row]:
    where: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("output", "on the clean branch", {}),
        ("both", "on both branches", {"branches": "both"}),
        ("annealed", "on the clean branch, σ from 1 down", {"start": 1.0}),
        ("growing", "on the clean branch, σ from 0.05 up", {"start": 0.05}),
        ("layers", "on the clean branch, and 0.1 of the deviation after each block", {"layers": 0.1}),
        ("learned", "on the clean branch, σ of each coordinate learned within C", {"learned": True}),
    )
    rows = [
        Row(
            name,
            (title,),
            {
                **_one_stage(2),
                "noise": {"kind": "gaussian", "sigma": SIGMA, **changes},
                "regularizer": {"kind": "none"},
            },
            DATASETS[scale],
        )
        for name, title, changes in where
    ]
    local = {**rows[0].changes, "method": LOCAL}
    return [*rows, Row("local", ("on the clean branch, local maps beside it",), local, DATASETS[scale])]


INJECTION = Table(
    name="injection",
    title="Where and when to add the noise",
    about="d = 2, σ = 0.2 at the end of the training, at which C and the certificate are evaluated, also where each "
    "coordinate has learned its own. The last row is the first with a local bound beside the global one.",
    headings=("noise",),
    rows=_injection,
    columns=(*INFORMATION, *MATCHING, *USE, *COST),
    figure=figures.injection,
)
STRENGTHS = (0.0, 0.25, 0.5, 1.0, 1.5)
STROKES: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("elastic", "elastic .1, beside the default", {"elastic": 0.1}),
    ("morphology", "strokes .7, beside the default", {"morphology": 0.7}),
    ("strokes", "both, beside the default", {"elastic": 0.1, "morphology": 0.7}),
)


def _augmentation(scale: Scale) -> Sequence[Row]:
    usual = views.DigitsAugmentation()
    moves = ("rotate", "scale", "shear", "shift", "pixel_noise")
    rows = []
    for strength in STRENGTHS:
        values = {name: round(strength * getattr(usual, name), 4) for name in moves}
        changes = {**_one_stage(2), "augmentation": {"kind": "digits", **values}}
        rows.append(Row(f"strength-{strength:.2f}", (f"{strength:.2f} ×",), changes, DATASETS[scale]))
    for name, shown, more in STROKES:
        changes = {**_one_stage(2), "augmentation": {"kind": "digits", **more}}
        rows.append(Row(name, (shown,), changes, DATASETS[scale]))
    paper = {**_one_stage(2), "augmentation": {"kind": "pixel_noise"}}
    return [*rows, Row("pixel-noise", ("pixel noise .2, as in the paper",), paper, DATASETS[scale])]


AUGMENTATION = Table(
    name="augmentation",
    title="Strength of the augmentation",
    about="d = 2, default noise. Affine maps and pixel noise of the default, all strengths multiplied: 0 is the image "
    "itself. Then an elastic displacement, and strokes made thicker or thinner (morphology).",
    headings=("augmentation",),
    rows=_augmentation,
    columns=(*INFORMATION, *MATCHING, *USE, *COST),
    figure=figures.augmentation,
)


POWER = Table(
    name="power",
    title="What a p-value is worth",
    about="Simulations, no training: sets of n draws, once from N(0, I_d) itself and once from laws that depart from "
    "it by a known effect, through every test of the report, each at the level .05. The first table says whether a "
    "test keeps its level; the others, how large a departure must be before the test sees it. A test that does not "
    "reject says no more than that there is no larger departure of a kind that it sees.",
    headings=("n", "d"),
    rows=power.rows,
    columns=(),
    figure=figures.power,
    store=lambda root, _: Simulations(root),
    page=power.page,
    values=power.values,
)

TABLES = {
    table.name: table
    for table in (
        TRADEOFF,
        TARGETS,
        BOUNDS,
        PLUGINS,
        RIVALS,
        INJECTION,
        AUGMENTATION,
        SCALE,
        PREDICT,
        POWER,
        SEPARABILITY,
        PRIOR_GAP,
    )
}
