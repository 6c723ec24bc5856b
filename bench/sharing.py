"""What sharing costs a gateway: CPU of an own pick and of a pick that it is told of, over a real Redis or Valkey.

One process decides: the real scheduler, store, prefix index, journal and carrier, without Envoy. Another plays the
other gateways: it picks as they would, and tells. The CPU is that of the deciding process, in three turns per round:
alone, sharing with nobody, and told of what the others pick. Prompts are 4 KiB: one of 64 shared beginnings of 3 KiB,
and a tail of its own. A pick is released 50 ms later, with its outcome.

    python bench/sharing.py [--own 500] [--others 7] [--rounds 3] [--seconds 5]
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from extproc.config.sections.sharing import SharingConfig  # noqa: E402
from extproc.demo.redis_server import RedisServer  # noqa: E402
from extproc.process.build_info import compiled  # noqa: E402
from extproc.sharing.gateways import Gateways  # noqa: E402
from extproc.sharing.journal import Journal  # noqa: E402
from extproc.sharing.redis.carrier import COLLECT  # noqa: E402
from extproc.sharing.redis.client import connected  # noqa: E402
from extproc.sharing.replica import Replica  # noqa: E402
from extproc.sharing.secret import secret_of  # noqa: E402
from scheduler.builder import build  # noqa: E402
from scheduler.config import SchedulerConfig  # noqa: E402
from scheduler.cycle import schedule  # noqa: E402
from scheduler.pool.shared import Event, SharedStore  # noqa: E402
from scheduler.pool.store import PodStore  # noqa: E402
from scheduler.registry import in_tree_registry  # noqa: E402
from scheduler.types import Pod, Prompt, Request  # noqa: E402

PODS = tuple(Pod(f"127.0.0.{number}:8000") for number in range(1, 9))
TOPIC = "pool default"
#: Seconds that a request is in flight.
FLIGHT = 0.05
#: Targets: µs that a request waits longer for its pick, share of an own pick that a told one costs, bytes of a pick.
MOST_OWN, MOST_TOLD, MOST_BYTES = 10.0, 0.2, 1024
SECRET = b"thirty-two bytes, which are alike for all of this"


class Pool:
    """What decides, as in a gateway."""

    def __init__(self, store: PodStore, seed: int) -> None:
        self.store = store
        store.set_pods(PODS, time.monotonic())
        self.profile, _ = build(SchedulerConfig(), in_tree_registry())
        self.rng = random.Random(seed)
        beginnings = random.Random(1)
        self.beginnings = [beginnings.randbytes(1536).hex() for _ in range(64)]
        self.picks = 0

    def pick(self) -> None:
        now = time.monotonic()
        prompt = Prompt([self.rng.choice(self.beginnings) + self.rng.randbytes(512).hex()])
        decision = schedule(
            self.profile, Request(model="m", prompt=prompt), self.store.snapshot(now), now=now, rng=self.rng
        )
        ticket = self.store.acquire(decision.pod, decision.uncached_tokens, now)
        self.picks += 1

        def end() -> None:
            now = time.monotonic()
            ticket.release(now)
            self.store.observe_outcome(
                decision.pod.address, ttft=FLIGHT / 2, uncached_tokens=decision.uncached_tokens, tpot=0.01, now=now
            )

        asyncio.get_running_loop().call_later(FLIGHT, end)


async def picks(pool: Pool, rate: float, seconds: float) -> None:
    """So many a second, as they come: not at equal times."""
    rng = random.Random(2)
    ends = due = time.monotonic()
    ends += seconds
    while due < ends:
        due += rng.expovariate(rate)
        now = time.monotonic()
        # What a busy machine does not get done is not made up for.
        due = max(due, now - 0.1)
        await asyncio.sleep(max(due - now, 0))
        pool.pick()


async def play_others(url: str, count: int, rate: float) -> None:
    """Until it is ended: the picks of others, told as they tell them."""
    config = SharingConfig.model_validate({"redis": {"url": url}})
    secret = secret_of(SECRET, config.group)

    async def one(number: int) -> None:
        client = await connected(config.redis, patience=5.0)
        origin = (b"other%03d" % number, "0")
        topics: dict[str, Replica] = {}
        journal = Journal(origin, 0, topics, lambda: secret.seal, lambda: None)

        def tell(event: Event) -> None:
            journal.add(TOPIC, event)

        store = SharedStore(2.0, lambda _pod: None, tell)
        replica = topics[TOPIC] = Replica(tell, secret.seed)
        replica.share_store(store)
        pool = Pool(store, number)
        replica.share_plugins(pool.profile)
        picking = asyncio.create_task(picks(pool, rate, 3600))
        while not picking.done():
            await asyncio.sleep(COLLECT)
            message = journal.take(time.monotonic())
            await client.execute_command(
                "XADD", "infer-gateway:{default}:events", "MAXLEN", "~", 50_000, "*", b"1", message
            )

    await asyncio.gather(*[one(number) for number in range(count)])


@contextlib.asynccontextmanager
async def others(url: str, options: argparse.Namespace) -> AsyncIterator[None]:
    command = [sys.executable, __file__, "--play", url, "--others", str(options.others), "--own", str(options.own)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def spent(pool: Pool, options: argparse.Namespace) -> tuple[float, int]:
    """Seconds of CPU, and how many picks were made with it: on a busy machine not as many as should be."""
    cpu, before = time.process_time(), pool.picks
    await picks(pool, options.own, options.seconds)
    return time.process_time() - cpu, pool.picks - before


async def inline(pool: Pool, count: int = 3_000) -> float:
    """Seconds of CPU of a pick in a row of them, with nothing of the loop: what its request waits for."""
    cpu = time.process_time()
    for _ in range(count):
        pool.pick()
    seconds = (time.process_time() - cpu) / count
    await asyncio.sleep(FLIGHT * 4)
    return seconds


def picked_by_all(store: PodStore) -> int:
    return sum(row["served"] for row in store.statistics(time.monotonic()))


async def one_round(options: argparse.Namespace) -> dict[str, float]:
    async with RedisServer() as redis:
        pool = Pool(PodStore(2.0), 0)
        await picks(pool, options.own, 1)
        cpu, made = await spent(pool, options)
        alone = cpu / made
        inline_alone = await inline(pool)

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "secret"
            path.write_bytes(SECRET)
            config = SharingConfig.model_validate({"secretFile": str(path), "redis": {"url": redis.url}})
            gateways = Gateways(config, b"measured", "0", 0, lambda seed: replica.reseed(seed))  # noqa: PLW0108 - made below
            tell = gateways.teller(TOPIC)
            store = SharedStore(2.0, lambda _pod: None, tell)
            replica = Replica(tell, 0)
            gateways.topics[TOPIC] = replica
            replica.share_store(store)
            pool = Pool(store, 0)
            replica.share_plugins(pool.profile)
            await gateways.start()
            while gateways.not_ready():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await picks(pool, options.own, 1)
            before = gateways.statistics()
            cpu, made = await spent(pool, options)
            shared = cpu / made
            after = gateways.statistics()
            sent = (after["sent_bytes"] - before["sent_bytes"]) / made
            inline_shared = await inline(pool)
            async with others(redis.url, options):
                async with asyncio.timeout(60):
                    while gateways.statistics()["members"] < options.others:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                await picks(pool, options.own, 1)
                before, served = gateways.statistics(), picked_by_all(store)
                began = time.monotonic()
                cpu, made = await spent(pool, options)
                seconds = time.monotonic() - began
                after = gateways.statistics()
                picked = picked_by_all(store) - served - made
                told, rate = (cpu - made * shared) / picked, picked / seconds
                heard = (after["heard_bytes"] - before["heard_bytes"]) / seconds
                messages = (after["heard_messages"] - before["heard_messages"]) / seconds
            await gateways.stop()
    assert not after["unknown"], after
    return {
        "own": alone * 1e6,
        "inline": (inline_shared - inline_alone) * 1e6,
        "tell": (shared - alone) * 1e6,
        "told": told * 1e6,
        "cores": told * options.own * options.others,
        "sent": sent,
        "heard": heard,
        "rate": rate,
        "messages": messages,
        "lost": after["lost"] - before["lost"],
    }


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", type=int, default=500, help="picks a second of each gateway")
    parser.add_argument("--others", type=int, default=7, help="other gateways")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--play", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        await play_others(options.play, options.others, options.own)
        return 0
    rounds = []
    for _ in range(options.rounds):
        rounds.append(await one_round(options))
        print(json.dumps(rounds[-1]), file=sys.stderr)
    median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    share = median["told"] / median["own"]
    print(
        f"{options.own} own picks a second, {options.others} other gateways with as many; {options.rounds} rounds,"
        f" medians; {'compiled' if compiled() else 'not compiled'}\n\n"
        f"an own pick            {median['own']:6.0f} µs of CPU (decision, its end, what wakes the loop)\n"
        f"its request waits for  {median['inline']:6.1f} µs more\n"
        f"to tell others of it   {median['tell']:6.1f} µs, {median['sent']:.0f} bytes\n"
        f"a pick that is told    {median['told']:6.1f} µs, {share:.0%} of an own one\n"
        f"{options.own * options.others:5} told a second   {median['cores']:6.3f} cores"
        f" (measured with {median['rate']:.0f} a second, {median['heard'] / 1e6:.2f} MB/s,"
        f" {median['messages']:.0f} messages/s)"
    )
    missed = [
        name
        for name, wrong in {
            f"a request waits more than {MOST_OWN:.0f} µs for it": median["inline"] > MOST_OWN,
            f"a told pick costs more than {MOST_TOLD:.0%} of an own one": share > MOST_TOLD,
            f"more than {MOST_BYTES} bytes a pick": median["sent"] > MOST_BYTES,
        }.items()
        if wrong
    ]
    for name in missed:
        print(f"MISSED: {name}")
    return int(bool(missed))


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        sys.exit(asyncio.run(main()))
    sys.exit(uvloop.run(main()))
