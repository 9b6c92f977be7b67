"""Methods: how views, noise, head and objective become one number to climb.

The one line that nidim adds to a method: normalise the output, add Z, and only then project.
"""

from nidim.methods.base import Method, StepResult, Wiring
from nidim.methods.infomax import InfoMax
from nidim.methods.lejepa import LeJEPA
from nidim.methods.local import LocalBound, mean_over_cells
from nidim.methods.predictive import BYOL, SimSiam
from nidim.methods.redundancy import RedundancyReduction, barlow_twins, vicreg
from nidim.methods.simclr import SimCLR, nt_xent

__all__ = [
    "BYOL",
    "InfoMax",
    "LeJEPA",
    "LocalBound",
    "Method",
    "RedundancyReduction",
    "SimCLR",
    "SimSiam",
    "StepResult",
    "Wiring",
    "barlow_twins",
    "mean_over_cells",
    "nt_xent",
    "vicreg",
]
