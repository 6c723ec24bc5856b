"""wrk: somebody else's load client. Bodies come from files, through load.lua."""

import asyncio
import json
import random
import shutil
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: Beginnings (system prompts and histories) that requests share in turn.
BEGINNINGS = 64
#: Bytes of a prompt that no two requests share: the newest message.
NEW_BYTES = {1: 256}
NEW_BYTES_DEFAULT = 1024
INSTALL = "wrk is not installed. It is the load client: `apt-get install wrk`."


class WrkFailed(Exception):
    """wrk is not there, or did not say what it measured."""


class Load:
    """Requests of some sizes, written to files once. Each request has a number of its own, in all runs together."""

    def __init__(self, folder: Path, sizes: list[int]) -> None:
        if shutil.which("wrk") is None:
            raise WrkFailed(INSTALL)
        self._folder = folder
        self._sent = 0
        rng = random.Random(1)
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(2000)]

        def text(size: int) -> str:
            return " ".join(rng.choices(words, k=size // 4))[:size]

        for kib in sizes:
            new = NEW_BYTES.get(kib, NEW_BYTES_DEFAULT)
            head = '{"model":"bench","messages":[{"role":"system","content":"'
            join = '"},{"role":"user","content":"'
            shared = kib * 1024 - new - len(head) - len(join) - len('"}],"stream":false}')
            lines = [f"{head}{text(shared)}{join}\n" for _ in range(BEGINNINGS)]
            (folder / f"beginnings-{kib}").write_text("".join(lines), encoding="utf-8")
            (folder / f"rest-{kib}").write_text(text(new), encoding="utf-8")

    async def run(
        self, address: str, *, kib: int, concurrency: int, stream: bool, seconds: int, token: str
    ) -> dict[str, Any]:
        """Requests, seconds, failed ones, and latencies in microseconds.

        Raises:
            WrkFailed: it did not run to its end.
        """
        command = [
            "wrk", "-t1", f"-c{concurrency}", f"-d{seconds}s", "--timeout", "20s",
            "-s", str(HERE / "load.lua"), f"http://{address}", "--",
            str(self._folder / f"beginnings-{kib}"), str(self._folder / f"rest-{kib}"), str(self._sent),
            "true" if stream else "false", token,
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        for line in output.decode().splitlines():
            if line.startswith("RESULT "):
                result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
                self._sent += result["requests"] + concurrency
                return result
        raise WrkFailed(f"{' '.join(command)}: {output.decode()}")
