"""How often the upper 95 % end of a certificate is above the truth: ``python -m benchmarks.coverage``.

One coordinate of mean 0 and, but for one law, variance 1; KL(law of f + Z ‖ N(0, 1 + σ²)) by quadrature. The shares of
sets whose end is above it go to results/certificate-coverage.json and .md, over the laws, σ and numbers of images.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy import integrate, stats

from benchmarks.speed.measure import surroundings
from nidim.evaluate.certificate import gaussian_certificate

RESULTS = Path(__file__).parent / "results"
SETS = 400
SIGMAS = (0.2, 0.5, 1.0, 3.0)
IMAGES = (64, 100, 360, 1000)
Floats = NDArray[np.float64]
REACH, POINTS = 40.0, 80_001
"""Of the grid; a noisy law is smooth at σ/400."""


@dataclasses.dataclass(frozen=True)
class Law:
    """``draw(rng, n)`` of the clean embedding, ``density(σ)(x)`` of the noisy one."""

    name: str
    draw: Callable[[np.random.Generator, int], Floats]
    density: Callable[[float], Callable[[Floats], Floats]]

    def kl(self, sigma: float) -> float:
        """KL of the noisy law from N(0, 1 + σ²), nats."""
        x = np.linspace(-REACH, REACH, POINTS)
        p = self.density(sigma)(x)
        ratio = np.log(np.maximum(p, 1e-300)) - stats.norm(0, math.hypot(1, sigma)).logpdf(x)
        return float(integrate.trapezoid(p * ratio, x))


def far(share: float, at: float) -> Law:
    """So many points lie so many standard deviations away, the others together."""
    spread = math.sqrt(1 - share * (1 - share) * (at / (1 - share)) ** 2)
    places, weights = (at, -share * at / (1 - share)), (share, 1 - share)
    return mixture(f"{share:.0%} at {at:g} sd", places, weights, spread)


def mixture(name: str, places: tuple[float, ...], weights: tuple[float, ...], spread: float) -> Law:
    """Normal laws of standard deviation ``spread`` around ``places``."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        return rng.choice(places, n, p=weights) + spread * rng.standard_normal(n)

    def density(sigma: float) -> Callable[[Floats], Floats]:
        sd = math.hypot(spread, sigma)
        return lambda x: sum(w * stats.norm(m, sd).pdf(x) for w, m in zip(weights, places, strict=True))

    return Law(name, draw, density)


def student(df: float) -> Law:
    """Student's t, scaled to variance 1."""
    scale = math.sqrt((df - 2) / df)

    def density(sigma: float) -> Callable[[Floats], Floats]:
        noise, weights = np.polynomial.hermite_e.hermegauss(200)
        weights = weights / weights.sum()
        clean = stats.t(df, scale=scale)
        return lambda x: sum(w * clean.pdf(x - sigma * z) for w, z in zip(weights, noise, strict=True))

    return Law(f"Student's t, {df:g} degrees", lambda rng, n: scale * rng.standard_t(df, n), density)


LAWS = (
    mixture("N(0, 1)", (0.0,), (1.0,), 1.0),
    mixture("N(0, 1.69)", (0.0,), (1.0,), 1.3),
    mixture("two points, ±1", (-1.0, 1.0), (0.5, 0.5), 0.0),
    student(5),
    far(0.1, 2.9),
    far(0.02, 6.9),
)


def coverage(law: Law, sigma: float, n: int, sets: int) -> dict[str, Any]:
    """Share of ``sets`` sets of ``n`` embeddings whose upper end is at least the truth."""
    truth, above, bounds = law.kl(sigma), 0, []
    for number in range(sets):
        f = law.draw(np.random.default_rng([number, n, 7]), n)[:, None]
        found = gaussian_certificate(f, sigma=sigma, law="", seed=number)
        above += found.kl_bound_upper95_nats >= truth
        bounds.append(found.kl_bound_nats)
    figures = {"kl": round(truth, 4), "mean_bound": round(float(np.mean(bounds)), 4), "above": above / sets}
    return {"law": law.name, "sigma": sigma, "n": n, "sets": sets, **figures}


def page(rows: list[dict[str, Any]], where: dict[str, Any]) -> str:
    """A table: laws and σ down, numbers of images across."""
    shares = {(row["law"], row["sigma"], row["n"]): row for row in rows}
    lines = [
        "# How often the 95 % end of a certificate is above the truth",
        "",
        "Share of sets of n embeddings of one coordinate; `KL`: of the noisy law, nats, by quadrature.",
        "",
        "| law | σ | KL | " + " | ".join(f"n = {n:,}" for n in IMAGES) + " |",
        "|---|---|---|" + "---|" * len(IMAGES),
    ]
    for law in LAWS:
        for sigma in SIGMAS:
            found = [shares[law.name, sigma, n] for n in IMAGES]
            cells = " | ".join(f"{row['above']:.3f}" for row in found)
            lines.append(f"| {law.name} | {sigma:g} | {found[0]['kl']:.4f} | {cells} |")
    lines += [
        "",
        f"{rows[0]['sets']} sets each; {where['processor']}. Made by `python -m benchmarks.coverage`.",
        "",
    ]
    return "\n".join(lines)


@click.command()
@click.option("--sets", default=SETS, show_default=True, help="Sets of embeddings for each figure.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, show_default=True)
def main(sets: int, out: Path) -> None:
    """Measure and write."""
    where = {**surroundings(seed=0), "command": "python -m benchmarks.coverage"}
    todo = [(law, sigma, n) for law in LAWS for sigma in SIGMAS for n in IMAGES]
    with click.progressbar(todo, label="sets of embeddings") as steps:
        rows = [coverage(law, sigma, n, sets) for law, sigma, n in steps]
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"where": where, "rows": rows}, indent=1, ensure_ascii=False) + "\n"
    (out / "certificate-coverage.json").write_text(text)
    (out / "certificate-coverage.md").write_text(page(rows, where))


if __name__ == "__main__":
    main()
