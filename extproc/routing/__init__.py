"""Pools of pods, and the routes from a model's name to a pool."""
