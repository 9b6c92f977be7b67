"""``python -m nidim``: the same as the command ``nidim``."""

from nidim.cli import main

main(prog_name="nidim")
