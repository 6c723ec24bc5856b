"""What the scheduler comes to behind the real Envoy, and that it explains itself."""

import asyncio
import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from support.bare import BARE
from support.eventually import eventually
from support.gateway import MODEL, configuration, gateway

from modelsim.server import Faults

pytestmark = pytest.mark.integration

#: Sticky until saturated (docs/plugins.md).
STICKY = """
scheduler:
  plugins:
    Filter: {enabled: [least-request, prefix-affinity]}
    Score: {enabled: [{name: token-load}]}
"""


def text(rng: random.Random, size: int) -> str:
    return rng.randbytes(size // 2).hex()


async def test_independent_groups_spread_and_each_stays_on_its_pod(tmp_path: Path) -> None:
    rng = random.Random(5)
    systems = [text(rng, 6000) for _ in range(8)]
    served: dict[int, Counter[str]] = defaultdict(Counter)
    async with gateway(configuration(STICKY, tmp_path), speedup=20) as running:
        gate = asyncio.Semaphore(8)

        async def one(number: int, question: str) -> None:
            async with gate:
                answer = await running.chat(question, system=systems[number % 8], max_tokens=4)
                assert answer.status == 200
                served[number % 8][answer.pod] += 1

        numbers = list(range(400))
        rng.shuffle(numbers)
        await asyncio.gather(*[one(number, text(rng, 400)) for number in numbers])
    for counts in served.values():
        assert max(counts.values()) >= 0.9 * counts.total()
    total = sum(served.values(), Counter())
    assert len(total) == 3
    assert max(total.values()) <= 0.5 * total.total()


async def test_one_busy_group_spills_over_instead_of_queueing(tmp_path: Path) -> None:
    rng = random.Random(6)
    system = text(rng, 6000)
    pods: Counter[str] = Counter()
    async with gateway(configuration(STICKY, tmp_path), speedup=5, engine={"max_num_seqs": 8}) as running:

        async def client(number: int) -> None:
            for turn in range(8):
                answer = await running.chat(f"{number} {turn} {text(rng, 400)}", system=system, max_tokens=40)
                assert answer.status == 200
                pods[answer.pod] += 1

        await asyncio.gather(*[client(number) for number in range(24)])
    # A pod takes 8 at once and 24 come: after the first burst, which no scrape could have told of, all three share them.
    assert len(pods) == 3
    assert max(pods.values()) <= 0.6 * pods.total()


async def test_a_second_request_joins_the_first_before_that_is_answered(tmp_path: Path) -> None:
    rng = random.Random(7)
    system = text(rng, 6000)
    async with gateway(configuration(STICKY, tmp_path), speedup=0.5) as running:
        first = asyncio.create_task(running.chat("one", system=system, max_tokens=100))

        async def picked() -> bool:
            return await running.in_flight() == 1

        await eventually(picked)
        second = await running.chat("two", system=system, max_tokens=1)
        assert not first.done()
        assert second.pod == (await first).pod


@pytest.mark.parametrize(("source", "header"), [("header", "x-team"), ("cookie", "cookie")])
async def test_a_session_stays_on_its_pod(tmp_path: Path, source: str, header: str) -> None:
    document = f"""
scheduler:
  plugins:
    Score: {{enabled: [{{name: session-affinity}}]}}
  pluginConfig: [{{name: session-affinity, args: {{{source}: x-team}}}}]
"""
    pods: dict[int, set[str]] = defaultdict(set)
    async with gateway(configuration(document, tmp_path)) as running:

        async def ask(session: int, turn: int) -> None:
            value = f"x-team={session}; theme=dark" if source == "cookie" else str(session)
            answer = await running.chat(f"{session} {turn}", max_tokens=1, headers={header: value})
            assert answer.status == 200
            pods[session].add(answer.pod)

        await asyncio.gather(*[ask(session, turn) for turn in range(4) for session in range(12)])
    assert {len(where) for where in pods.values()} == {1}
    assert set.union(*pods.values()) == {"pod-1", "pod-2", "pod-3"}


@pytest.mark.parametrize("status", [429, 404])
async def test_a_pod_that_is_full_or_lacks_the_model_is_no_black_hole(tmp_path: Path, status: int) -> None:
    """It answers at once, so that it has the fewest requests in flight: two pods of three are free."""
    statuses: Counter[int] = Counter()
    async with gateway(configuration("{}", tmp_path)) as running:
        full = running.fleet.replicas[0]
        full.faults = Faults(error_rate=1, status=status)

        async def client(number: int) -> None:
            for turn in range(10):
                statuses[(await running.chat(f"{number} {turn}", max_tokens=8)).status] += 1

        await asyncio.gather(*[client(number) for number in range(12)])
        assert statuses == {200: 120}
        # When all say so, the client gets what the pod said.
        for replica in running.fleet.replicas:
            replica.faults = Faults(error_rate=1, status=status)
        answer = await running.chat("and now?")
        assert answer.status == status


async def test_a_pod_that_fails_fast_does_not_swallow_the_traffic(tmp_path: Path) -> None:
    """It would always have the fewest requests in flight."""
    statuses: Counter[int] = Counter()
    async with gateway(configuration("{}", tmp_path)) as running:
        running.fleet.replicas[0].faults = Faults(error_rate=1, status=500)

        async def client(number: int) -> None:
            for turn in range(25):
                statuses[(await running.chat(f"{number} {turn}", max_tokens=8)).status] += 1

        await asyncio.gather(*[client(number) for number in range(4)])
        assert statuses[500] <= 20
        # Well again, it is found out about by one request at a time.
        running.fleet.replicas[0].faults = Faults()

        async def taken_back() -> bool:
            # Several at once: of those that come alone, each may go to the pod that is known to be the quickest.
            answers = await asyncio.gather(*[running.chat("again", max_tokens=8) for _ in range(6)])
            return "pod-1" in {answer.pod for answer in answers}

        await eventually(taken_back)


@pytest.mark.parametrize("allowed", [True, False])
async def test_the_debug_header(tmp_path: Path, allowed: bool) -> None:
    document = f"debug: {{responseHeader: {str(allowed).lower()}}}"
    async with gateway(configuration(document, tmp_path), pods=2) as running:
        for stream in (False, True):
            asked = await running.chat(stream=stream, headers={"x-gateway-debug": "true"})
            assert asked.status == 200
            if allowed:
                row = json.loads(asked.headers["x-gateway-debug"])
                names = {replica.address: replica.name for replica in running.fleet.replicas}
                assert names[row["pod"]] == asked.pod
                assert set(row["scores"]) == {"least-cost"}
                assert row["cost"]["seconds"] >= 0
            else:
                assert "x-gateway-debug" not in asked.headers
        assert "x-gateway-debug" not in (await running.chat()).headers


async def test_explain_prints_a_decision_and_routes_nothing(tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello! " * 50}]}))
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    async with gateway(configuration("{}", tmp_path), pods=2) as running:

        async def explain(*arguments: str) -> tuple[int, str, str]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "extproc", "explain", "--admin", running.stack.admin, *arguments,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**BARE, "COLUMNS": "200"},
            )  # fmt: skip
            out, err = await process.communicate()
            return process.returncode or 0, out.decode(), err.decode()

        code, out, _ = await explain(str(body))
        assert code == 0
        for expected in (*running.fleet.addresses, "×1", "total", MODEL, "of which it"):
            assert expected in out
        code, out, _ = await explain("--json", str(body))
        assert code == 0
        assert len(json.loads(out)["candidates"]) == 2
        code, _, err = await explain(str(wrong))
        assert code == 1
        assert "400" in err
        assert "JSON object" in err
        assert [replica.requests_received for replica in running.fleet.replicas] == [0, 0]
        assert await running.in_flight() == 0
        assert (await running.stack.debug("/debug/decisions"))["decisions"] == []
    code, _, err = await explain(str(body))
    assert code == 1
    assert "no answer" in err
