"""The certificate in plain words: what is shown, at which confidence, and what it does not say."""

from __future__ import annotations

from nidim.evaluate.report import Certificate, Report


def sentence(report: Report) -> str:
    """What the report certifies about the law of the embeddings, for people."""
    certified = report.certificate
    if certified is None:
        why = report.absent.get("certificate", "it was not computed")
        return f"No certificate: {why}. {_clean_law(report)}".strip()
    added = "" if report.trained_with_noise else " added after a training without noise"
    return " ".join([_statement(certified, added), _limits(certified), _clean_law(report)]).strip()


def _statement(c: Certificate, added: str) -> str:
    bound = (
        f"With {_noise(c)}{added}, the law of the noisy embedding is within {nats(c.kl_bound_upper95_nats)} nats of "
        f"{c.law} (Kullback–Leibler, 95 % confidence, {c.n:,} held-out images)."
    )
    if c.kl_flag == "negative" and c.kl_bound_upper95_nats < 0:
        return (
            f"The certificate is not usable: its point estimate ({nats(c.kl_bound_nats)} nats) and its 95 % end "
            f"({nats(c.kl_bound_upper95_nats)}) are negative, which a distance cannot be; "
            "an exact match comes out so about once in twenty times, otherwise check that the held-out images are "
            "independent of each other."
        )
    if c.kl_flag == "negative":
        return f"{bound} The point estimate is {nats(c.kl_bound_nats)}: zero within its error."
    if c.kl_flag == "out_of_reach":
        return (
            f"{bound} {c.n:,} images can hardly show less than {nats(c.best_reachable_nats)} nats here: the channel "
            f"carries {nats(c.capacity_nats)} nats and no sample of this size shows more than log n = "
            f"{nats(c.ceiling_nats)}. Nothing is shown against a good match, and little for it."
        )
    if c.kl_floor_nats is not None:
        floor, found = nats(c.kl_floor_nats), nats(c.kl_bound_nats)
        return f"{bound} The point estimate is {found}; as many true draws come to {floor}."
    return bound


def _limits(c: Certificate) -> str:
    limits = (
        "It speaks of the embedding with noise, not of the clean one, and of images like the held-out ones; it does "
        "not say what the embedding is good for."
    )
    if c.sigma is not None and c.sigma >= 1:
        loud = "At so much noise nearly any embedding of unit variance comes close: read the clean law's distances."
        return f"{loud} {limits}"
    return limits


def _clean_law(report: Report) -> str:
    if report.clean is None:
        return ""
    clean = report.clean
    distance = (
        f"The clean embedding is {clean.distances.sw2.ratio:.1f} times as far from {clean.law} as equally many true "
        "draws would be (sliced Wasserstein-2)"
    )
    if report.tested == "noisy":
        return f"{distance}; with this construction it approaches that law only as ε → 0."
    if report.hz_reject is None or report.hz_reject_null is None:
        return f"{distance}."
    return (
        f"{distance}; subsamples of 64 fail Henze–Zirkler's test {100 * report.hz_reject:.0f} % of the time, "
        f"those of true draws {100 * report.hz_reject_null:.0f} %."
    )


def _noise(c: Certificate) -> str:
    if c.sigma is not None:
        return f"Gaussian noise σ = {c.sigma:.3g}"
    return f"uniform noise ε = {c.epsilon:.3g}"


def nats(value: float) -> str:
    """A number of nats with two digits after the point, with a true minus sign."""
    return f"{value:.2f}".replace("-", "−")
