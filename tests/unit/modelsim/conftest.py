import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from support.eventually import PATIENCE


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        yield session


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], object]:
    """Waits for a condition that the event loop is about to make true."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0)

    return wait
