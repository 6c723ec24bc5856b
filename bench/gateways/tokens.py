"""aiperf, somebody else's client, in front of simulated engines: times to first token and rates of tokens."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.environment import environment
from gateways.systems import FLOOR, STICKY, start

from modelsim.server import EngineConfig, Fleet, ReplicaConfig, serve

HERE = Path(__file__).resolve().parent
MODEL = "bench"
SYSTEMS = (FLOOR, "infer-gateway", STICKY, "smg round_robin", "smg cache_aware")
PODS, PREFIXES, PREFIX_TOKENS, NEW_TOKENS, OUTPUT_TOKENS = 4, 16, 1500, 100, 24
CONCURRENCY = 8
#: In blocks of 16 tokens, of modelsim's own count, which is about that of aiperf: a pod keeps about half of the
#: prompts, as with GPUs, so that it matters which it keeps.
BLOCKS = 1200
NOTE = (
    f"{PODS} simulated engines (`modelsim`: an 8B model on a GPU), {CONCURRENCY} requests at once of"
    f" {PREFIX_TOKENS} + {NEW_TOKENS} tokens, {PREFIXES} shared beginnings, {OUTPUT_TOKENS} tokens out; each pod's"
    " cache holds half of the beginnings and is empty at first. vllm-router's cache_aware is not among them: it needs"
    " token ids, which the simulator does not give."
)


class AiperfFailed(Exception):
    """aiperf did not run to its end. `str()` is the end of its log."""


async def measure(envoy_workers: int, requests: int) -> list[dict[str, Any]]:
    """A row for each system: milliseconds, tokens per second, and the share of prompt tokens that caches held.

    Raises:
        AiperfFailed: see there.
    """
    venv = environment("aiperf", "aiperf.txt")
    tokenizer = _tokenizer(venv)
    rows = []
    for name in SYSTEMS:
        engine = EngineConfig(num_blocks=BLOCKS, max_loras=0)
        replicas = [ReplicaConfig(name=f"pod-{number}", model=MODEL, engine=engine) for number in range(PODS)]
        async with await serve(replicas) as fleet, start(name, fleet.addresses, envoy_workers) as system:
            rows.append(await _run(venv, name, system.address, system.token, tokenizer, requests, fleet))
        print(f"tokens of {name} measured", file=sys.stderr)
    return rows


def _tokenizer(venv: Path) -> Path:
    folder = venv / "tokenizer"
    if not folder.exists():
        subprocess.run([venv / "bin" / "python", HERE / "tokenizer.py", folder], check=True)
    return folder


async def _run(
    venv: Path, name: str, address: str, token: str, tokenizer: Path, requests: int, fleet: Fleet
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(venv / "bin" / "aiperf"), "profile", "--model", MODEL, "--url", f"http://{address}",
            "--endpoint-type", "chat", "--streaming", "--tokenizer", str(tokenizer), f"--api-key={token}",
            "--concurrency", str(CONCURRENCY), "--request-count", str(requests), "--random-seed", "1",
            "--num-prefix-prompts", str(PREFIXES), "--prefix-prompt-length", str(PREFIX_TOKENS),
            "--synthetic-input-tokens-mean", str(NEW_TOKENS), "--output-tokens-mean", str(OUTPUT_TOKENS),
            "--extra-inputs", "ignore_eos:true", "--use-server-token-count", "--no-server-metrics",
            "--no-gpu-telemetry", "--ui-type", "none", "--output-artifact-dir", folder,
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder
        )
        output, _ = await process.communicate()
        page = _exported(Path(folder))
        if process.returncode or page is None:
            raise AiperfFailed(f"aiperf, {name}: {output.decode()[-2000:]}")
    engines = [replica.engine for replica in fleet.replicas]
    asked, held = _total(engines, "prefix_queries"), _total(engines, "prefix_hits")
    return {
        "system": name,
        "ttft_p50": page["time_to_first_token"]["p50"],
        "ttft_p90": page["time_to_first_token"]["p90"],
        "ttft_p99": page["time_to_first_token"]["p99"],
        "itl_p50": page["inter_token_latency"]["p50"],
        "tokens_per_second": page["output_token_throughput"]["avg"],
        "requests_per_second": page["request_throughput"]["avg"],
        "requests": page["request_count"]["avg"],
        "cached": held / asked if asked else 0.0,
        "by_pod": [replica.requests_served for replica in fleet.replicas],
    }


def _exported(folder: Path) -> Any:
    """What aiperf has measured; None if it did not get so far."""
    found = sorted(folder.rglob("profile_export_aiperf.json"))
    return json.loads(found[0].read_text(encoding="utf-8")) if found else None


def _total(engines: Sequence[Any], name: str) -> float:
    return float(sum(getattr(engine, name) for engine in engines))
