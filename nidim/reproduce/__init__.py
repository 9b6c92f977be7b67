"""Tables of experiments, each made by one command: ``nidim reproduce TABLE``.

A table is a list of rows, a row is a change of the default spec. Every run (row × seed) is one JSON file with its spec,
report, seconds, peak memory, hardware and versions; a run whose file is there for the same spec is not repeated, so a
table can be made in pieces. The test images are read once a seed, after the final epoch; nothing is chosen on them.
"""
