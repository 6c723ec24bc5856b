"""Background tasks that cannot die unseen: one that ends by an unforeseen error is logged, counted and started again.

Whatever runs for as long as the process does, and is not one request's, runs by `Background.start` or inside
`Background.keep`. The owner of a task cancels it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

log = logging.getLogger(__name__)

#: Seconds before a task that died is started again: the first time, doubled each time, and at most. What killed it may
#: be over in a moment; where it is not, a traceback in ten seconds fills no log.
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 10.0
#: A task that ran for so many seconds is well again.
WELL_AFTER = 5.0
#: Seconds for which a needed task may be away, or die again and again, before readiness ends. Longer than `WELL_AFTER`:
#: a task that died once and runs is no reason.
NOT_READY_AFTER = 6.0

Run = Callable[[], Awaitable[None]]


class _Dying:
    """A task that died and is not well again."""

    __slots__ = ("error", "failures", "needed", "running_since", "since")

    def __init__(self, since: float, *, needed: bool) -> None:
        self.since = since
        self.needed = needed
        self.failures = 0
        self.error = ""
        #: None: it waits to be started again.
        self.running_since: float | None = None


class Background:
    """The supervisor of one process' tasks.

    Args:
        clock: monotonic seconds.
        sleep: waits before a task is started again.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._dying: dict[tuple[str, str], _Dying] = {}
        self._deaths: dict[str, int] = {}

    def start(
        self, name: str, run: Run, *, of: str = "", needed: bool = False, once: bool = False
    ) -> asyncio.Task[None]:
        """`keep` as a task. Cancel it to end it."""
        return asyncio.create_task(
            self.keep(name, run, of=of, needed=needed, once=once), name=f"{name} {of}" if of else name
        )

    async def keep(self, name: str, run: Run, *, of: str = "", needed: bool = False, once: bool = False) -> None:
        """Runs `run`, again whenever it dies, until this is cancelled.

        Args:
            name: of the kind of task: a label of metrics, so one of few.
            run: what to run; it may be run again after it raised.
            of: which task of its kind.
            needed: whether the process is not ready without it.
            once: whether it may return, and is done then. One that may not, and does, has died.
        """
        self._deaths.setdefault(name, 0)
        try:
            while True:
                dying = self._dying.get((name, of))
                began = self._clock()
                if dying is not None:
                    dying.running_since = began
                try:
                    await run()
                    if once:
                        return
                    error: BaseException = RuntimeError("it returned")
                except asyncio.CancelledError as cancelled:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    # Nobody wants this to end: something that it awaited was cancelled.
                    error = cancelled
                except Exception as raised:  # noqa: BLE001 - of whatever kind it is
                    error = raised
                await self._sleep(self._died(name, of, error, began, needed=needed))
        finally:
            self._dying.pop((name, of), None)

    def _died(self, name: str, of: str, error: BaseException, began: float, *, needed: bool) -> float:
        """Takes note of a death; seconds until the next start."""
        now = self._clock()
        dying = self._dying.get((name, of))
        if dying is None or now - began >= WELL_AFTER:
            dying = self._dying[name, of] = _Dying(now, needed=needed)
        dying.running_since = None
        dying.failures += 1
        dying.error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self._deaths[name] += 1
        # The exponent is bounded because failures are not.
        wait = min(FIRST_BACKOFF * 2.0 ** min(dying.failures - 1, 16), LAST_BACKOFF)
        log.error(
            "background task died",
            extra={"task": name, "again_in": wait, **({"of": of} if of else {})},
            exc_info=error,
        )
        return wait

    def not_ready(self) -> str:
        """Why this process should get no requests: a needed task that keeps dying; "": there is none."""
        now = self._clock()
        for (name, of), dying in self._dying.items():
            if not dying.needed or now - dying.since < NOT_READY_AFTER:
                continue
            if dying.running_since is not None and now - dying.running_since >= WELL_AFTER:
                continue
            what = f"{name} {of}" if of else name
            return f"a background task keeps dying: {what}: {dying.error}"[:300]
        return ""

    def deaths(self) -> Iterable[tuple[str, int]]:
        """How often tasks of each kind died, those that never did included."""
        return self._deaths.items()
