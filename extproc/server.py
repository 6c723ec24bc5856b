"""One process of the gateway, from its configuration until a signal ends it."""

import asyncio
import logging
import os
import sys
from functools import partial

from extproc.config import Loaded
from extproc.gateway import Gateway
from extproc.process.background import Background
from extproc.process.logs import set_up
from extproc.process.signals import on_termination
from extproc.sharing.share import Shared
from extproc.workers.control import Line
from extproc.workers.place import Place

log = logging.getLogger(__name__)

#: Most digits of an integer that is read: the least limit that Python accepts. No client sends more than twenty digits.
MAX_DIGITS = sys.int_info.str_digits_check_threshold


def run(loaded: Loaded, *, reload_path: str | None = None, reload: bool = False, place: Place | None = None) -> None:
    """Serves until SIGTERM or SIGINT; a second signal ends it at once.

    The configuration at `reload_path` (as of `--config`) is watched: with `reload` to put it into force, as far as that
    can be, else to report what a restart would change. With `place` this is one process of several: it serves there,
    and ends when its supervisor does.

    Raises:
        StartError: something cannot be bound or built.
    """
    # Whole numbers take time by the square of their digits to be read: 70 ms for a megabyte of those that are allowed.
    sys.set_int_max_str_digits(MAX_DIGITS)
    set_up(loaded.config.logging.level, loaded.config.logging.format)
    # With several processes, the supervisor has logged the warnings.
    for warning in loaded.warnings if place is None else ():
        log.warning("configuration: %s", warning)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(loaded, reload_path, reload, place))
    else:
        uvloop.run(_serve(loaded, reload_path, reload, place))


async def _serve(loaded: Loaded, reload_path: str | None, reload: bool, place: Place | None) -> None:
    line = None if place is None else await Line.take()
    instruction = None if line is None else await line.instruction()
    shared = Shared(loaded.config, place, instruction) if Shared.wanted(loaded.config, place) else None
    background = Background()
    gateway = Gateway(loaded.config, shared, line, background=background)
    stopped = asyncio.Event()
    on_termination(stopped.set)
    tasks = [] if line is None else [background.start("line", partial(_until_orphaned, line, stopped), once=True)]
    try:
        await gateway.start()
        if line is not None:
            tasks.append(background.start("beat", line.beat))
        gateway.watch(reload_path, loaded, reload=reload)
        await stopped.wait()
    finally:
        await gateway.stop()
        for task in tasks:
            task.cancel()


async def _until_orphaned(line: Line, stopped: asyncio.Event) -> None:
    """Ends this process with its supervisor: gracefully the first time, at once where it is ending already."""
    await line.ended()
    if stopped.is_set():
        os._exit(1)
    log.error("the supervisor is gone")
    stopped.set()
