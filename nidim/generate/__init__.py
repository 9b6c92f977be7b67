"""Generators: from a known law of embeddings to images. The reason why a prior is worth knowing."""
