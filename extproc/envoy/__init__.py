"""Files for Envoy: its bootstrap and its endpoints."""
