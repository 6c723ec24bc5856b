# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Current counts of an engine, as far as the gateway can know them without asking again.

The gateway knows which of its own requests were sent and which ended since the scrape. What the scrape could not have
seen must not look like a queue: a scorer that takes every in-flight request beyond `running` for a queued one would
punish the pods that were scraped longest ago, and a burst would herd to the others.

The rule:

- The engine had a queue. What was sent since waits behind it, and each of ours that ended since let one of the queue
  go on: `waiting` moves by the difference; when the queue is used up, `running` goes down.
- The engine had no queue. What was sent since is being computed: `running` moves by the difference. It is at least
  our in-flight count: a request of ours that the engine reported neither as running nor as waiting was on its way.
- The engine does not report whether it has a queue. As without one, but nothing is known of requests on their way.
"""


def corrected(waiting: float, running: float, seen: int, in_flight: int) -> tuple[float, float]:
    """`waiting` and `running` now. NaN, for unknown, stays NaN.

    Args:
        waiting: requests in the engine's queue at the scrape, or NaN.
        running: requests being computed at the scrape, or NaN.
        seen: our requests in flight to the pod at the scrape.
        in_flight: our requests in flight to the pod now.
    """
    change = in_flight - seen
    if waiting > 0:
        waiting += change
        if waiting < 0:
            # `max` keeps its first argument where a comparison with NaN is false.
            return 0.0, max(running + waiting, 0.0)
        return waiting, running
    return waiting, max(running + change, 0.0 if waiting != waiting else float(in_flight))
