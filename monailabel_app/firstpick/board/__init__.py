"""What people decided about studies: events, the board that folds them, and the log that keeps them."""
