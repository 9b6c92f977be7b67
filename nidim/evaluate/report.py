"""The report on a frozen encoder: immutable, JSON-able values, every field with its unit or scale.

The keys at the top of :class:`Report` are the summary that a service shows; the sections below them hold
what the summary was taken from. A section that could not be computed is None, and ``absent`` says why.

Conventions: information in nats; p-values of single tests, with ``reject`` at α = .05; a *ratio* is a
distance divided by the mean of the same distance over sets of equally many true draws, so 1 is perfect.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nidim.conformal import Conformal
from nidim.drift import Tolerance

ALPHA = 0.05
"""Level of every rejection flag."""


class Section(BaseModel):
    """Base of everything in a report: immutable, no unknown field, no infinity or NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Outcome(Section):
    """One hypothesis test."""

    statistic: float = Field(description="in the scale that `method` names")
    p: float = Field(
        ge=0, le=1, description="p-value; 0 where it is below what a float or the method resolves"
    )
    reject: bool = Field(description="p < .05")
    n: int = Field(description="embeddings used")
    method: str = Field(description="statistic and null law in a few words")

    @classmethod
    def of(cls, statistic: float, p: float, *, n: int, method: str) -> Outcome:
        """An outcome whose flag follows from ``p``."""
        p = min(max(float(p), 0.0), 1.0)
        return cls(statistic=float(statistic), p=p, reject=p < ALPHA, n=n, method=method)


class HenzeZirkler(Section):
    """Henze–Zirkler (fitted moments) over random subsamples, beside the same protocol on true draws."""

    p: float = Field(description="mean p over the subsamples")
    p_null: float = Field(description="mean p of the same protocol on true Gaussian draws of this d and n")
    p_null_sd: float = Field(description="standard deviation of that mean between sets of true draws")
    reject: float = Field(description="share of subsamples with p < .05")
    reject_null: float = Field(description="that share on true draws")
    below_null: bool = Field(description="p is below the 5 % point of what true draws give: the match fails")
    subsamples: int = Field(description="K")
    size: int = Field(description="embeddings in a subsample")
    histogram: tuple[int, ...] = Field(description="subsamples by p, equal cells of [0, 1]")
    histogram_null: tuple[float, ...] = Field(description="the same on true draws, scaled to K")


class Marginals(Section):
    """A normality test with fitted moments, coordinate by coordinate."""

    pass_share: float = Field(description="share of coordinates with p >= .05; .95 is expected under the law")
    worst_coordinate: int = Field(description="index of the coordinate with the smallest p")
    worst_p: float = Field(description="its p")
    reject: bool = Field(
        description="Bonferroni: worst p · d < .05; D'Agostino–Pearson by the smaller p of its two parts, doubled"
    )
    n: int = Field(description="embeddings used")
    pass_share_of_1000: float | None = Field(
        None,
        description="the share when 1,000 embeddings are tested at a time, mean over ten such sets at most; comparable "
        "between test sets of any size. None with fewer, or in an older report",
    )


class FittedTests(Section):
    """Tests of the shape alone: mean and covariance are fitted first, so N(5, anything) passes them."""

    henze_zirkler: HenzeZirkler | None
    mardia_skewness: Outcome | None
    mardia_kurtosis: Outcome | None
    shapiro: Marginals
    dagostino: Marginals
    anderson: Marginals


class SimpleTests(Section):
    """Tests of the promise itself, nothing fitted: normal scores against N(0, I)."""

    ks: Outcome = Field(description="Kolmogorov–Smirnov against Φ per coordinate, Fisher-combined")
    chi2: Outcome = Field(description="Pearson χ² over equally likely cells per coordinate, summed")
    mean: Outcome = Field(description="n‖mean‖² against χ²_d")
    covariance: Outcome = Field(description="n/2·‖S − I‖² (S about 0): variances and correlations at once")
    radius: Outcome = Field(description="Kolmogorov–Smirnov of ‖s‖² against χ²_d")
    bhep: Outcome = Field(description="Henze–Zirkler's statistic with nothing fitted, simulated p")
    energy: Outcome = Field(description="energy distance to true draws, permutation p")
    sliced_epps_pulley: Outcome = Field(description="mean over random projections, exact limit law")
    worst_slice: Outcome = Field(description="largest Epps–Pulley over random projections, Bonferroni")


class Distance(Section):
    """A distance or an error, beside its floor: what equally many true draws show."""

    value: float
    floor: float = Field(description="mean over independent sets of true draws")
    floor_sd: float = Field(description="standard deviation between those sets")
    ratio: float = Field(description="value / floor; 1 is a perfect match")
    n: int = Field(description="embeddings used")
    definition: str = Field(description="what is measured, and in which scale")


class Distances(Section):
    """How far from the law, each as a ratio to its floor."""

    sw2: Distance
    sw2_worst: Distance
    energy: Distance
    mmd: Distance
    bhep: Distance
    epps_pulley: Distance
    mean_rms: Distance
    mean_max: Distance
    variance_rms: Distance
    variance_max: Distance
    correlation_rms: Distance | None = Field(None, description="None when d = 1")
    correlation_max: Distance | None = Field(None, description="None when d = 1")
    skewness_rms: Distance
    kurtosis_rms: Distance
    effective_rank: Distance = Field(description="below 1 when directions collapse")


class OwnScale(Section):
    """The match in the law's own scale, where its tails are."""

    w1: Distance
    quantile_low: Distance
    quantile_high: Distance
    log_score_nats: float | None = Field(
        description="mean log-density of the law per coordinate at held-out embeddings, nats; None: some lie outside "
        "its support"
    )
    log_score_law_nats: float = Field(description="the same of true draws: minus the law's entropy, nats")


class Battery(Section):
    """Everything that compares one set of embeddings with one law."""

    embeddings: Literal["clean", "noisy"] = Field(description="f(x), or f(x) + Z")
    law: str = Field(description="the law compared with, in words")
    n: int = Field(description="held-out embeddings")
    outside: float = Field(description="share of coordinates outside the law's support or at its very edge")
    collapsed: int = Field(description="coordinates without any variance")
    fitted: FittedTests
    simple: SimpleTests
    distances: Distances
    own_scale: OwnScale | None = Field(None, description="None in reports from before it was measured")


class Certificate(Section):
    """KL of the noisy law from its target in nats, from held-out embeddings and the exact critic."""

    law: str = Field(description="the target of the noisy embedding")
    sigma: float | None = Field(description="σ of the Gaussian noise")
    epsilon: float | None = Field(description="ε of the uniform noise")
    capacity_nats: float = Field(description="C of the channel, nats")
    information_nats: float = Field(description="InfoNCE of I(f(X); f(X)+Z) with the exact critic, nats")
    ceiling_nats: float = Field(description="log n: no sample bound shows more, nats")
    moment_nats: float = Field(description="½ Σ (s² + μ² − 1)/(1 + σ²), nats; 0 for uniform noise")
    kl_bound_nats: float = Field(description="C + moments − information, nats; may be negative")
    kl_bound_se_nats: float = Field(description="standard error, delete-a-block jackknife, nats")
    kl_bound_upper95_nats: float = Field(description="upper end of the one-sided 95 % interval, nats")
    best_reachable_nats: float = Field(description="C − log n, at least 0: the least this n could certify")
    kl_floor_nats: float | None = Field(
        None, description="kl_bound_nats of as many true draws of the law; None for uniform noise"
    )
    kl_flag: Literal["ok", "negative", "out_of_reach"] = Field(
        description="negative: the point estimate is below 0, within its error the law is filled; out_of_reach: "
        "C is more than d/4 nats above log n, a small bound is impossible"
    )
    n: int = Field(description="held-out embeddings: anchors and candidates")
    blocks: int = Field(description="of the jackknife")


class Probes(Section):
    """Accuracy on held-out images of classifiers trained on clean train embeddings, share of 1."""

    linear: float = Field(description="multinomial logistic regression on standardised embeddings")
    linear_converged: bool = Field(description="it met its tolerance within the iteration cap")
    knn_euclidean: float = Field(description="majority of the k nearest, Euclidean")
    knn_cosine: float = Field(description="majority of the k nearest, cosine")
    k: int
    naive_bayes: float = Field(description="Gaussian naive Bayes")
    mlp: float | None = Field(description="scikit-learn MLP (128, 128), early stopping; None at level quick")
    n_train: int = Field(description="train embeddings that logistic regression and MLP were fitted to")
    n_test: int
    n_knn: int | None = Field(None, description="held-out embeddings of the k nearest; None: n_test")
    chance: float = Field(description="share of the most frequent held-out class")


class Clustering(Section):
    """How the classes lie in the held-out embeddings, and what k-means finds without them."""

    silhouette: float = Field(description="mean silhouette of the classes, in [−1, 1], on a subsample")
    davies_bouldin: float = Field(description="Davies–Bouldin index of the classes; smaller is better")
    calinski_harabasz: float = Field(description="Calinski–Harabasz index of the classes; larger is better")
    kmeans_nmi: float = Field(description="normalised mutual information of k-means with the classes, [0, 1]")
    kmeans_ari: float = Field(description="adjusted Rand index of k-means with the classes")
    n: int
    n_silhouette: int
    n_kmeans: int | None = Field(None, description="embeddings that k-means was fitted to; None: n")


class Representation(Section):
    """What is measured of representations without labels, from views of held-out images."""

    rankme: float = Field(
        description="RankMe, between 1 and d: effective rank of the embeddings, not centred"
    )
    lidar: float = Field(
        description="LiDAR, between 1 and d: effective rank of images over views of an image"
    )
    alignment: float = Field(
        description="mean squared distance of two views of an image on the unit sphere; smaller is better"
    )
    uniformity: float = Field(
        description="log of the mean Gaussian potential (t = 2) of two images on the unit sphere, in [−8, 0]; "
        "smaller is better"
    )
    n: int = Field(description="held-out images")
    views: int = Field(description="views of each, made by the training's augmentation")


class TargetFit(Section):
    """How well a flow fits the points that it was fitted to: judged without the encoder, on points it never saw."""

    n: int = Field(description="points of the sample")
    n_heldout: int = Field(description="of them, those that the fit never saw")
    steps: int = Field(description="of the fit, chosen on other points than these")
    heldout_nats: float = Field(
        description="mean log-density of the flow at the held-out points, nats a point"
    )
    gaussian_nats: float = Field(
        description="the same of a Gaussian with the mean and covariance of the fitted ones"
    )
    sw2: Distance


class TrainedOn(Section):
    """How near to the law the clean embeddings of images lie that were trained on.

    What held-out ones are farther away is generalisation, or they are images of another kind.
    """

    n: int = Field(description="training images, drawn at random, as many as were held out")
    sw2: Distance
    hz_p: float | None = Field(description="Henze–Zirkler: mean p over subsamples of 64")
    hz_reject: float | None = Field(description="share of subsamples rejected at .05")


class Calibration(Section):
    """What a running service measures images by, from held-out images: outliers by rank, drift beyond a tolerance."""

    conformal: Conformal = Field(
        description="‖s‖² of held-out images, for p-values that hold for this encoder"
    )
    tolerance: Tolerance = Field(
        description="how far held-out images are from the law, with a bound on its error"
    )


class Report(Section):
    """What is known of a frozen encoder. The summary first, then the sections it was taken from."""

    format_version: int = 1
    mi_nats: float | None = Field(description="trained bound on I(f(X'); f(X)+Z), held-out pairs, nats")
    capacity_nats: float | None = Field(
        description="C of the certificate's channel, nats; None without noise"
    )
    sigma: float | None = Field(description="σ of the certificate's noise")
    epsilon: float | None = Field(description="ε of the certificate's noise")
    trained_with_noise: bool = Field(
        description="False: the noise was only added afterwards, to judge the encoder"
    )
    kl_bound_nats: float | None = Field(description="certificate.kl_bound_nats")
    kl_bound_upper95_nats: float | None = Field(description="certificate.kl_bound_upper95_nats")
    kl_flag: Literal["ok", "negative", "out_of_reach", "none"] = Field(description="none: no certificate")
    hz_p: float | None = Field(description="Henze–Zirkler: mean p over subsamples of 64")
    hz_p_null: float | None = Field(description="the same on true draws: compare hz_p with this")
    hz_reject: float | None = Field(description="share of subsamples rejected at .05")
    hz_reject_null: float | None = Field(description="the same on true draws")
    sw2_ratio: float | None = Field(description="sliced Wasserstein-2 over its floor; 1 is perfect")
    linear: float | None = Field(description="probes.linear, share of 1")
    knn: float | None = Field(description="probes.knn_euclidean, share of 1")
    mlp: float | None = Field(description="probes.mlp, share of 1")

    dim: int
    n_train: int
    n_heldout: int
    batch_size: int | None = Field(
        description="of the training: the trained bound cannot show more than its log"
    )
    tested: Literal["clean", "noisy"] = Field(description="which embeddings the promise is about")
    certificate: Certificate | None
    clean: Battery | None
    noisy: Battery | None
    trained_on: TrainedOn | None = Field(
        None, description="the clean battery's figures on training images; None also in reports from before"
    )
    probes: Probes | None
    clustering: Clustering | None
    target_fit: TargetFit | None = Field(None, description="of a prior of kind flow")
    representation: Representation | None = Field(
        None, description="None also in reports from before it was measured"
    )
    calibration: Calibration | None = Field(
        None, description="of the clean embeddings; None also in reports from before it was measured"
    )
    absent: dict[str, str] = Field(description="section -> why it is None, or says nothing")
    level: Literal["full", "quick"]
    seed: int
    wall_s: dict[str, float] = Field(description="seconds by stage")
    provenance: dict[str, Any] = Field(
        description="from the caller: spec digest, git revision, versions, device"
    )

    @property
    def promised(self) -> Battery | None:
        """The battery on the embeddings that the promise is about."""
        return self.noisy if self.tested == "noisy" else self.clean
