"""Slots for LoRA adapters on the GPU: the least recently used one that no request uses makes room for another."""


class LoraSlots:
    def __init__(self, slots: int, load_time: float) -> None:
        self._slots = slots
        self._load_time = load_time
        # Least recently used first.
        self._users: dict[str, int] = {}
        self._usable_at: dict[str, float] = {}

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(self._users)

    @property
    def in_use(self) -> int:
        """Slots that are held by requests."""
        return sum(1 for users in self._users.values() if users)

    def fits(self, adapter: str) -> bool:
        """Whether the adapter has a slot or could be given one now."""
        return adapter in self._users or len(self._users) < self._slots or 0 in self._users.values()

    def acquire(self, adapter: str, now: float) -> float:
        """Holds the adapter's slot for one request; it must fit. Returns the moment from which it is usable."""
        users = self._users.pop(adapter, None)
        if users is None:
            if len(self._users) >= self._slots:
                idle = next(name for name, count in self._users.items() if count == 0)
                del self._users[idle], self._usable_at[idle]
            self._usable_at[adapter] = now + self._load_time
            users = 0
        self._users[adapter] = users + 1
        return self._usable_at[adapter]

    def release(self, adapter: str) -> None:
        self._users[adapter] -= 1
