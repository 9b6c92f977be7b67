"""Lower bounds on mutual information, in nats, from a matrix of scores.

To add one: a module with the pure function and its :class:`Objective`, a part in ``nidim.spec.parts``, a line
in :func:`build_objective`, and the laws in ``tests/nidim/test_objectives.py`` hold it to account.
"""

from nidim.objectives.base import Bound, Objective
from nidim.objectives.donsker_varadhan import DonskerVaradhan, donsker_varadhan
from nidim.objectives.infonce import InfoNCE, infonce
from nidim.objectives.nwj import NWJ, nwj
from nidim.spec import parts

__all__ = [
    "NWJ",
    "Bound",
    "DonskerVaradhan",
    "InfoNCE",
    "Objective",
    "build_objective",
    "donsker_varadhan",
    "infonce",
    "nwj",
]


def build_objective(objective: parts.Objective) -> Objective:
    """The objective of a spec."""
    if objective.kind == "donsker_varadhan":
        return DonskerVaradhan(decay=objective.decay)
    return NWJ() if objective.kind == "nwj" else InfoNCE()
