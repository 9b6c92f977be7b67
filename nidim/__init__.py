"""Self-supervised image encoders whose embeddings follow a distribution that you choose.

The library knows no web framework, queue or database. Importing this package costs no torch.
"""

__version__ = "0.1.0"
FORMAT_VERSION = 1
"""Version of the stored formats: spec, bundle, checkpoint, event."""
