"""Token usage, read out of answers as they pass: for gateways that send their response phases to us."""

from extproc.outcome.usage.reader import UsageReader

__all__ = ["UsageReader"]
