"""Envoy's memory is bound, and others are served meanwhile: uploads that never end, over real Envoy."""

import io
import json
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from support.eventually import eventually
from support.gateway import CHAT, Gateway, configuration, gateway
from support.tokens import AUTH, Signer
from support.uploads import Uploads, body_of

pytestmark = pytest.mark.integration

MIB = 1 << 20
HEAP = 192 * MIB
SETTINGS = """
listener: {maxBodyBytes: 8Mi}
envoy: {maxHeap: 192Mi}
"""


async def heap(running: Gateway) -> int:
    """Bytes that Envoy has allocated."""
    return int(json.loads(await running.stack.envoy_admin("/memory"))["allocated"])


class Others:
    """Clients that do nothing wrong: short requests one after another, and their long answers that stream."""

    def __init__(self, running: Gateway, headers: Mapping[str, str]) -> None:
        self._running = running
        self._headers = headers
        self.statuses: list[int] = []
        self.peak = 0

    async def ask(self, count: int) -> None:
        for number in range(count):
            answer = await self._running.chat(f"other {number}", stream=number % 4 == 0, headers=self._headers)
            self.statuses.append(answer.status)
            self.peak = max(self.peak, await heap(self._running))

    async def upload(self, size: int) -> None:
        headers = {**self._headers, "content-type": "application/json"}
        answer = await self._running.request("POST", CHAT, data=io.BytesIO(body_of(size)), headers=headers)
        # A model server had it, for whose context it is too long.
        assert answer.pod or answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("subjects", "count", "size", "piece", "heap_mib"),
    # Small pieces occupy 16 KiB of Envoy each: 24 of these bodies 190 MiB, which is as much as there is beside its rest.
    [(1, 60, 8 * MIB, 1 << 18, 192), (30, 60, 8 * MIB, 1 << 18, 192), (24, 24, MIB // 4, 520, 384)],
    ids=["of one subject", "of many subjects", "in small pieces"],
)
async def test_uploads_that_withhold_their_last_byte(
    tmp_path: Path, subjects: int, count: int, size: int, piece: int, heap_mib: int
) -> None:
    signer = Signer()
    settings = SETTINGS.replace("192", str(heap_mib))
    config = configuration(AUTH.format(jwks=signer.write(tmp_path)) + settings, tmp_path)
    attackers = [{"authorization": f"Bearer {signer.token(sub=f'attacker-{n}')}"} for n in range(subjects)]
    async with gateway(config) as running:
        others = Others(running, {"authorization": f"Bearer {signer.token(sub='honest')}"})
        attack = Uploads(running.stack.address, count, size, attackers, piece=piece)
        try:
            await eventually(lambda: attack.bytes >= min(64 * MIB, count * (size - 1)) or len(attack.statuses) > count)
            await others.ask(40)
            await others.upload(2 * MIB)
            await others.ask(10)
        finally:
            await attack.stop()
        assert set(others.statuses) == {200}
        assert others.peak < heap_mib * MIB, f"{others.peak / MIB:.0f} MiB"
        assert set(attack.statuses) <= {408, 429, 503}
        await eventually(lambda: nothing_held(running))


async def test_no_token_is_needed_while_the_sidecar_is_frozen_and_memory_is_bound_all_the_same(tmp_path: Path) -> None:
    signer = Signer()
    config = configuration(AUTH.format(jwks=signer.write(tmp_path)) + SETTINGS, tmp_path)
    async with gateway(config) as running:
        others = Others(running, {"authorization": f"Bearer {signer.token()}"})
        assert running.stack.sidecar is not None
        running.stack.sidecar.signal(signal.SIGSTOP)
        try:
            attack = Uploads(running.stack.address, 60, 8 * MIB, [{}], rounds=1)
            peak = 0

            async def over() -> bool:
                nonlocal peak
                peak = max(peak, await heap(running))
                # All was sent, or is held back, or was refused.
                return attack.bytes >= 300 * MIB or 503 in attack.statuses

            await eventually(over)
        finally:
            running.stack.sidecar.signal(signal.SIGCONT)
        await attack.stop()
        assert peak < 1.25 * HEAP, f"{peak / MIB:.0f} MiB"

        async def served() -> bool:
            await others.ask(1)
            return others.statuses[-1] == 200

        await eventually(served)


async def test_an_upload_that_is_too_large_or_has_no_length_is_refused_before_it_is_held(tmp_path: Path) -> None:
    async with gateway(configuration(SETTINGS, tmp_path)) as running:
        # Whoever goes on sending may be cut before the answer is read: then it comes again.
        attack = Uploads(running.stack.address, 1, 9 * MIB, [{}])
        await eventually(lambda: len(attack.statuses) >= 3)
        await attack.stop()
        assert set(attack.statuses) == {413}

        async def pieces(size: int) -> AsyncIterator[bytes]:
            for start in range(0, size, 1 << 16):
                yield body_of(size)[start : start + (1 << 16)]

        headers = {"content-type": "application/json"}
        small = await running.request("POST", CHAT, data=pieces(MIB // 2), headers=headers)
        assert small.pod or small.status == 200
        large = await running.request("POST", CHAT, data=pieces(3 * MIB // 2), headers=headers)
        assert (large.status, large.error()) == (413, "request_too_large")


async def nothing_held(running: Gateway) -> bool:
    return await running.metric("infer_gateway_body_bytes") == 0
