"""Seeds faults, one at a time, in a copy of the project, and shows that a test sees each: `make faults`.

A fault that no test sees is a rule that is stated and not kept. Each is a line of the source, the line in its place, and
the tests (or the check) that must fail. The copy is in a temporary folder; nothing here is changed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LAYERS = "layers"
TYPES = "types"


class Fault(NamedTuple):
    """`file` with `old` replaced by `new`, once; `seen_by`: paths for pytest, `LAYERS` or `TYPES`."""

    file: str
    old: str
    new: str
    seen_by: str


UNIT = "tests/unit/extproc"
FAULTS = [
    # What is noted of requests, and made true at their end.
    Fault("extproc/outcome/ledger.py", "PATIENCE = 2.0", "PATIENCE = 20.0", f"{UNIT}/outcome/test_ledger.py"),
    Fault("extproc/outcome/ledger.py", "PATIENCE = 2.0", "PATIENCE = 1.0", f"{UNIT}/outcome/test_ledger.py"),
    Fault("extproc/outcome/ledger.py", "waiting.values())).until <= now", "waiting.values())).until < now", f"{UNIT}/outcome/test_ledger.py"),
    Fault("extproc/outcome/ledger.py", "early.values())).until <= now", "early.values())).until < now", f"{UNIT}/outcome/test_ledger.py"),
    Fault("extproc/telemetry/metrics.py", "outcome.attempts > 1", "outcome.attempts > 2", f"{UNIT}/telemetry/test_metrics.py"),
    Fault("extproc/request/flight.py", "is not None and status >= 500", "is not None and status > 500", f"{UNIT}/request/test_flight.py"),
    Fault("extproc/request/flight.py", "elif status >= 500", "elif status > 500", f"{UNIT}/request/test_flight.py"),
    Fault("extproc/request/flight.py", "status is None or status < 500", "status is None or status <= 500", f"{UNIT}/request/test_flight.py"),
    # Bounds.
    Fault("extproc/transport/budget.py", "held <= FREE or", "held < FREE or", f"{UNIT}/transport/test_budget.py"),
    Fault("extproc/transport/budget.py", "or self.total <= self._limit or", "or self.total < self._limit or", f"{UNIT}/transport/test_budget.py"),
    Fault("extproc/transport/budget.py", "if self.total <= self._limit:", "if self.total < self._limit:", f"{UNIT}/transport/test_budget.py"),
    # Several processes as one.
    Fault("extproc/workers/merge.py", 'max(known["in_flight"], row["in_flight"])', 'row["in_flight"]', f"{UNIT}/workers/test_merge.py"),
    Fault("extproc/workers/merge.py", 'max(known["in_flight_tokens"], row["in_flight_tokens"])', 'row["in_flight_tokens"]', f"{UNIT}/workers/test_merge.py"),
    Fault("extproc/workers/merge.py", 'known["in_flight"] = max(', 'known["in_flight"] = min(', f"{UNIT}/workers/test_merge.py"),
    # The session's tables; tests/unit/extproc/protocol/test_states.py seeds each possible one by itself.
    Fault("extproc/protocol/session.py", "(_R.ROUTED, _E.REQUEST_BODY_END): (_R.DONE", "(_R.ROUTED, _E.REQUEST_BODY_END): (_R.ROUTED", f"{UNIT}/protocol/test_states.py"),
    Fault("extproc/protocol/session.py", "        self._head_event = event", "        self.request_state = RequestState.HEAD\n        self._head_event = event", f"{UNIT}/protocol/test_states.py"),
    # A plugin without any affinity.
    Fault("scheduler/plugins/session_affinity.py", "            if session:\n", "            if session and False:\n", "tests/unit/scheduler/plugins/test_session_affinity.py"),
    # Layers.
    Fault("scheduler/types.py", "import numpy as np", "import modelsim\nimport numpy as np", LAYERS),
    Fault("modelsim/engine.py", "import msgspec", "import scheduler\nimport msgspec", LAYERS),
    Fault("extproc/protocol/events.py", "import msgspec", "import modelsim.events\nimport msgspec", LAYERS),
    Fault("scheduler/pool/signals.py", "import msgspec", "import scheduler.pool.store\nimport msgspec", LAYERS),
    Fault("scheduler/pool/columns.py", "import numpy as np", "import socket\nimport numpy as np", LAYERS),
    Fault("extproc/outcome/ledger.py", "from math import inf", "import time\nfrom math import inf", LAYERS),
    Fault("extproc/protocol/events.py", "import msgspec", "from typing import TYPE_CHECKING\nimport msgspec\nif TYPE_CHECKING:\n    from extproc.protocol.session import Session", "tests/unit/house/test_layers.py"),
    # Types of plugins.
    Fault("scheduler/plugins/queue.py", "pods: Snapshot, cycle: Cycle) -> FloatArray", "pods: Snapshot) -> FloatArray", TYPES),
    Fault("scheduler/plugins/least_request.py", "cycle: Cycle) -> FloatArray", "cycle: Cycle) -> list[float]", TYPES),
    Fault("scheduler/plugins/lora_affinity.py", "def keep(self, request: Request, pods: Snapshot", "def keep(self, pods: Snapshot, request: Request", TYPES),
    Fault("scheduler/plugins/prefix_cache.py", "def prepare(self, request: Request, pods: Snapshot, cycle: Cycle)", "def prepare(self, request: Request, pods: Snapshot)", TYPES),
    # Marks, mirror, waiting.
    Fault("extproc/outcome/ledger.py", '# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".\n', "", "tests/unit/house/test_compiled_marks.py"),
    Fault("tests/unit/scheduler/plugins/test_session_affinity.py", "", "", "tests/unit/house/test_mirror.py"),
    Fault("tests/unit/scheduler/plugins/test_queue.py", "import", "import time\ntime.sleep(1)\nimport", "tests/unit/house/test_waiting.py"),
]  # fmt: skip


def seed(copy: Path, fault: Fault) -> str:
    """Puts the fault in; the text that was there before."""
    path = copy / fault.file
    before = path.read_text(encoding="utf-8")
    if not fault.old:
        path.write_text("", encoding="utf-8")  # the whole file is empty
        return before
    if fault.old not in before:
        raise SystemExit(f"{fault.file} has no {fault.old!r} any more: mend the list of faults")
    path.write_text(before.replace(fault.old, fault.new, 1), encoding="utf-8")
    return before


def fails(copy: Path, check: str) -> bool:
    """Whether a check fails: pytest of a path, `LAYERS` or `TYPES`."""
    python = [sys.executable, "-m"]
    command = {
        LAYERS: ["lint-imports", "--no-cache"],
        TYPES: [*python, "mypy"],
    }.get(check, [*python, "pytest", "-q", "-x", "-p", "no:cacheprovider", check])
    if command[0] == "lint-imports":
        command[0] = str(Path(sys.executable).with_name("lint-imports"))
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)
    # pytest: 1 is a test that failed, 2 a file that cannot be read any more.
    return found.returncode in (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only faults whose file has this in its path")
    word = parser.parse_args().word
    unseen = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        left_out = shutil.ignore_patterns(".venv", ".git", "build", "dist", "__pycache__", ".hypothesis", ".venv-*")
        shutil.copytree(ROOT, copy, ignore=left_out)
        wanted = [fault for fault in FAULTS if word in fault.file]
        for check in dict.fromkeys(fault.seen_by for fault in wanted):
            if fails(copy, check):
                raise SystemExit(f"{check} fails without any fault")
        for fault in wanted:
            before = seed(copy, fault)
            seen = fails(copy, fault.seen_by)
            (copy / fault.file).write_text(before, encoding="utf-8")
            unseen += not seen
            first = fault.new.splitlines()[0] if fault.new else "empty"
            print(f"{'seen  ' if seen else 'UNSEEN'} {fault.file}: {first.strip()}  [{fault.seen_by}]", flush=True)
    print(f"{unseen} faults that nothing sees" if unseen else "every fault is seen")
    raise SystemExit(bool(unseen))


if __name__ == "__main__":
    main()
