"""Events that this process sends to and receives from other gateways, over the configured carrier."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from extproc.config.sections.sharing import SharingConfig
from extproc.errors import GatewayError
from extproc.process.background import Background
from extproc.sharing.group import Group
from extproc.sharing.journal import Journal
from extproc.sharing.secret import MADE, secret_of
from scheduler.pool.shared import Event

if TYPE_CHECKING:
    from extproc.sharing.redis.carrier import Carrier
    from extproc.sharing.topic import DistantIncoming, DistantTopic

log = logging.getLogger(__name__)

#: Seconds between looks at the secret's file. Kubernetes takes a minute to change one.
SECRET_INTERVAL: Final = 10.0
#: Seconds that a secret in Redis outlives the last gateway: a restart of all keeps it.
SECRET_EXPIRY: Final = 86_400


class Gateways:
    """The other gateways of the group.

    Args:
        config: of the group, and the carrier.
        gateway: this one's name among them, drawn when it started.
        place: of this process in it.
        run: of this process.
        on_seed: called with the seed of hashes that the group has, now and when it changes.
    """

    def __init__(
        self, config: SharingConfig, gateway: bytes, place: str, run: int, on_seed: Callable[[int], None]
    ) -> None:
        #: What is shared, by name. To be filled before `start`.
        self.topics: dict[str, DistantTopic] = {}
        self.reseeded = 0
        self._config = config
        self._on_seed = on_seed
        me = gateway, place
        self._journal = Journal(me, run, self.topics, lambda: self._group.seal, self._due)
        self._group = Group(me, run, self.topics, self._asked, self._journal.tell_notes)
        self._prefix = f"{config.redis.prefix}:{{{config.group}}}"
        self._material = b""
        self._carrier: Carrier | None = None
        self._watching: asyncio.Task[None] | None = None

    def teller(self, topic: str) -> Callable[[Event], None]:
        """A function that queues events of a topic for the other gateways."""
        add = self._journal.add

        def tell(event: Event) -> None:
            add(topic, event)

        return tell

    def _asked(self) -> None:
        self._journal.tell_all()
        if self._carrier is not None:
            self._carrier.due()

    def _due(self) -> None:
        if self._carrier is not None:
            self._carrier.due()

    async def start(self, background: Background | None = None) -> None:
        """Connects, in the background, which starts what dies again.

        Raises:
            OSError: the file of the secret cannot be read.
            GatewayError: the library is not installed, or the file is empty.
        """
        from extproc.sharing.redis.carrier import Carrier

        background = background or Background()
        if self._config.secret_file is not None:
            material = Path(self._config.secret_file).read_bytes()  # noqa: ASYNC240 - at the start
            if not material.strip():
                raise GatewayError(f"cannot start: sharing.secretFile: {self._config.secret_file} is empty")
            self._adopt(material)
            run = partial(self._watch_secret, self._config.secret_file)
            self._watching = background.start("sharing", run, of="secret")
        else:
            log.warning("sharing: no secretFile: whoever reads Redis can test guesses of prompts")
        self._carrier = Carrier(
            self._config.redis, self._group, self._journal, key=f"{self._prefix}:events", prepare=self._prepare
        )
        await self._carrier.start(background)

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._carrier is not None:
            await self._carrier.stop()

    def not_ready(self) -> str:
        """Why this process should not decide yet: others know more. "" where it may."""
        return "" if self._carrier is None else self._carrier.not_ready()

    def incoming(self, topic: str) -> Iterator["DistantIncoming"]:
        """What takes in a topic's events, of each process of another gateway."""
        return self._group.incoming(topic)

    def statistics(self) -> Mapping[str, float]:
        """Numbers by name."""
        group, carrier = self._group, self._carrier
        if carrier is None:
            return {}
        return {
            "up": float(carrier.up),
            "age": carrier.age,
            "members": group.members,
            "strangers": group.strangers,
            "in_flight": group.in_flight,
            "sent_bytes": carrier.sent_bytes,
            "sent_messages": carrier.sent_messages,
            "heard_bytes": carrier.heard_bytes,
            "heard_messages": carrier.heard_messages,
            "dropped": carrier.dropped,
            "lost": group.lost,
            "duplicates": group.duplicates,
            "unknown": group.unknown,
            "foreign": group.foreign,
            "reseeded": self.reseeded,
        }

    # The secret

    async def _watch_secret(self, path: str) -> None:
        while True:
            await asyncio.sleep(SECRET_INTERVAL)
            with contextlib.suppress(OSError):  # it is being replaced
                self._adopt(await asyncio.to_thread(Path(path).read_bytes))

    async def _prepare(self, client: Any) -> None:
        """Has a secret made in Redis, where no file has one, and uses the one that is there."""
        if self._config.secret_file is not None:
            return
        key = f"{self._prefix}:secret"
        made = self._material or secrets.token_hex(MADE).encode()
        await client.execute_command("SET", key, made, "NX", "EX", SECRET_EXPIRY)
        found = await client.execute_command("GET", key)
        await client.execute_command("EXPIRE", key, SECRET_EXPIRY)
        self._adopt(found or made)

    def _adopt(self, material: bytes) -> None:
        # An empty one is about to be written.
        if material.strip() in (b"", self._material.strip()):
            return
        first, self._material = not self._material, material
        secret = secret_of(material, self._config.group)
        self._group.seal = secret.seal
        self._on_seed(secret.seed)
        if not first:
            self.reseeded += 1
            log.warning("sharing: the secret is another one, what pods hold has to be learnt anew")
