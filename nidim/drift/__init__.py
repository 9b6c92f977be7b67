"""Drift against the known prior: sequential, valid at any time, without a stored reference set. No torch.

    features   what is watched: bounded functions of normal scores
    tolerance  how far a healthy encoder is from its prior, measured once on held-out images
    state      wealth that bets win against "within tolerance"; sums that several processes add up
    summary    the same in words and figures for people
    monitor    ``Monitor(prior, tolerance).update(embeddings)``

Decisions: docs/decisions/0014; what it says and what not: docs/drift.md.
"""

from nidim.drift.monitor import Monitor, Verdict, watched
from nidim.drift.state import Bets, State, Tally, absorb, advance, bets, tally
from nidim.drift.summary import Summary, summary
from nidim.drift.tolerance import LEAST_IMAGES, Tolerance, calibrate

__all__ = [
    "LEAST_IMAGES",
    "Bets",
    "Monitor",
    "State",
    "Summary",
    "Tally",
    "Tolerance",
    "Verdict",
    "absorb",
    "advance",
    "bets",
    "calibrate",
    "summary",
    "tally",
    "watched",
]
