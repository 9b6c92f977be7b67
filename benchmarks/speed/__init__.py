"""How fast: every figure beside a named peer and the physical limit, taking turns in one run.

    python -m benchmarks.speed SECTION [--small]  evaluation | prior | control | training | scaling | quality | growth |
                                                  serving | engines
    python -m benchmarks.speed.quality_cifar      CIFAR-10 to 90 % by its neighbours; for a GPU, in pieces
    python -m benchmarks.speed page               docs/benchmarks.md from what is stored

Each section writes ``results/speed/SECTION.json``. Peers are installed into ``.venv-peers`` from ``peers.txt`` when a
section first needs them; none is a dependency. ``--small`` is a trial of the script itself and stores nothing.
"""
