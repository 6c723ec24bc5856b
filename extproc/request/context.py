# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""State shared by the bookkeeping of all requests: clocks, dice, counts, keys, and the witnesses of requests' ends."""

import logging
from collections.abc import Callable, Sequence
from random import Random

from extproc.outcome.characters import Characters
from extproc.outcome.ledger import Ledger
from extproc.telemetry.finished import Refused, Witness
from extproc.telemetry.metrics import Metrics
from scheduler.types import Prompt

log = logging.getLogger(__name__)

_MAX_KEY = 2**64 - 1


class Context:
    """One of a gateway. One thread only.

    Args:
        metrics: counts of requests.
        ledger: matches outcomes, which come late, with the requests that expect them.
        witnesses: hear of every routed request's end.
        blocks: names the blocks of a model's prompt for witnesses, while all its text is there; None: not needed.
        log_tells_more: whether Envoy shows the headers of answers, and its access log has what they lack.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch.
        rng: breaks ties between pods.
    """

    __slots__ = (
        "_failed_witnesses", "_first_key", "_keys", "blocks", "characters", "clock", "ledger", "log_tells_more",
        "metrics", "rng", "wall_clock", "witnesses",
    )  # fmt: skip

    def __init__(
        self,
        *,
        metrics: Metrics,
        ledger: Ledger,
        witnesses: Sequence[Witness] = (),
        blocks: Callable[[str, Prompt], tuple[int, ...]] | None = None,
        log_tells_more: bool = False,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self.metrics = metrics
        self.ledger = ledger
        self.witnesses = witnesses
        self.blocks = blocks
        self.log_tells_more = log_tells_more
        self.clock = clock
        self.wall_clock = wall_clock
        self.rng = rng
        #: Per token, by the client's name of the model.
        self.characters = Characters()
        self._failed_witnesses: list[Witness] = []
        # From a random start: entries of an earlier process must not match keys of this one.
        self._keys = self._first_key = rng.getrandbits(64)

    def next_key(self) -> str:
        """A key that no other request has: 16 hexadecimal digits."""
        self._keys = (self._keys + 1) & _MAX_KEY
        return f"{self._keys:016x}"

    def issued(self, key: str) -> bool:
        """Whether this process issued `key`."""
        try:
            number = int(key, 16)
        except ValueError:
            return False
        return (number - self._first_key - 1) & _MAX_KEY < (self._keys - self._first_key) & _MAX_KEY

    def tell_refused(self, refused: Refused) -> None:
        """Hands a refusal to every witness."""
        for witness in self.witnesses:
            try:
                witness.refused(refused)
            except Exception as error:  # noqa: BLE001 - a witness that fails costs no client an answer
                self.failed_witness(witness, error)

    def failed_witness(self, witness: Witness, error: Exception) -> None:
        """Logs the first failure of each witness: a full disk stays full for a while."""
        if witness not in self._failed_witnesses:
            self._failed_witnesses.append(witness)
            log.error("requests are not written down, or not all", exc_info=error)
