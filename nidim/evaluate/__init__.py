"""How good an encoder is: the match of its embeddings with the promised law, the certificate, its usefulness.

Arrays in, one frozen :class:`Report` out; no torch. :mod:`nidim.evaluate.page` makes a page for people of it.
"""

from nidim.evaluate.report import Report
from nidim.evaluate.run import evaluate
from nidim.evaluate.sentence import sentence
from nidim.evaluate.stages import Embedded

__all__ = ["Embedded", "Report", "evaluate", "sentence"]
