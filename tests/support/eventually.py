"""Waiting for another task, thread or process. No other test or helper sleeps, and none has a time limit of its own."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final

#: Seconds that a test waits for something that must come. Only a test that fails waits for all of them: long enough for
#: a machine with four times as many busy processes as cores.
PATIENCE: Final = 120.0
#: Seconds between two looks at a condition that nobody announces.
PAUSE: Final = 0.005


async def eventually(condition: Callable[[], Any]) -> Any:
    """The condition's value, once it is true. The condition may be a coroutine function.

    Raises:
        AssertionError: it was not within `PATIENCE` seconds.
    """
    value: Any = None
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:.0f} s, but {value!r}: {inspect.getsource(condition)}") from None
