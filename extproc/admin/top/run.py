"""Polls the admin pages, and shows their answers."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from rich.console import Console
from rich.live import Live

from extproc.admin.top import show
from extproc.admin.top.frame import Frame, Summary, frame
from extproc.errors import GatewayError

#: Seconds for an answer: a summary takes milliseconds to make.
TIMEOUT = 5
#: Columns of a frame that goes to a file: enough for every column of the tables.
WIDE = 160

#: Height of a frame that no screen cuts off.
ALL_LINES = 100_000
#: Seconds: no interval is taken to be shorter, so that none is divided by 0.
SHORTEST = 1e-3

Fetch = Callable[[], Summary]


class NoAnswer(GatewayError):
    """The sidecar cannot be asked. `str()` gives the reason."""


def run(admin: str, interval: float, *, once: bool) -> None:
    """Shows the sidecar at `admin` (host:port) every `interval` seconds until it is interrupted.

    With `once` it prints a single frame, of one interval, and returns. Otherwise it goes on while the sidecar is away.

    Raises:
        NoAnswer: with `once` only: the sidecar cannot be asked.
    """
    console = Console()

    def fetch() -> Summary:
        return ask(admin)

    if once:
        if not console.is_terminal:  # its width is unknown
            console.width = WIDE
        seen = one(fetch, interval, time.monotonic, time.sleep)
        console.print(show.render(seen, admin, console.width, ALL_LINES))
        return
    stopped = threading.Event()

    def interrupt(_number: int, _frame: object) -> None:
        # The exception alone can get lost: in a destructor that happens to run, it is printed and forgotten.
        stopped.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    with suppress(KeyboardInterrupt), Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        for found, away in looks(fetch, interval, time.monotonic, stopped.wait):
            width, height = console.size
            picture = show.render(found, admin, width, height, away) if found else show.waiting(admin, away)
            live.update(picture, refresh=True)
            if stopped.is_set():
                return


def one(fetch: Fetch, interval: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> Frame:
    """The frame of one interval.

    Raises:
        NoAnswer: the sidecar cannot be asked.
    """
    started, before = clock(), fetch()
    sleep(interval)
    return frame(before, fetch(), max(clock() - started, SHORTEST))


def looks(
    fetch: Fetch, interval: float, clock: Callable[[], float], sleep: Callable[[float], object]
) -> Iterator[tuple[Frame | None, str]]:
    """Frames without end, each with the reason why it is old, or "". None: there was no answer yet."""
    before: Summary | None = None
    asked = 0.0
    seen: Frame | None = None
    while True:
        started = clock()
        try:
            now = fetch()
        except NoAnswer as error:
            yield seen, str(error)
        else:
            seen = frame(before, now, max(started - asked, SHORTEST))
            before, asked = now, started
            yield seen, ""
        sleep(max(interval - (clock() - started), 0.0))


def ask(admin: str) -> Summary:
    """One summary.

    Raises:
        NoAnswer: there is none.
    """
    try:
        # The sidecar is beside us: no proxy that the environment may name.
        with build_opener(ProxyHandler({})).open(f"http://{admin}/debug/summary", timeout=TIMEOUT) as answer:
            summary: Any = json.load(answer)
    except HTTPError as error:
        error.close()
        raise NoAnswer(f"{admin} answers {error.code}: not the admin port of this version") from None
    except URLError as error:
        raise NoAnswer(f"no answer from {admin}: {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise NoAnswer(f"no answer from {admin}: {error!r}") from None
    if not isinstance(summary, dict) or "pods" not in summary:
        raise NoAnswer(f"{admin} answers something else: not the admin port of this version")
    return cast("Summary", summary)
