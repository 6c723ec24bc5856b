"""Asks other servers, and is sure of what their answers can cost."""

from extproc.fetch.origin import Answer, FetchError, Origin, Reason

__all__ = ["Answer", "FetchError", "Origin", "Reason"]
