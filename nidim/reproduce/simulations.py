"""Runs without any training: sets of draws from known laws through every test of the battery, and who rejects.

A run is (n, d, seed): for every departure and effect, ``sets`` sets of n draws each. Counts of several seeds add up.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nidim import __version__, machine
from nidim.evaluate.battery import FULL, Effort, fitted_tests, simple_tests
from nidim.evaluate.draws import generator
from nidim.evaluate.epps_pulley import sliced
from nidim.evaluate.report import FittedTests, HenzeZirkler, SimpleTests
from nidim.reproduce.departures import BY_NAME
from nidim.reproduce.kept import Kept
from nidim.reproduce.table import Row
from nidim.spec.base import Part

if TYPE_CHECKING:
    from nidim.pipeline import Hooks

EFFORT = Effort(hz_subsamples=128, hz_null_sets=500, bhep_sets=1000, energy_permutations=99)
"""Rows and slices as in a full evaluation; fewer subsamples and relabellings, more true draws under Henze–Zirkler."""
TESTS = (*SimpleTests.model_fields, *FittedTests.model_fields)


class Simulation(Part):
    """What is drawn."""

    n: int = Field(ge=20, description="draws in a set")
    dim: int = Field(ge=2, multiple_of=2, description="d")
    sets: int = Field(ge=1, description="sets for each departure and effect")
    departures: dict[str, tuple[float, ...]] = Field(
        description="effects by name of nidim.reproduce.departures"
    )


def rejections(s: NDArray[np.float64], *, seed: int) -> dict[str, bool]:
    """Which tests reject normal scores ``s`` (n, d) at .05, as the report flags them; those that apply."""
    slices = sliced(s, slices=FULL.distances.slices, seed=FULL.distances.seed)
    found: dict[str, Any] = dict(simple_tests(s, slices, effort=EFFORT, seed=seed))
    found |= dict(
        fitted_tests(s, subsamples=EFFORT.hz_subsamples, null_sets=EFFORT.hz_null_sets, seed=seed)[0]
    )
    return {name: _rejects(result) for name, result in found.items() if result is not None}


def _rejects(result: Any) -> bool:
    return result.below_null if isinstance(result, HenzeZirkler) else result.reject


class Simulations(Kept[Simulation]):
    """The runs of one table: counts of rejections."""

    settings = Simulation

    def simulated(self, row: Row, wanted: Simulation, seed: int, hooks: Hooks) -> dict[str, Any]:  # noqa: ARG002
        """Draw and test."""
        cells = [
            {"departure": name, "effect": effect, "rejected": _count(wanted, name, effect, seed)}
            for name, effect in self._told(wanted, hooks)
        ]
        return {"cells": cells, "provenance": _provenance()}

    def _told(self, plan: Simulation, hooks: Hooks) -> Iterator[tuple[str, float]]:
        """Every departure with every effect, the progress told before each."""
        cells = [(name, effect) for name, effects in plan.departures.items() for effect in effects]
        for i, cell in enumerate(cells):
            hooks.phase("simulating", i / len(cells))
            yield cell
        hooks.phase("simulating", 1.0)


def _count(plan: Simulation, name: str, effect: float, seed: int) -> dict[str, int]:
    """How many of the sets each test rejects."""
    counts: dict[str, int] = {}
    for i in range(plan.sets):
        rng = generator(seed, f"{name} {effect} {plan.n} {plan.dim} {i}")
        draws = BY_NAME[name].draw(rng, plan.n, plan.dim, effect)
        for test, rejected in rejections(draws, seed=1000 * seed + i).items():
            counts[test] = counts.get(test, 0) + rejected
    return counts


@functools.cache
def _provenance() -> dict[str, Any]:
    return {
        "nidim": __version__,
        "git_revision": machine.revision(),
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "scipy": metadata.version("scipy"),
        "platform": platform.platform(terse=True),
        "processor": machine.processor(),
    }
