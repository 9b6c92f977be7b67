"""The table of calibration and power: how often each test rejects true draws, and draws that are not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from scipy import special

from nidim.evaluate.battery import FULL
from nidim.evaluate.report import ALPHA
from nidim.evaluate.tables import MARGINAL_NAMES, OUTCOME_NAMES, SIMPLE_NAMES
from nidim.reproduce.departures import BY_NAME, DEPARTURES, NONE, Departure
from nidim.reproduce.simulations import EFFORT, TESTS
from nidim.reproduce.table import Found, Row, Run, Scale, Table

NAMES = {"henze_zirkler": "Henze–Zirkler", **SIMPLE_NAMES, **OUTCOME_NAMES, **MARGINAL_NAMES}
POWER = 0.8
"""An effect counts as seen where this share of the sets is rejected."""
SHOWN = (1000, 8)
"""(n, d) of the sentences and of the figure."""
_BLIND = 0.15
_SURE = 0.999
_NAMED = 4
_SIZES: dict[Scale, tuple[tuple[int, int], ...]] = {
    "small": ((250, 8), (1000, 2), (1000, 8), (1000, 32), (4000, 8)),
    "full": tuple((n, d) for n in (250, 1000, 4000, 16_000) for d in (2, 8, 32, 128)),
}
_SETS: dict[Scale, tuple[int, int]] = {"small": (300, 20), "full": (2000, 200)}
"""Sets of a seed: of true draws, of each departure and effect."""
CALIBRATED = (2, 8, 32, 128)


def rows(scale: Scale) -> Sequence[Row]:
    """A row of runs for each size; true draws first."""
    true, departing = _SETS[scale]
    found = [_row("true", 1000, d, true, (NONE,)) for d in CALIBRATED]
    return [*found, *(_row("power", n, d, departing, DEPARTURES) for n, d in _SIZES[scale])]


def _row(kind: str, n: int, d: int, sets: int, departures: Sequence[Departure]) -> Row:
    changes = {
        "n": n,
        "dim": d,
        "sets": sets,
        "departures": {found.name: found.effects for found in departures},
    }
    return Row(f"{kind}-n{n}-d{d}", (f"{n:,}", str(d)), changes, "simulated")


class Rate(NamedTuple):
    """``rejected`` of ``sets`` sets."""

    rejected: int
    sets: int

    @property
    def share(self) -> float:
        return self.rejected / self.sets

    def interval(self, confidence: float) -> tuple[float, float]:
        """That of Clopper and Pearson."""
        k, n, tail = self.rejected, self.sets, (1 - confidence) / 2
        low = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, tail))
        return low, 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1 - tail))


class Size(NamedTuple):
    """Rates of one (n, d), by (departure, effect) and test."""

    n: int
    d: int
    rates: dict[tuple[str, float], dict[str, Rate]]

    def curve(self, departure: str, test: str) -> list[tuple[float, float]]:
        """(effect, share rejected), from no effect at all; empty where the test does not apply."""
        points = [
            (effect, self.rates[departure, effect][test].share)
            for effect in BY_NAME[departure].effects
            if test in self.rates.get((departure, effect), {})
        ]
        return [(0.0, ALPHA), *points] if points else []


def sizes(found: Found) -> list[Size]:
    """The runs of each row, their counts added up over the seeds; rows without runs are left out."""
    result = []
    for row, runs in found:
        if not runs:
            continue
        rates: dict[tuple[str, float], dict[str, Rate]] = {}
        for run in runs:
            for cell in run["cells"]:
                kept = rates.setdefault((cell["departure"], cell["effect"]), {})
                for test, count in cell["rejected"].items():
                    before = kept.get(test, Rate(0, 0))
                    kept[test] = Rate(before.rejected + count, before.sets + run["settings"]["sets"])
        result.append(Size(row.changes["n"], row.changes["dim"], rates))
    return result


def smallest_seen(curve: Sequence[tuple[float, float]]) -> float | None:
    """The effect that is seen in POWER of the sets, by lines between the points; None beyond the last."""
    for (low, before), (high, after) in itertools.pairwise(curve):
        if after >= POWER:
            return low + (high - low) * (POWER - before) / (after - before) if after > before else high
    return None


def page(table: Table, found: Found, command: str) -> str:
    """The whole page."""
    known = sizes(found)
    lines = [f"# {table.title}", "", table.about, "", *_calibration(known), "", *_sentences(known), ""]
    lines += [*_seen(known), "", *sorted({_provenance(run) for _, runs in found for run in runs}), ""]
    seconds = sum(run["wall_s"] for _, runs in found for run in runs)
    lines += [f"{seconds:,.0f} s by the clock in one process. Made by", ""]
    return "\n".join([*lines, f"    {command}", ""])


def _calibration(known: Sequence[Size]) -> list[str]:
    """How often true draws are rejected."""
    lines = ["## True draws: every test should reject one set in twenty", ""]
    calibrated = [size for size in known if ("none", 0.0) in size.rates]
    sets = max((r.sets for size in calibrated for r in size.rates["none", 0.0].values()), default=0)
    if sets:
        spread = 1.96 * math.sqrt(ALPHA * (1 - ALPHA) / sets)
        lines += [
            f"Share of {sets} sets of n = 1,000 true draws that are rejected at .05. A calibrated test is within "
            f"{max(ALPHA - spread, 0):.3f} and {ALPHA + spread:.3f} nineteen times in twenty; in bold is what rejects "
            f"too often beyond doubt ({100 * _SURE:.1f} % interval). Tests that correct for many coordinates or "
            "directions by Bonferroni may stay below .05; the energy test, of 99 relabellings here, rejects 4 in "
            f"100. Under Henze–Zirkler lie {EFFORT.hz_null_sets} sets of true draws here and {FULL.hz_null_sets} in a "
            f"report, under BHEP {EFFORT.bhep_sets:,} and {FULL.bhep_sets}: by the chance of the few, the level of a "
            "report's flag lies between .02 and .08 or so.",
            "",
        ]
    head = ["test", *(f"d = {size.d}" for size in calibrated)]
    lines += [_line(head), "|" + "---|" * len(head)]
    for test in TESTS:
        rates = [size.rates["none", 0.0].get(test) for size in calibrated]
        lines.append(_line([NAMES[test], *(_level(rate) for rate in rates)]))
    return lines


def _level(rate: Rate | None) -> str:
    if rate is None:
        return "–"
    return f"**{rate.share:.3f}**" if rate.interval(_SURE)[0] > ALPHA else f"{rate.share:.3f}"


def _sentences(known: Sequence[Size]) -> list[str]:
    """For each departure at one size: what is seen, by which test, and which do not see it."""
    size = next((s for s in known if (s.n, s.d) == SHOWN and len(s.rates) > 1), None)
    if size is None:
        return []
    sets = max(rate.sets for rates in size.rates.values() for rate in rates.values())
    lines = [
        f"## In words, for n = {size.n:,} embeddings in d = {size.d} dimensions",
        "",
        f"Shares of {sets} sets for each effect: one of 80 % is known to within "
        f"{100 * 1.96 * math.sqrt(POWER * (1 - POWER) / sets):.0f} points, nineteen times in twenty.",
        "",
    ]
    for departure in DEPARTURES:
        if any((departure.name, effect) in size.rates for effect in departure.effects):
            lines.append(f"- **{departure.title}.** {_sentence(size, departure)}")
    return lines


def _sentence(size: Size, departure: Departure) -> str:
    for effect in departure.effects:
        rates = sorted(size.rates[departure.name, effect].items(), key=lambda item: -item[1].share)
        best = [(test, rate) for test, rate in rates if rate.share >= POWER]
        if not best:
            continue
        what = departure.phrase.format(f"{effect:g}")
        seen = _listed([f"{NAMES[test]} in {100 * rate.share:.0f} %" for test, rate in best])
        blind = [NAMES[test] for test, rate in reversed(rates) if rate.share < _BLIND]
        rest = f"; in fewer than {100 * _BLIND:.0f} % by {_listed(blind)}" if blind else ""
        return f"{what[0].upper()}{what[1:]} is seen by {seen} of the sets{rest}. {_least(size, departure)}"
    test, rate = max(
        size.rates[departure.name, departure.effects[-1]].items(), key=lambda item: item[1].share
    )
    what = departure.phrase.format(f"{departure.effects[-1]:g}")
    return f"No test sees {what} in {100 * POWER:.0f} % of the sets; {NAMES[test]} does in {100 * rate.share:.0f} %."


def _least(size: Size, departure: Departure) -> str:
    """The smallest effect that any test sees, and which test that is."""
    seen = {test: smallest_seen(size.curve(departure.name, test)) for test in TESTS}
    effect, test = min((effect, test) for test, effect in seen.items() if effect is not None)
    return f"The least seen in {100 * POWER:.0f} % of the sets is about {effect:.2g}, by {NAMES[test]}."


def _listed(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    shown, more = names[:_NAMED], len(names) - _NAMED
    return f"{', '.join(shown)} and {more} more" if more > 0 else ", ".join(shown)


def _seen(known: Sequence[Size]) -> list[str]:
    """The smallest effect that each test sees."""
    lines = [
        f"## The smallest effect seen in {100 * POWER:.0f} % of the sets",
        "",
        "Between simulated effects by straight lines. >: not even the largest simulated effect is seen so often; "
        "–: the test does not apply.",
    ]
    for departure in DEPARTURES:
        shown = [s for s in known if any((departure.name, e) in s.rates for e in departure.effects)]
        if shown:
            name = departure.phrase.format("x")
            head = ["test", *(f"n = {s.n:,}, d = {s.d}" for s in shown)]
            lines += ["", f"**{departure.title}**: x of {name}", "", _line(head), "|" + "---|" * len(head)]
            lines += list(_seen_rows(shown, departure))
    return lines


def _seen_rows(shown: Sequence[Size], departure: Departure) -> Iterator[str]:
    for test in TESTS:
        curves = [size.curve(departure.name, test) for size in shown]
        yield _line([NAMES[test], *(_effect(curve) for curve in curves)])


def _effect(curve: Sequence[tuple[float, float]]) -> str:
    if not curve:
        return "–"
    seen = smallest_seen(curve)
    return f"> {curve[-1][0]:g}" if seen is None else f"{seen:.2g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _provenance(run: Run) -> str:
    made = run["provenance"]
    return f"- {made['processor']}, numpy {made['numpy']}, scipy {made['scipy']}, nidim {made['nidim']}"


def values(_table: Table, found: Found) -> list[dict[str, Any]]:
    """Every rate: a list of (n, d, departure, effect), each with (rejected, sets) by test."""
    return [
        {"n": size.n, "d": size.d, "departure": departure, "effect": effect}
        | {"rejected": {test: [rate.rejected, rate.sets] for test, rate in rates.items()}}
        for size in sizes(found)
        for (departure, effect), rates in size.rates.items()
    ]
