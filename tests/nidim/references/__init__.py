"""Values of published implementations that are no dependencies of ours, and the script that made them."""
