"""A pool, as the decision sees it. Discovery and scrapes, which fill it, are in `extproc.fleet.feeds`."""

from typing import TYPE_CHECKING

from scheduler.pool.store import PodStore

if TYPE_CHECKING:
    from scheduler.profile import Profile


class Pool:
    """Pods that are interchangeable, and the plugins that choose between them."""

    __slots__ = ("accepts", "name", "profile", "store")

    def __init__(self, name: str, store: PodStore, profile: "Profile", accepts: frozenset[str] = frozenset()) -> None:
        self.name = name
        #: Content encodings of requests that its pods take.
        self.accepts = accepts
        self.store = store
        #: With a memory of its own: the caches of one pool's pods are unrelated to another's. A reload replaces it.
        self.profile = profile
