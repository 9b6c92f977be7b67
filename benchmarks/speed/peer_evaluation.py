"""Statistics of an embedding by pingouin, hyppo and POT; see peers.py."""

import numpy as np


def henze_zirkler(path):
    """pingouin: all points, moments fitted."""
    from pingouin import multivariate_normality

    found = multivariate_normality(np.load(path, allow_pickle=False))
    return {"statistic": float(found.hz), "p": float(found.pval)}


def energy_test(path, draws, permutations):
    """hyppo: two samples, p over relabellings."""
    from hyppo.ksample import Energy

    x, y = np.load(path, allow_pickle=False), np.load(draws, allow_pickle=False)
    statistic, p = Energy().test(x, y, reps=permutations, workers=1, auto=False)
    return {"statistic": float(statistic), "p": float(p)}


def energy_distance(path, draws):
    """hyppo: the statistic alone."""
    from hyppo.ksample import Energy

    return {
        "statistic": float(
            Energy().statistic(np.load(path, allow_pickle=False), np.load(draws, allow_pickle=False))
        )
    }


def sliced_wasserstein(path, draws, slices):
    """POT: two samples, random directions."""
    import ot

    x, y = np.load(path, allow_pickle=False), np.load(draws, allow_pickle=False)
    return {"distance": float(ot.sliced_wasserstein_distance(x, y, n_projections=slices, seed=0))}


def import_all():
    """So that no figure contains it."""
    import hyppo.ksample
    import ot
    import pingouin

    return {"pingouin": pingouin.__version__, "hyppo": hyppo.__version__, "pot": ot.__version__}


WORK = {
    "import_all": import_all,
    "henze_zirkler": henze_zirkler,
    "energy_test": energy_test,
    "energy_distance": energy_distance,
    "sliced_wasserstein": sliced_wasserstein,
}
