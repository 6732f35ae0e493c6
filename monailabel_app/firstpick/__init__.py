"""FirstPick chooses which studies to annotate first, from foundation-model embeddings."""

__version__ = "0.1.0"
