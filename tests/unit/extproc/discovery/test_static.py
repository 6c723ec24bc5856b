import asyncio
from collections.abc import Sequence

from extproc.discovery.static import StaticDiscovery
from scheduler.types import Pod


async def published(*pods: Pod) -> list[Sequence[Pod]]:
    source = StaticDiscovery(pods)
    lists: list[Sequence[Pod]] = []
    task = asyncio.create_task(source.run(lists.append))
    await source.first_sync.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return [list(one) for one in lists]


async def test_in_the_order_written_with_all_that_is_written() -> None:
    pods = [Pod("10.0.0.2:80", "b", {"zone": "x"}), Pod("[::1]:80", "a")]
    assert await published(*pods) == [pods]


async def test_none_is_a_list_too() -> None:
    assert await published() == [[]]


async def test_of_equal_addresses_the_first() -> None:
    first, other = Pod("10.0.0.1:80", "first"), Pod("10.0.0.2:80")
    assert await published(first, other, Pod("10.0.0.1:80", "second")) == [[first, other]]
