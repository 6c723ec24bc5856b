"""Whatever happens to messages and to gateways: once all have heard all, all count alike."""

from dataclasses import dataclass, field
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.sharing.group import GONE_AFTER, Group
from extproc.sharing.journal import Journal
from extproc.sharing.message import Message, decode
from extproc.sharing.replica import Replica
from scheduler.pool.shared import SharedStore
from scheduler.pool.store import Ticket
from scheduler.types import Pod

PODS = tuple(Pod(f"127.0.0.{number}:8000") for number in range(1, 4))
TOPIC = "pool default"


class Gateway:
    """One process. Another run of it is another object with the same name."""

    def __init__(self, name: int, run: int, skew: float) -> None:
        self.name, self.run = name, run
        #: Its monotonic clock is so far from the test's.
        self.skew = skew
        self.tickets: list[Ticket] = []
        self.store = SharedStore(2.0, lambda _pod: None, lambda event: self.journal.add(TOPIC, event))
        self.store.set_pods(PODS, 0.0)
        replica = Replica(lambda event: self.journal.add(TOPIC, event), 1)
        replica.share_store(self.store)
        me = (b"gateway%d" % name, "0")
        topics = {TOPIC: replica}
        self.journal = Journal(me, run, topics, lambda: b"seal", lambda: None)
        self.group = Group(me, run, topics, self.journal.tell_all, self.journal.tell_notes)
        self.group.seal = b"seal"

    def take(self, now: float, *, last: bool = False) -> "Sent":
        now += self.skew
        wanted = self.group.wanted(now)
        return Sent(self.name, decode(self.journal.take(now, wanted=wanted, last=last)), now - self.skew)

    def hear(self, sent: "Sent", now: float) -> None:
        self.group.hear(sent.message, sent.at + self.skew, now + self.skew)

    def counts(self, now: float) -> list[tuple[int, int]]:
        return [(row["in_flight"], row["in_flight_tokens"]) for row in self.store.statistics(now + self.skew)]

    def own(self) -> list[tuple[int, int]]:
        mine = [[ticket for ticket in self.tickets if ticket.pod.address == pod.address] for pod in PODS]
        return [(len(some), sum(ticket.tokens for ticket in some)) for some in mine]


@dataclass
class Sent:
    sender: int
    message: Message
    at: float


@dataclass
class World:
    gateways: dict[int, Gateway]
    now: float = 100.0
    #: Messages on their way, by who is to hear them.
    way: list[tuple[int, Sent]] = field(default_factory=list)

    def publish(self, gateway: Gateway, *, last: bool = False) -> None:
        sent = gateway.take(self.now, last=last)
        # Its own comes back at once, so that the carrier carries; the others' is on its way.
        gateway.hear(sent, self.now)
        self.way += [(name, sent) for name in self.gateways if name != gateway.name]

    def heal(self) -> None:
        """From now on nothing is lost: whatever is still on its way comes, late, and then time goes by."""
        for name, sent in self.way:
            if name in self.gateways:
                self.gateways[name].hear(sent, self.now)
        for _ in range(int(GONE_AFTER) * 2 + 4):
            self.now += 0.5
            self.way.clear()
            # More than one message of each: what waits may be more than one has.
            for gateway in list(self.gateways.values()):
                self.publish(gateway)
            for name, sent in self.way:
                self.gateways[name].hear(sent, self.now)
            for gateway in self.gateways.values():
                gateway.group.tick(self.now + gateway.skew)


KINDS = (
    "acquire", "acquire", "acquire", "release", "release", "move", "begin", "publish", "publish", "publish", "publish",
    "deliver", "lose", "lose", "lose", "again", "overflow", "wait", "restart", "die", "leave", "pause",
)  # fmt: skip
#: After each of these all is told anew, so that most of what is looked for is not to be seen any more: only now and then.
RARE = ("restart", "die", "leave", "pause", "overflow")
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 50)), max_size=80)


@settings(max_examples=300)
@given(STEPS, st.integers(2, 4), st.sets(st.sampled_from(RARE), max_size=2))
def test_all_count_alike_once_all_have_heard_all(steps: list[tuple[str, int, int]], count: int, rare: set[str]) -> None:
    skews = [0.0, 1e6, -50.0, 3.25]
    world = World({name: Gateway(name, 0, skews[name]) for name in range(count)})
    # All know each other, and hear themselves: what is to be made up for comes after that.
    world.heal()
    runs = dict.fromkeys(range(count), 0)
    for step, name, number in steps:
        world.now += 0.01
        gateway = world.gateways.get(name % count)
        if gateway is None or (step in RARE and step not in rare):
            continue
        now, tickets = world.now + gateway.skew, gateway.tickets
        match step:
            case "acquire":
                tickets.append(gateway.store.acquire(PODS[number % 3], number, now))
            case "release" if tickets:
                tickets.pop(number % len(tickets)).release(now)
            case "move" if tickets:
                tickets[number % len(tickets)].move(PODS[number % 3], now)
            case "begin" if tickets:
                tickets[number % len(tickets)].begin(now)
            case "publish":
                world.publish(gateway)
            case "deliver" | "again" if world.way:
                # In any order.
                to, sent = world.way[number % len(world.way)]
                if to in world.gateways:
                    world.gateways[to].hear(sent, world.now)
                if step == "deliver":
                    world.way.remove((to, sent))
            case "lose" if world.way:
                del world.way[number % len(world.way)]
            case "restart":
                runs[gateway.name] += 1
                world.gateways[gateway.name] = Gateway(gateway.name, runs[gateway.name], skews[number % 4])
            case "die" if len(world.gateways) > 1:
                del world.gateways[gateway.name]
            case "leave" if len(world.gateways) > 1:
                for ticket in tickets:
                    ticket.release(now)
                world.publish(gateway, last=True)
                del world.gateways[gateway.name]
            case "overflow":
                with patch("extproc.sharing.journal.MAX_WAITING", 1):
                    for _ in range(2):
                        gateway.store.observe_failure_of_request(PODS[0].address, now)
            case "wait" | "pause":
                world.now += number / (10 if step == "pause" else 500)
                for one in world.gateways.values():
                    one.group.tick(world.now + one.skew)
    world.heal()
    sums = [
        (
            sum(one.own()[row][0] for one in world.gateways.values()),
            sum(one.own()[row][1] for one in world.gateways.values()),
        )
        for row in range(len(PODS))
    ]
    for gateway in world.gateways.values():
        assert gateway.group.exact
        assert gateway.group.members == len(world.gateways) - 1
        assert gateway.group.unknown == 0
        assert gateway.counts(world.now) == sums
    # And nothing is left behind.
    for gateway in world.gateways.values():
        for ticket in gateway.tickets:
            ticket.release(world.now + gateway.skew)
        gateway.tickets.clear()
    world.heal()
    for gateway in world.gateways.values():
        assert gateway.counts(world.now) == [(0, 0)] * len(PODS)
