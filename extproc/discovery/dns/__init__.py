"""Pods by DNS names: addresses and SRV records, looked up again as they expire."""
