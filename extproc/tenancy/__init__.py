"""Tenants: the sender of a request, and its share of the gateway."""
