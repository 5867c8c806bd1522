"""tus 1.0.0: the core protocol and every extension."""
