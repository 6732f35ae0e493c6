"""What people decided, and who may do what next."""
