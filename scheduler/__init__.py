"""Chooses a model-server pod for a request: filter, score, pick. Knows nothing of Envoy, HTTP or asyncio (`pool` aside)."""
