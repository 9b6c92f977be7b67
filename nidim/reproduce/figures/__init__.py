"""Plots of tables, as PNG files: ``figure(rows with their runs, scale, path)``.

style      what all share
lists      how a figure with a line a row is drawn
compared   bounds and laws, a line each
planes     accuracy over the distance from the law
curves     over an effect or a strength
"""

from nidim.reproduce.figures.compared import bounds, targets
from nidim.reproduce.figures.curves import augmentation, power, separability
from nidim.reproduce.figures.planes import injection, plugins, tradeoff

__all__ = ["augmentation", "bounds", "injection", "plugins", "power", "separability", "targets", "tradeoff"]
