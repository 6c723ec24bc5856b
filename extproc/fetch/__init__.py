"""HTTP client for other servers, with bounds on the cost of their answers."""

from extproc.fetch.origin import Answer, FetchError, Origin, Reason

__all__ = ["Answer", "FetchError", "Origin", "Reason"]
