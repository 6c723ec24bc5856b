"""What the plugins come to together, over small engines that take 8 requests at once and queue the rest."""

from collections import Counter, defaultdict
from random import Random

from support.snapshots import P, snapshot

from scheduler.builder import build
from scheduler.config import SchedulerConfig, ScorerRef
from scheduler.cycle import schedule
from scheduler.registry import in_tree_registry
from scheduler.types import Decision, Prompt, Request

PODS = 3
ROOM = 8
STICKY = SchedulerConfig(
    filters_enabled=("least-request", "prefix-affinity"), scores_enabled=(ScorerRef("token-load"),)
)


class Fleet:
    """Pods, a profile, and the requests in flight."""

    def __init__(self, config: SchedulerConfig, seed: int = 1) -> None:
        self.rng = Random(seed)
        self.profile, _ = build(config, in_tree_registry())
        self.rows = [P() for _ in range(PODS)]
        self.flying: list[tuple[int, int]] = []

    def send(self, prompt: str) -> tuple[int, Decision]:
        pods = snapshot(
            *[
                P(
                    waiting=max(row.in_flight - ROOM, 0),
                    running=min(row.in_flight, ROOM),
                    kv=0.2,
                    in_flight=row.in_flight,
                    tokens=row.tokens,
                    served=row.served,
                )
                for row in self.rows
            ]
        )
        decision = schedule(self.profile, Request(model="m", prompt=Prompt([prompt])), pods, now=0.0, rng=self.rng)
        row = pods.rows[decision.pod.address]
        self._count(row, 1, decision.uncached_tokens)
        self.flying.append((row, decision.uncached_tokens))
        return row, decision

    def end_one(self) -> None:
        row, tokens = self.flying.pop(self.rng.randrange(len(self.flying)))
        self._count(row, -1, -tokens)

    def _count(self, row: int, requests: int, tokens: int) -> None:
        old = self.rows[row]
        self.rows[row] = P(
            in_flight=old.in_flight + requests, tokens=old.tokens + tokens, served=old.served + max(requests, 0)
        )

    def text(self, size: int) -> str:
        return self.rng.randbytes(size // 2).hex()


def test_independent_groups_spread_and_each_stays_on_its_pod() -> None:
    for seed in range(5):
        fleet = Fleet(STICKY, seed)
        systems = [fleet.text(6000) for _ in range(8)]
        served: dict[int, Counter[int]] = defaultdict(Counter)
        for _ in range(300):
            if len(fleet.flying) == 8:
                fleet.end_one()
            group = fleet.rng.randrange(8)
            row, _ = fleet.send(systems[group] + fleet.text(400))
            served[group][row] += 1
        for counts in served.values():
            assert max(counts.values()) >= 0.9 * counts.total()
        assert max(row.served for row in fleet.rows) <= 0.5 * 300


def test_a_second_request_joins_the_first_before_that_is_answered() -> None:
    fleet = Fleet(STICKY)
    system = fleet.text(6000)
    first, _ = fleet.send(system + fleet.text(400))
    second, decision = fleet.send(system + fleet.text(400))
    assert first == second
    assert decision.prefix_match is not None
    assert decision.prefix_match > 0.9


def test_one_busy_group_spills_over_instead_of_queueing() -> None:
    fleet = Fleet(STICKY)
    system = fleet.text(6000)
    for _ in range(PODS * ROOM):
        fleet.send(system + fleet.text(400))
    # One may queue on each pod before the scrape shows a queue.
    assert [row.in_flight for row in fleet.rows if row.in_flight > ROOM + 1] == []


def test_unique_prompts_spread_with_the_defaults() -> None:
    fleet = Fleet(SchedulerConfig())
    for _ in range(300):
        if len(fleet.flying) == 12:
            fleet.end_one()
        fleet.send(fleet.text(2000))
    assert max(row.served for row in fleet.rows) <= 0.4 * 300
