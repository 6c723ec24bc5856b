"""Who asks, and what of the gateway they may have."""
