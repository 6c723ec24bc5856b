"""A real Chromium, driven over its DevTools protocol: no driver, no package, only the browser itself."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from support.eventually import PATIENCE, eventually

#: Environment variable with the path of the browser.
VARIABLE = "CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def executable() -> str:
    """The browser's path.

    Raises:
        RuntimeError: there is none.
    """
    for name in (os.environ.get(VARIABLE), *_NAMES):
        if name and (path := shutil.which(name)):
            return path
    raise RuntimeError(f"no Chromium here: install one (Debian: apt-get install chromium), or set {VARIABLE}")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator["Page"]:
    """A browser with one empty page. It and its profile are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        # --no-sandbox: containers run as root; the only pages shown are our own.
        process = await asyncio.create_subprocess_exec(
            executable(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={**os.environ, "HOME": profile},
        )  # fmt: skip
        try:
            assert process.stderr is not None
            async with asyncio.timeout(PATIENCE):
                while True:
                    line = (await process.stderr.readline()).decode(errors="replace")
                    assert line, "chromium ended"
                    if found := re.search(r"ws://([^/]+)/", line):
                        break
            rest = asyncio.create_task(process.stderr.read())
            async with aiohttp.ClientSession(f"http://{found[1]}") as session:
                async with session.get("/json/list") as response:
                    targets = await response.json()
                url = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    page = Page(socket)
                    reader = asyncio.create_task(page.read())
                    for domain in ("Page", "Runtime", "Log", "Network"):
                        await page.call(f"{domain}.enable")
                    yield page
                    reader.cancel()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        await rest


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        #: What the console says that is an error or a warning, refusals by the content security policy among it.
        self.complaints: list[str] = []
        #: URLs that were asked for.
        self.requests: list[str] = []

    async def read(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if (future := self._waiting.pop(data.get("id"), None)) is not None:
                future.set_result(data)
            method, params = data.get("method"), data.get("params", {})
            if method == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                self.complaints.append(json.dumps(params["args"]))
            elif method == "Page.loadEventFired":
                self._loaded.set()
            elif method == "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            elif method == "Page.javascriptDialogOpening":
                self.complaints.append(f"dialog: {params['message']}")

    async def call(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE):
            answer = await future
        assert "error" not in answer, answer
        return answer["result"]

    async def open(
        self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, scale: float = 1
    ) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(PATIENCE):
            await self._loaded.wait()

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """The value of an expression, once it is true."""
        return await eventually(lambda: self.run(script))

    async def picture(self) -> bytes:
        """The whole page as PNG, however long it is."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])
