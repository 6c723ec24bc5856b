"""Chooses a model-server pod for a request: filter, score, pick. Without Envoy, HTTP or asyncio (`pool` aside)."""
