"""Where studies come from, which of them are worth a place in the pool, and what is known of each."""
