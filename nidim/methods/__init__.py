"""Methods: how views, noise, head and objective become one number to climb.

The one line that nidim adds to a method: normalise the output, add Z, and only then project.
"""

from nidim.methods.base import Method, StepResult, sliced_epps_pulley
from nidim.methods.infomax import InfoMax
from nidim.methods.simclr import SimCLR, nt_xent

__all__ = ["InfoMax", "Method", "SimCLR", "StepResult", "nt_xent", "sliced_epps_pulley"]
