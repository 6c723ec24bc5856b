"""InferenceObjectives by a real watch against the suite's API server."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec
from support.eventually import eventually
from support.kube_api import KubeApi

from extproc.discovery.kubernetes.credentials import Cluster, Credentials
from extproc.discovery.kubernetes.objectives import InferenceObjective, ObjectiveWatch, priorities


def objective(name: str, priority: int | None, pool: str = "vllm") -> dict[str, Any]:
    spec: dict[str, Any] = {"poolRef": {"name": pool}}
    if priority is not None:
        spec["priority"] = priority
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def test_priorities_of_a_pool() -> None:
    found = [objective("a", 3), objective("b", None), objective("c", -1, "other"), {"metadata": {"name": "d"}}]
    objects = [msgspec.convert(one, InferenceObjective) for one in found]
    assert priorities(objects, "vllm") == {"a": 3, "b": 0, "d": 0}
    assert priorities(objects, "") == {"a": 3, "b": 0, "c": -1, "d": 0}


async def test_objectives_are_followed() -> None:
    api = KubeApi()
    await api.start()
    api.put("inferenceobjectives", objective("batch", -1))
    api.put("inferenceobjectives", objective("of another pool", -1, "other"))
    watch = ObjectiveWatch(Credentials(Cluster(server=api.url)), "default", "vllm", rng=random.Random(1))
    found: dict[str, int] = {}

    def publish(items: Sequence[tuple[str, int]]) -> None:
        found.clear()
        found.update(items)

    running = asyncio.create_task(watch.run(publish))
    try:

        async def known(**wanted: int) -> bool:
            return found == wanted

        await eventually(lambda: known(batch=-1))
        await api.wait_for_watches()  # the other group has no such kind there
        api.put("inferenceobjectives", objective("critical", 10))
        await eventually(lambda: known(batch=-1, critical=10))
        api.delete("inferenceobjectives", "batch")
        await eventually(lambda: known(critical=10))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await api.kill()
