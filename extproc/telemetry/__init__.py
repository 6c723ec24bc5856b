"""Metrics, access log, traces and the decision log: the gateway as its operators see it."""
