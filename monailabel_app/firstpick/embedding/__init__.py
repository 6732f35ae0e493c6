"""From studies to vectors: worker processes read and encode, the caller alone writes the cache."""
