"""Hostile input against the real API process: a seeded corpus of mutants, and Schemathesis.

    python -m benchmarks.hostile --n 10000 --seed 0           the corpus; figures to benchmarks/results/hostile
    python -m benchmarks.hostile --schemathesis --examples 100

``make test`` runs short forms of both (tests/hostile).
"""
