"""The admin page in a real Chromium (`make browser`). `make test` has what can be checked without one."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.busy import HOSTILE, Busy
from support.chromium import Page, chromium


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with chromium() as page:
        yield page


async def texts(page: Page, selector: str) -> list[str]:
    found = await page.run(f"[...document.querySelectorAll({selector!r})].map(one => one.textContent)")
    assert isinstance(found, list)
    return found


async def test_a_working_gateway(page: Page) -> None:
    gateway = Busy(pods=3)
    for number in range(5):
        gateway.request("a-model", f"req-{number}")
    gateway.request("a-model", status=503)
    gateway.metrics.refused(401, "no_token")
    async with gateway.serving() as address:
        await page.open(f"http://{address}/")
        assert await page.until("document.querySelector('#state').textContent === 'ready'")
        assert len(await texts(page, "#pods tr")) == 1 + 3
        assert (await texts(page, "#pods td"))[:2] == ["model-1", "ready"]
        assert await texts(page, "#outcomes td:nth-child(odd)") == ["200", "5", "503", "1"]
        assert (await texts(page, "#refusals td"))[:2] == ["401", "no_token"]
        assert (await texts(page, "#models td"))[0] == "a-model"
        assert (await texts(page, "#decisions tr:nth-child(3) td"))[1:3] == ["a-model", "req-4"]
        # Rates come with the second look.
        assert await page.until("!document.querySelector('#tiles b').textContent.includes('–')")
        assert await page.until("document.querySelectorAll('#tiles polyline').length === 2")
        for number in range(8):
            gateway.request("a-model", f"late-{number}")
        assert await page.until("document.querySelector('#tiles b').textContent !== '0.0'")
        assert set(page.requests) <= {f"http://{address}/", f"http://{address}/debug/summary", "data:,"}
        assert page.complaints == []


async def test_no_pods(page: Page) -> None:
    gateway = Busy(pods=0)
    gateway.not_ready = "endpoints are not known yet"
    async with gateway.serving() as address:
        await page.open(f"http://{address}/")
        assert await page.until("document.querySelector('#state').textContent.startsWith('endpoints are not')")
        assert await texts(page, "#pods td") == ["No pods yet."]
        assert await texts(page, "#decisions td") == ["None yet."]
        assert page.complaints == []


async def test_two_hundred_pods(page: Page) -> None:
    gateway = Busy(pods=200)
    for number in range(300):
        gateway.request("m", f"r-{number}", ends=False)
    async with gateway.serving() as address:
        await page.open(f"http://{address}/", width=1280)
        assert await page.until("document.querySelectorAll('#pods tr').length === 201")
        assert not await page.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert page.complaints == []


@pytest.mark.parametrize("width", [360, 800])
async def test_a_small_screen_scrolls_tables_and_not_the_page(page: Page, width: int) -> None:
    gateway = Busy()
    gateway.request()
    async with gateway.serving() as address:
        await page.open(f"http://{address}/", width=width)
        assert await page.until("document.querySelectorAll('#decisions tr').length === 2")
        assert not await page.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")


async def test_what_clients_send_stays_text(page: Page) -> None:
    gateway = Busy()
    for number in range(3):
        gateway.request(f"{HOSTILE}{number}", HOSTILE)
    gateway.metrics.refused(400, HOSTILE)
    address_of_pod = gateway.rows()[0]["address"]
    gateway.store.observe_failure(address_of_pod, 100.0, HOSTILE)
    async with gateway.serving() as address:
        await page.open(f"http://{address}/")
        assert await page.until("document.querySelectorAll('#decisions tr').length === 4")
        await page.until("looks.length > 1")
        assert await page.run("document.title") == "infer-gateway"
        assert await page.run("document.querySelectorAll('img, main script').length") == 0
        assert (await texts(page, "#decisions td.long"))[0].startswith("<img src=x onerror=")
        assert page.complaints == []


async def test_the_policy_stops_what_would_get_in(page: Page) -> None:
    """The second wall, should the first ever have a hole."""
    async with Busy().serving() as address:
        await page.open(f"http://{address}/")
        await page.until("looks.length > 0")
        await page.run("document.body.insertAdjacentHTML('beforeend', "
                       "'<img src=x onerror=\"document.title=1\"><b style=\"color:red\" onclick=\"document.title=2\">x</b>')")  # fmt: skip
        await page.run("document.querySelector('main + * + b, body > b').click()")
        await page.run("{ const one = document.createElement('script'); one.textContent = 'document.title = 3';"
                       " document.body.append(one); 0 }")  # fmt: skip
        assert await page.run("fetch('http://localhost:1/').then(() => 'went', () => 'stopped')") == "stopped"
        assert await page.run("document.title") == "infer-gateway"
        assert len([one for one in page.complaints if "Content Security Policy" in one]) >= 4


async def test_a_sidecar_that_is_away_is_told_of_and_looked_for(page: Page) -> None:
    gateway = Busy()
    gateway.request()
    async with gateway.serving() as address:
        await page.open(f"http://{address}/")
        await page.until("document.querySelector('#state').textContent === 'ready'")
    assert "trying again" in await page.until(
        "(text => text.includes('no answer') && text)(document.querySelector('#state').textContent)"
    )
    assert await page.run("document.querySelector('#main').classList.contains('away')")
    assert len(await texts(page, "#pods tr")) == 1 + 3  # what was known last


async def test_pause(page: Page) -> None:
    async with Busy().serving() as address:
        await page.open(f"http://{address}/")
        await page.until("looks.length > 0")
        await page.run("document.querySelector('#pause').click()")
        before = len(page.requests)
        await page.run("look()")
        await asyncio.sleep(0)
        assert len(page.requests) == before
        await page.run("document.querySelector('#pause').click()")
        await page.until("looks.length > 1")


@pytest.mark.parametrize("dark", [False, True])
async def test_it_is_readable_in_light_and_dark(page: Page, dark: bool) -> None:
    """Text against its ground, by the contrast that WCAG asks for (4.5)."""
    gateway = Busy()
    gateway.request()
    gateway.request(status=500)
    async with gateway.serving() as address:
        await page.open(f"http://{address}/", dark=dark)
        await page.until("document.querySelectorAll('#outcomes tr').length === 3")
        ground = await page.run("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(16, 20, 27)") is dark
        contrasts = await page.run(
            """(() => {
                const parts = text => text.match(/[\\d.]+/g).map(Number);
                const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
                    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
                const ground = node => {
                    const found = parts(getComputedStyle(node).backgroundColor);
                    return found[3] === 0 ? ground(node.parentElement) : found;
                };
                return [...document.querySelectorAll("td, th, h1, h2, a, b, button, .chip, .dim")].map(node => {
                    const [one, other] = [light(parts(getComputedStyle(node).color)), light(ground(node))];
                    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
                });
            })()"""
        )
        assert len(contrasts) > 50
        assert min(contrasts) >= 4.5
