"""Lower bounds on mutual information, in nats, from a matrix of scores.

To add one: a module with the pure function and its :class:`Objective`, a part in ``nidim.spec.parts``, a line
in :func:`build_objective`, and the laws in ``tests/nidim/test_objectives.py`` hold it to account.
"""

from nidim.objectives.base import Bound, Objective
from nidim.objectives.donsker_varadhan import DonskerVaradhan, donsker_varadhan
from nidim.objectives.infonce import InfoNCE, infonce, infonce_in_blocks
from nidim.objectives.jsd import JensenShannon, jensen_shannon
from nidim.objectives.nishiyama import Nishiyama, nishiyama
from nidim.objectives.nwj import NWJ, nwj
from nidim.objectives.smile import SMILE, smile
from nidim.spec import parts

__all__ = [
    "NWJ",
    "SMILE",
    "Bound",
    "DonskerVaradhan",
    "InfoNCE",
    "JensenShannon",
    "Nishiyama",
    "Objective",
    "build_objective",
    "donsker_varadhan",
    "infonce",
    "infonce_in_blocks",
    "jensen_shannon",
    "nishiyama",
    "nwj",
    "smile",
]


def build_objective(objective: parts.Objective) -> Objective:
    """The objective of a spec."""
    if objective.kind == "donsker_varadhan":
        return DonskerVaradhan(decay=objective.decay)
    if objective.kind == "smile":
        return SMILE(clip=objective.clip)
    others: dict[str, type[Objective]] = {
        "infonce": InfoNCE,
        "nwj": NWJ,
        "jsd": JensenShannon,
        "nishiyama": Nishiyama,
    }
    return others[objective.kind]()
