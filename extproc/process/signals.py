"""What SIGTERM and SIGINT do: the first begins the end, the second makes it one."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from functools import partial

log = logging.getLogger(__name__)


def on_termination(stop: Callable[[], None]) -> None:
    """Calls `stop` at the first signal; the second ends the process at once, with 128 and its number."""
    loop = asyncio.get_running_loop()
    seen = False

    def received(number: signal.Signals) -> None:
        nonlocal seen
        if seen:
            # Not by the default handler: the first process of a container has none.
            os._exit(128 + number)
        seen = True
        log.info("signal", extra={"signal": number.name})
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, partial(received, number))
